"""Which of the learnings shown to a turn its answer cites, by their tags: "An aisle seat, as you prefer [p1]"."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from reflexio_store.records import InteractionRecord

_TAG: Final = re.compile(r"\[([prs][0-9]{1,3})\]")


def note_citations(interactions: Iterable[InteractionRecord], shown: Iterable[Mapping[str, Any]]) -> None:
    """Fill in the ``citations`` of the agent's messages. A tag that two shown learnings have names neither."""
    tagged = [item for item in shown if item.get("tag")]
    often = Counter(item["tag"] for item in tagged)
    by_tag = {item["tag"]: item for item in tagged if often[item["tag"]] == 1}
    for message in interactions if by_tag else ():
        if message.role.lower() == "assistant" and "[" in message.content:
            tags = dict.fromkeys(tag for tag in _TAG.findall(message.content) if tag in by_tag)
            message.citations = [*message.citations, *(_citation(by_tag[tag]) for tag in tags)]


def _citation(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": item["kind"], "real_id": item["learning_id"], "tag": item["tag"], "title": ""}
