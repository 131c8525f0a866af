"""What travels from capture through the spool into a home: plain, slotted values, cheap to make and to encode.

They are not validated here: whoever makes one (capture, publish, import) does that before.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from operator import attrgetter
from typing import Any, Final

MAX_INTERACTIONS: Final = 1000
"""Most interactions in one request (wire fact: ``interaction_data_list`` holds 1 to 1000)."""
MAX_CONTENT: Final = 1_000_000
"""Most characters in ``content``, ``shadow_content`` and ``expert_content`` (wire fact)."""


@dataclass(slots=True)
class InteractionRecord:
    """One message of a turn. ``created_at`` is in epoch seconds; the lists hold JSON-ready dictionaries.

    ``place`` is its place in the turn (from 0); None: that in the list. They differ once a message was deleted.
    """

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
    place: int | None = None

    def to_json(self) -> dict[str, Any]:
        """It as a JSON object, without the fields that hold their default."""
        return {"role": self.role, "content": self.content, "created_at": self.created_at, **_REST_OF_ITEM.told(self)}


@dataclass(slots=True)
class TurnRecord:
    """One finished turn: a request with its interactions. ``created_at_us`` is in epoch microseconds.

    ``user_id`` is ``""`` when nobody is known: such a turn is kept, and nothing personal is learned from it.
    ``options`` holds the flags that steer learning (``force_extraction``, ``evaluation_only``, ...), only where true.
    ``unread`` is set where a turn moves: the extractors that have still to read it (``""``: any), and whether at once.
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
    unread: dict[str, bool] = field(default_factory=dict, compare=False)

    def to_json(self) -> dict[str, Any]:
        """It as a JSON object, without the fields that hold their default."""
        return {
            "request_id": self.request_id,
            "user_id": self.user_id,
            "session_id": self.session_id,
            "agent_version": self.agent_version,
            "source": self.source,
            "created_at_us": self.created_at_us,
            "interactions": [item.to_json() for item in self.interactions],
            **_REST_OF_TURN.told(self),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TurnRecord:
        """The record that ``data`` (a decoded JSON object) describes; what is left out has its default, an unknown
        key is an error of the writer."""
        values = dict(data)
        values["interactions"] = [InteractionRecord(**item) for item in data["interactions"]]
        return cls(**values)


class _Rest:
    """The fields behind the first ones of a record: mostly they hold their defaults."""

    def __init__(self, record: type[InteractionRecord | TurnRecord], first: int) -> None:
        rest = {each.name: each for each in fields(record)[first:]}
        self._names = tuple(rest)
        self._values = attrgetter(*rest)
        self._defaults = tuple(
            each.default if each.default_factory is MISSING else each.default_factory() for each in rest.values()
        )

    def told(self, record: InteractionRecord | TurnRecord) -> dict[str, Any]:
        """Those that hold something else."""
        values = self._values(record)
        if values == self._defaults:
            return {}
        told = zip(self._names, values, self._defaults, strict=True)
        return {name: value for name, value, default in told if value != default}


_REST_OF_ITEM: Final = _Rest(InteractionRecord, 3)
_REST_OF_TURN: Final = _Rest(TurnRecord, 7)
