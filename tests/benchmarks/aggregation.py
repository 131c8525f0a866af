"""What it costs to look for agreement among the rules of many users.

``python tests/benchmarks/aggregation.py [USERS]``: 4 rules of each user, of 300 that there are; first, then again with
nothing changed, then after one user said something else. Processor time, and the statements that the database took.
"""

from __future__ import annotations

import platform
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing

from sqlalchemy import Engine, event

from reflexio_middleware.learning.aggregate import Aggregate
from reflexio_store.contract import Store
from reflexio_store.homes import open_store
from reflexio_store.models import Evidence, UserPlaybook, UserProfile
from reflexio_store.records import InteractionRecord, TurnRecord

EACH, RULES, AT_ONCE = 4, 300, 250
FIRST = ("sor", "mel", "tan", "vik", "pol", "gar", "nem", "hus", "wer", "fal")
LAST = ("ado", "ent", "ist", "urn", "ock", "ave", "ill", "osh", "emp", "and")


def main() -> None:
    """Fill a home, and print what each look takes."""
    users = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    choose = random.Random(1)
    rules = _rules(choose)
    asked: list[int] = [0]
    event.listen(Engine, "before_cursor_execute", lambda *_: asked.__setitem__(0, asked[0] + 1))
    print(f"{platform.machine()}, Python {platform.python_version()}; {users:,} users, {users * EACH:,} rules")
    print(f"{'look':<24}{'CPU ms':>8}{'statements':>12}  what came of it")
    with tempfile.TemporaryDirectory() as folder, closing(open_store(f"sqlite:///{folder}/m.db")) as store:
        for start in range(0, users, AT_ONCE):
            _learned(store, range(start, min(users, start + AT_ONCE)), rules, choose)
        _look(store, "first", asked)
        for _ in range(3):
            _look(store, "nothing changed", asked)
        store.add_learnings([_rule(0, "a new case", "Say hello.")])
        _look(store, "one rule more", asked)


def _rules(choose: random.Random) -> list[tuple[str, str]]:
    words = [first + last for first in FIRST for last in LAST]
    return [
        ("a " + " ".join(choose.sample(words, 2)), f"Check the {' '.join(choose.sample(words, 4))}.")
        for _ in range(RULES)
    ]


def _learned(store: Store, users: range, rules: Sequence[tuple[str, str]], choose: random.Random) -> None:
    said = [InteractionRecord("User", "words", 1)]
    turns = [TurnRecord(f"r{n}", f"u{n:06}", "s", "v1", "", 1_700_000_000_000_000 + n, list(said)) for n in users]
    store.add_turns(turns, learn_after=None)
    playbooks = [_rule(n, *rule) for n in users for rule in choose.sample(rules, EACH)]
    profiles = [UserProfile(user_id=f"u{n:06}", content=f"Name is Person{n}.", evidence=_of(n)) for n in users]
    store.add_learnings([*playbooks, *profiles])


def _rule(number: int, trigger: str, content: str) -> UserPlaybook:
    return UserPlaybook(
        user_id=f"u{number:06}", agent_version="v1", trigger=trigger, content=content, evidence=_of(number)
    )


def _of(number: int) -> list[Evidence]:
    return [Evidence(request_id=f"r{number}")]


def _look(store: Store, name: str, asked: list[int]) -> None:
    asked[0], began = 0, time.process_time()
    done = Aggregate().run(store, "v1")
    took = 1000 * (time.process_time() - began)
    print(f"{name:<24}{took:8.0f}{asked[0]:12}  {done}")


if __name__ == "__main__":
    main()
