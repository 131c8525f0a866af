"""How sessions ended, as reported, and what the learnings that were shown in them had to do with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field, StringConstraints, field_validator

from reflexio_store.json_text import storable_json

from .interactions import Value
from .publish import NonBlank

Outcome = Literal["success", "failure", "unknown"]
Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=128)]
_MAX_METADATA = 16 * 1024  # bytes (wire fact)


class SessionOutcome(Value):
    """How a session ended. ``occurred_at`` and ``created_at`` are in epoch seconds; ``source`` is that of the session's
    first request. ``value`` is any measure of yours (a price, a rating); ``metadata`` at most 16 KiB of JSON."""

    session_id: NonBlank
    outcome: Outcome
    occurred_at: int = Field(ge=0)
    user_id: str = ""
    source: str = ""
    label: Label | None = None
    value: float | None = Field(default=None, allow_inf_nan=False)
    metadata: dict[str, Any] | None = None
    created_at: int = Field(default=0, ge=0)

    @field_validator("metadata")
    @classmethod
    def _bounded(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        try:
            size = len(orjson.dumps(storable_json(value)))
        except TypeError as error:
            raise ValueError("must be JSON") from error
        if size > _MAX_METADATA:
            raise ValueError(f"must be at most {_MAX_METADATA} bytes of JSON")
        return value


class SetSessionOutcomeResponse(Value):
    """Answer of ``mark_session_outcome``. ``recorded`` is False for an exact repetition; ``reason`` says why nothing
    was recorded: ``unknown_session``, or ``conflicting_outcome`` (the first report stands)."""

    success: bool
    recorded: bool = False
    reason: Literal["unknown_session", "conflicting_outcome"] | None = None
    message: str = ""
    user_id: str | None = None
    source: str | None = None


class GetSessionOutcomesRequest(Value):
    """Every filter that is given must hold; times are epoch seconds, both inclusive, and mean ``occurred_at``."""

    session_ids: list[NonBlank] | None = Field(default=None, max_length=100)
    user_id: str | None = None
    source: str | None = None
    outcome: Outcome | None = None
    label: str | None = None
    start_time: int | None = Field(default=None, ge=0)
    end_time: int | None = Field(default=None, ge=0)
    top_k: int = Field(default=100, ge=1, le=1000)
    offset: int = Field(default=0, ge=0)


class GetSessionOutcomesResponse(Value):
    """Answer of ``get_session_outcomes``: the latest first."""

    success: bool = True
    session_outcomes: list[SessionOutcome] = Field(default_factory=list)
    message: str = ""


@dataclass(frozen=True, slots=True)
class Use:
    """What became of a learning in use, counted in turns: how often it was ``shown`` in a prompt and ``cited`` by the
    answer, and how many of the turns it was shown to belong to sessions reported as a success or a failure."""

    shown: int = 0
    cited: int = 0
    succeeded: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class ArmResult:
    """How the sessions of one user in one arm of an experiment ended; ``sessions`` counts those without report, too."""

    arm: Literal["treatment", "holdout"]
    sessions: int = 0
    succeeded: int = 0
    failed: int = 0
