"""Precision of silence: what is recalled for prompts that fit a learning, and for prompts that fit none.

Part of ``tests/benchmarks/recall.py``. The 200 paraphrases and 200 unrelated prompts are in ``recall_prompts.toml``;
floors were set on the even ones and are to be judged by the odd ones.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from reflexio_middleware import ReflexioClient
from reflexio_middleware.embedding import Embedder

_PROMPTS: Final = Path(__file__).with_name("recall_prompts.toml")
USER, VERSION = "benchmark", "v1"


def teach(client: ReflexioClient, learnings: list[list[str]]) -> None:
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


def measured(embedder: Embedder | None, *, top_k: int = 5) -> Iterator[tuple[str, dict[str, float]]]:
    """For either half of the prompts: shares of paraphrases that recall the right learning (first, and at all), and of
    unrelated prompts that recall nothing."""
    prompts: dict[str, Any] = tomllib.loads(_PROMPTS.read_text(encoding="utf-8"))
    with ReflexioClient("sqlite://", learning="off", embedder=embedder, recall_timeout=5.0) as client:
        teach(client, prompts["learnings"])
        for half in (0, 1):
            right, several, silent = 0, 0, 0
            asked = [(text, prompt) for _, text, *said in prompts["learnings"] for prompt in said[half::2]]
            for text, prompt in asked:
                found = client.recall(prompt, user_id=USER, agent_version=VERSION, top_k=top_k).learnings
                contents = [item.content for item in found]
                right += text.rpartition(" => ")[2] in contents
                several += len(contents)
            unrelated = prompts["unrelated"][half::2]
            for prompt in unrelated:
                silent += not client.recall(prompt, user_id=USER, agent_version=VERSION, top_k=top_k)
            yield (
                "even" if half == 0 else "odd",
                {
                    "right": right / len(asked),
                    "shown": several / len(asked),
                    "silent": silent / len(unrelated),
                },
            )
