"""What is recalled from a small, a usual and a large memory of one user: do they behave alike?

Part of ``tests/benchmarks/recall.py``. 6, 40 or 200 learnings, and 200 requests in other words, 60 that need inference
and 200 that have nothing to do with any (``recall_unseen.toml``).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from recall_silence import content_of, mean, recalled, teach

from reflexio_middleware import ReflexioClient
from reflexio_middleware.embedding import Embedder

SIZES: Final = (6, 40, 200)
COLUMNS: Final = ("related", "of those shown", "inferences", "everyday", "knowledge")
_SMALL: Final = (0, 1, 5, 25, 27, 30)  # of the 40, facts and rules
_EVERYDAY: Final = 100  # of what is unrelated, the first


def measured(embedder: Embedder | None, size: int) -> dict[str, float]:
    """The share of related prompts that recall the right learning, the share of right ones of all that these show, the
    share of inferences, and the shares of both kinds of unrelated prompts that recall nothing."""
    said: dict[str, Any] = tomllib.loads((Path(__file__).parent / "recall_unseen.toml").read_text(encoding="utf-8"))
    learnings: list[list[str]] = said["learnings"] + (said["others"] if size > len(said["learnings"]) else [])
    learnings = [learnings[at] for at in _SMALL] if size == len(_SMALL) else learnings
    asked = [(prompt, content_of(text)) for _, text, *five in learnings for prompt in five]
    contents = {content for _, content in asked}
    inferred = [(prompt, content) for content, prompt in said["inferences"] if content in contents]
    with ReflexioClient("sqlite://", learning="off", embedder=embedder, recall_timeout=30.0) as client:
        teach(client, [learning[:2] for learning in learnings])
        found = list(_found(client, asked))
        guessed = list(_found(client, inferred))
        silent = [not recalled(client, prompt) for prompt in said["unrelated"]]
    right = [content in shown for shown, content in found]
    shares = (
        mean(right),
        sum(right) / max(1, sum(len(shown) for shown, _ in found)),
        mean([content in shown for shown, content in guessed]),
        mean(silent[:_EVERYDAY]),
        mean(silent[_EVERYDAY:]),
    )
    return dict(zip(COLUMNS, shares, strict=True))


def _found(client: ReflexioClient, asked: Sequence[tuple[str, str]]) -> Iterator[tuple[list[str], str]]:
    for prompt, content in asked:
        yield recalled(client, prompt), content
