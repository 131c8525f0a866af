"""Precision of silence: what is recalled for prompts that fit a learning, and for prompts that fit none.

Part of ``tests/benchmarks/recall.py``. 50 learnings, and for each of them four *paraphrases*, which ask for what it
says in other words (``recall_paraphrases.toml``), and four *inferences*, for which it matters though they hardly say so
(``recall_prompts.toml``). 200 prompts of general knowledge, and 100 of every day (``recall_everyday.txt``), fit none.
Floors were set on the even ones of each, and are to be judged by the odd ones.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from reflexio_middleware import ReflexioClient
from reflexio_middleware.embedding import Embedder
from reflexio_middleware.recall.choose import Recall

_HERE: Final = Path(__file__).parent
_SILENT: Final = 0.95
USER, VERSION = "benchmark", "v1"
COLUMNS: Final = ("paraphrases", "shown", "inferences", "silent", "everyday")


def teach(client: ReflexioClient, learnings: Sequence[Sequence[str]]) -> None:
    """Add the learnings as they would have been learned."""
    for kind, text, *_ in learnings:
        trigger, _, content = text.rpartition(" => ")
        rule = {"agent_version": VERSION, "trigger": trigger, "content": content}
        if kind == "p":
            client.add_user_profile([{"user_id": USER, "content": text}])
        elif kind == "r":
            client.add_user_playbook([{"user_id": USER, **rule}])
        else:
            client.add_agent_playbooks([{**rule, "playbook_status": "approved"}])
    client.flush(120)


class Prompts:
    """The prompts of one half (0: even, 1: odd), with the content of the learning that each should recall."""

    def __init__(self, half: int) -> None:
        said: dict[str, Any] = tomllib.loads((_HERE / "recall_prompts.toml").read_text(encoding="utf-8"))
        others = tomllib.loads((_HERE / "recall_paraphrases.toml").read_text(encoding="utf-8"))
        self.learnings: list[list[str]] = said["learnings"]
        self.inferences = [(prompt, content_of(text)) for _, text, *four in self.learnings for prompt in four[half::2]]
        self.paraphrases = [
            (prompt, content_of(text))
            for _, text, *_ in self.learnings
            for begins, four in others.items()
            if text.startswith(begins)
            for prompt in four[half::2]
        ]
        self.unrelated: list[str] = said["unrelated"][half::2]
        self.everyday = (_HERE / "recall_everyday.txt").read_text(encoding="utf-8").splitlines()[half::2]


def measured(embedder: Embedder | None) -> Iterator[tuple[str, dict[str, float]]]:
    """For either half of the prompts: the shares of paraphrases and of inferences that recall the right learning, how
    many learnings a paraphrase recalls, and the shares of both kinds of unrelated prompts that recall nothing."""
    with ReflexioClient("sqlite://", learning="off", embedder=embedder, recall_timeout=5.0) as client:
        teach(client, Prompts(0).learnings)
        for half, name in enumerate(("even", "odd")):
            prompts = Prompts(half)
            found = [(recalled(client, prompt), content) for prompt, content in prompts.paraphrases]
            inferred = [(recalled(client, prompt), content) for prompt, content in prompts.inferences]
            shares = (
                mean([content in contents for contents, content in found]),
                mean([len(contents) for contents, _ in found]),
                mean([content in contents for contents, content in inferred]),
                mean([not recalled(client, prompt) for prompt in prompts.unrelated]),
                mean([not recalled(client, prompt) for prompt in prompts.everyday]),
            )
            yield name, dict(zip(COLUMNS, shares, strict=True))


def fitted(embedder: Embedder) -> Iterator[str]:
    """On the even prompts, for some weights of the coverage beside the cosine: the lowest floor that keeps 0.95 of both
    kinds of unrelated prompts silent, and the share of paraphrases whose right learning is above it."""
    prompts = Prompts(0)
    with ReflexioClient(
        "sqlite://", learning="off", embedder=embedder, recall_timeout=5.0, embedding_floor=1e-6
    ) as client:
        teach(client, prompts.learnings)
        right = [_numbers(client, prompt, content) for prompt, content in prompts.paraphrases]
        wrong = [[_numbers(client, prompt) for prompt in some] for some in (prompts.unrelated, prompts.everyday)]
    for weight in (0.0, 0.1, 0.2, 0.25, 0.3, 0.5):
        floor = max(_quantile([_best(item, weight) for item in some]) for some in wrong)
        found = mean([_best(item, weight) > floor for item in right])
        yield f"weight {weight:.2f}, floor {floor:.3f}: {found:.2f}"


def _numbers(client: ReflexioClient, prompt: str, content: str | None = None) -> list[tuple[float, float]]:
    """Cosine and coverage of each learning, or of the one with that content."""
    found = client.recall(prompt, user_id=USER, agent_version=VERSION, top_k=50, token_budget=100_000)
    chosen = [item for item in found.chosen if content in (None, item.learning.content)]
    return [(item.similarity or 0.0, item.coverage or 0.0) for item in chosen]


def _best(numbers: Sequence[tuple[float, float]], weight: float) -> float:
    return max((cosine + weight * coverage for cosine, coverage in numbers), default=0.0)


def _quantile(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(_SILENT * len(values)))]


def recalled(client: ReflexioClient, prompt: str) -> list[str]:
    """What the learnings that a prompt recalls say."""
    found: Recall = client.recall(prompt, user_id=USER, agent_version=VERSION, top_k=5)
    return [item.content for item in found.learnings]


def content_of(text: str) -> str:
    """What a learning says, without its trigger."""
    return text.rpartition(" => ")[2]


def mean(values: Sequence[float]) -> float:
    """Their mean; 0 for none."""
    return sum(values) / max(1, len(values))
