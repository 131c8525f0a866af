"""LoCoMo's retrieval task, through the public search for messages: part of ``tests/benchmarks/recall.py``.

Per question the share of its evidence turns among the best k, and the mean over all questions that name evidence, as
in Maharana et al. 2024, table 3. The data are CC BY-NC 4.0 and stay where they are.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from reflexio_store.contract import Store
from reflexio_store.models import Interaction, SearchInteractionRequest
from reflexio_store.records import InteractionRecord, TurnRecord

CATEGORIES: Final = {1: "multi-hop", 2: "temporal", 3: "open", 4: "single-hop", 5: "adversarial"}
DEPTHS: Final = (5, 10, 25, 50)
Search = Callable[[SearchInteractionRequest], list[Interaction]]


@dataclass(frozen=True, slots=True)
class Answered:
    """One question: its category, which half of the conversations it is from, and its recall at each depth."""

    category: str
    half: int
    recalls: dict[int, float]


def read(path: Path) -> list[dict[str, Any]]:
    """The conversations of a file in LoCoMo's own form."""
    return json.loads(path.read_text(encoding="utf-8"))


def store_conversation(store: Store, user_id: str, sample: dict[str, Any]) -> dict[tuple[str, int], str]:
    """Store a conversation as turns of two messages; LoCoMo's name of each message, by request and place."""
    names: dict[tuple[str, int], str] = {}
    turns = []
    for number, date, messages in _sessions(sample["conversation"]):
        for at in range(0, len(messages), 2):
            pair = messages[at : at + 2]
            request_id = f"{user_id}-{number:03}-{at:04}"
            spoken = [InteractionRecord("User", _said(message), date) for message in pair]
            turns.append(
                TurnRecord(request_id, user_id, f"{user_id}-{number}", "v1", "", (date + at) * 1_000_000, spoken)
            )
            names |= {(request_id, place): message["dia_id"] for place, message in enumerate(pair)}
    store.add_turns(turns, learn_after=None)
    return names


def answers(search: Search, store: Store, samples: Sequence[dict[str, Any]]) -> Iterator[Answered]:
    """Ask all questions of all conversations, once they are stored."""
    for index, sample in enumerate(samples):
        user_id = f"locomo-{sample['sample_id']}"
        names = store_conversation(store, user_id, sample)
        for question in sample["qa"]:
            evidence = question["evidence"]
            if evidence:
                query = SearchInteractionRequest(user_id=user_id, query=question["question"], top_k=max(DEPTHS))
                found = search(query)
                places = [names[item.request_id, item.interaction_id & 0x3FF] for item in found]
                recalls = {k: sum(name in places[:k] for name in evidence) / len(evidence) for k in DEPTHS}
                yield Answered(CATEGORIES[question["category"]], index % 2, recalls)


def table(answered: Sequence[Answered]) -> Iterator[str]:
    """Recall by category, overall, and of either half of the conversations."""
    groups: dict[str, list[Answered]] = defaultdict(list)
    for item in answered:
        for name in (item.category, "all", f"all, half {item.half + 1}"):
            groups[name].append(item)
    yield f"{'questions':<16}{'n':>6}" + "".join(f"{f'R@{k}':>8}" for k in DEPTHS)
    for name in (*CATEGORIES.values(), "all", "all, half 1", "all, half 2"):
        found = groups[name]
        means = [sum(item.recalls[k] for item in found) / max(1, len(found)) for k in DEPTHS]
        yield f"{name:<16}{len(found):>6}" + "".join(f"{mean:>8.3f}" for mean in means)


def _sessions(conversation: dict[str, Any]) -> Iterator[tuple[int, int, list[dict[str, Any]]]]:
    number = 1
    while f"session_{number}" in conversation:
        said = conversation[f"session_{number}_date_time"]
        date = datetime.strptime(said, "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)
        yield number, int(date.timestamp()), conversation[f"session_{number}"]
        number += 1


def _said(message: dict[str, Any]) -> str:
    """A message as LoCoMo's own retrieval has it: who says what, and what a shared picture shows."""
    caption = message.get("blip_caption")
    return f"{message['speaker']}: {message['text']}" + (f" [shares {caption}]" if caption else "")
