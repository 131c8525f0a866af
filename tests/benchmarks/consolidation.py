"""Whether learnings accumulate: 1,000 sessions restate the same 20 facts in varying words, and some change their mind.

``python tests/benchmarks/consolidation.py [SESSIONS]``: through the client, with the statements extractor.
"""

from __future__ import annotations

import platform
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import reflexio_middleware as reflexio
from reflexio_store.models import LearningQuery, Status

FACTS = (
    ("My name is Ada.", "I'm called Ada.", "People call me Ada.", "By the way, my name is Ada."),
    ("I live in Porto.", "I'm based in Porto.", "I live in Porto now.", "I currently live in Porto."),
    ("I work for Initech.", "I'm employed at Initech.", "I work at Initech.", "I currently work for Initech."),
    ("I'm a nurse.", "I am a nurse by the way.", "I work as a nurse.", "I'm actually a nurse."),
    ("I'm vegetarian.", "I am a vegetarian.", "I've been vegetarian for years.", "I'm strictly vegetarian."),
    ("I'm allergic to peanuts.", "I have an allergy to peanuts.", "I am severely allergic to peanuts."),
    ("I like jazz.", "I love jazz.", "I really enjoy jazz.", "I like jazz a lot."),
    ("I don't like olives.", "I hate olives.", "I dislike olives.", "I can't stand olives."),
    ("I prefer window seats.", "I always prefer window seats.", "I generally prefer window seats."),
    ("My favourite colour is green.", "My favorite color is green.", "Green is my favourite colour."),
    ("I have a dog called Rex.", "We have a dog called Rex.", "I have a dog named Rex."),
    ("I speak Portuguese.", "I can speak Portuguese.", "I also speak Portuguese."),
    ("My time zone is UTC+1.", "I'm in the UTC+1 time zone."),
    ("I drive a red Volvo.", "I drive a red Volvo these days.", "By the way, I drive a red Volvo."),
    ("I'm 42 years old.", "I am 42 years old.", "I just turned 42."),
    ("I have two kids.", "We have two kids.", "I have got two kids."),
    ("Please answer in English.", "From now on answer in English.", "Always answer in English."),
    ("Never use emojis.", "Please never use emojis.", "Don't use emojis from now on."),
    ("Always cite your sources.", "Please always cite your sources.", "From now on, always cite your sources."),
    ("I use Linux.", "I'm using Linux.", "I use Linux at the moment.", "I mostly use Linux."),
)


def main() -> None:
    """Print what is left, and what it cost."""
    sessions = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    choose = random.Random(20)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "memory.db"
        with reflexio.ReflexioClient(f"sqlite:///{path}", flush_timeout=600.0) as client:
            took = [_session(client, choose, number) for number in range(sessions)]
            _report(client, sessions, took, path.stat().st_size)


def _session(client: reflexio.ReflexioClient, choose: random.Random, number: int) -> float:
    facts = choose.sample(FACTS, 5)
    said = [{"role": "User", "content": choose.choice(fact)} for fact in facts]
    began = time.perf_counter()
    client.publish_interaction("ada", said, session_id=f"s{number}", wait_for_response=True)
    return time.perf_counter() - began


def _report(client: reflexio.ReflexioClient, sessions: int, took: list[float], size: int) -> None:
    print(f"{platform.platform()}, Python {platform.python_version()}\n")
    total = 0
    for kind in ("profile", "user_playbook"):
        current = client.store.get_learnings(kind, LearningQuery(user_id="ada"))
        every = client.store.get_learnings(kind, LearningQuery(user_id="ada", status_filter=[None, *Status]))
        total += len(current)
        print(f"{kind}: {len(current)} current, {len(every)} rows with what was merged or superseded")
        for item in sorted(item.content for item in current):
            print(f"  {item}")
    first, last = took[: len(took) // 10 or 1], took[-(len(took) // 10 or 1) :]
    print(f"\n{sessions} sessions of 5 statements out of {len(FACTS)} facts: {total} learnings (30 at most)")
    print(f"a session, learned: first tenth {statistics.median(first) * 1e3:.1f} ms, last tenth "
          f"{statistics.median(last) * 1e3:.1f} ms (medians); {size / 1e6:.1f} MB")  # fmt: skip
    assert total <= 30, "too many learnings are left"


if __name__ == "__main__":
    main()
