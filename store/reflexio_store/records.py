"""What travels from capture through the spool into a home: plain, slotted values, cheap to make and to encode.

They are not validated here: whoever makes one (capture, publish, import) does that before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

MAX_INTERACTIONS: Final = 1000
"""Most interactions in one request (wire fact: ``interaction_data_list`` holds 1 to 1000)."""
MAX_CONTENT: Final = 1_000_000
"""Most characters in ``content``, ``shadow_content`` and ``expert_content`` (wire fact)."""


@dataclass(slots=True)
class InteractionRecord:
    """One message of a turn. ``created_at`` is in epoch seconds; the lists hold JSON-ready dictionaries."""

    role: str
    content: str = ""
    created_at: int = 0
    tools_used: list[dict[str, Any]] = field(default_factory=list)
    retrieved_learnings: list[dict[str, Any]] = field(default_factory=list)
    citations: list[dict[str, Any]] = field(default_factory=list)
    user_action: str = "none"
    user_action_description: str = ""
    interacted_image_url: str = ""
    image_encoding: str = ""
    shadow_content: str = ""
    expert_content: str = ""


@dataclass(slots=True)
class TurnRecord:
    """One finished turn: a request with its interactions. ``created_at_us`` is in epoch microseconds.

    ``user_id`` is ``""`` when nobody is known: such a turn is kept, and nothing personal is learned from it.
    ``options`` holds the flags that steer learning (``force_extraction``, ``evaluation_only``, ...), only where true.
    """

    request_id: str
    user_id: str
    session_id: str
    agent_version: str
    source: str
    created_at_us: int
    interactions: list[InteractionRecord]
    status: str = "completed"
    error: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    retrieval_experiment_id: str | None = None
    retrieval_experiment_arm: str | None = None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TurnRecord:
        """The record that ``data`` (a decoded JSON object) describes; unknown keys are an error of the writer."""
        values = dict(data)
        values["interactions"] = [InteractionRecord(**item) for item in data["interactions"]]
        return cls(**values)
