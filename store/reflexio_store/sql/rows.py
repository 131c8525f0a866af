"""Between records, rows and values of the record of turns.

Reading trusts what is stored: values are made without checking them again, which would make reading several times
slower, and one odd row would hide a whole session.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel

from reflexio_store.ids import interaction_id
from reflexio_store.json_text import dumps, storable_json, storable_text
from reflexio_store.models import Citation, Interaction, Request, RetrievedLearning, ToolUsed
from reflexio_store.records import InteractionRecord, TurnRecord

M = TypeVar("M", bound=BaseModel)
_LARGEST = 2**63 - 1
_TEXTS = ("request_id", "user_id", "session_id", "agent_version", "source", "status", "error")
_JSON = ("metadata", "options", "retrieval_experiment_id", "retrieval_experiment_arm")  # or None
_INTERACTION_JSON = ("tools_used", "citations", "retrieved_learnings")
_INTERACTION_TEXTS = (
    *("role", "content", "user_action", "user_action_description"),
    *("interacted_image_url", "image_encoding", "shadow_content", "expert_content"),
)


def request_row(turn: TurnRecord) -> tuple[Any, ...]:
    """The row of a turn's request, in the order of its table's columns; JSON as text."""
    return (
        turn.user_id,
        turn.request_id,
        turn.session_id,
        turn.created_at_us,
        turn.source,
        turn.agent_version,
        turn.status,
        turn.error,
        _json(turn.metadata),
        _json(turn.options),
        turn.retrieval_experiment_id,
        turn.retrieval_experiment_arm,
        False,
    )


def interaction_rows(turn: TurnRecord) -> list[tuple[Any, ...]]:
    """The rows of a turn's interactions, in the order of their table's columns; JSON as text, NULL for nothing."""
    user_id, request_id = turn.user_id, turn.request_id
    first = interaction_id(request_id, 0)
    return [
        (
            user_id,
            request_id,
            seq,
            first | seq,
            item.created_at,
            item.role,
            item.content,
            item.user_action,
            item.user_action_description,
            item.interacted_image_url,
            item.image_encoding,
            item.shadow_content,
            item.expert_content,
            _json(item.tools_used),
            _json(item.citations),
            _json(item.retrieved_learnings),
        )
        for at, item in enumerate(turn.interactions)
        for seq in (at if item.place is None else item.place,)
    ]


def _json(value: Any) -> str | None:
    return dumps(value) if value else None


def request_value(row: Sequence[Any]) -> Request:
    """The request that a row of its table holds."""
    user_id, request_id, session_id, at_us, source, version, status, error, details, options, experiment, arm, _ = row
    return trusted(
        Request,
        request_id=request_id,
        user_id=user_id,
        created_at=at_us // 1_000_000,
        source=source,
        agent_version=version,
        session_id=session_id,
        evaluation_only=bool((options or {}).get("evaluation_only")),
        retrieval_experiment_id=experiment,
        retrieval_experiment_arm=arm,
        status=status,
        error=error,
        metadata=details or {},
    )


def interaction_value(row: Sequence[Any]) -> Interaction:
    """The interaction that a row of its table holds."""
    user_id, request_id, _, number, at, role, content, action, described, url, image, shadow, expert, *lists = row
    tools, citations, retrieved = lists
    return trusted(
        Interaction,
        created_at=at,
        role=role,
        content=content,
        shadow_content=shadow,
        expert_content=expert,
        user_action=action,
        user_action_description=described,
        interacted_image_url=url,
        image_encoding=image,
        tools_used=[_tool(item) for item in tools or ()],
        citations=[Citation.model_construct(**item) for item in citations or ()],
        retrieved_learnings=[RetrievedLearning.model_construct(**item) for item in retrieved or ()],
        interaction_id=number,
        user_id=user_id,
        request_id=request_id,
    )


def _tool(item: dict[str, Any]) -> ToolUsed:
    data = item.get("tool_data")
    return trusted(
        ToolUsed,
        tool_name=str(item.get("tool_name", "")),
        tool_data=data if isinstance(data, dict) else {},
        status=str(item.get("status") or "")[:100],
    )


def trusted(model: type[M], **values: Any) -> M:
    """A value of all its fields, in their order, unchecked: as ``model_construct``, four times as fast.

    Values are frozen, so they may share the set of the fields that were given: all.
    """
    made = model.__new__(model)
    object.__setattr__(made, "__dict__", values)
    object.__setattr__(made, "__pydantic_fields_set__", _all_fields(model))
    object.__setattr__(made, "__pydantic_extra__", None)
    object.__setattr__(made, "__pydantic_private__", None)
    return made


@cache
def _all_fields(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields)


def storable(turn: TurnRecord) -> TurnRecord:
    """The turn with what no database can hold replaced: halves of surrogate pairs, NULs, times beyond 64 bits."""
    interactions = [
        replace(item, **_mended(item, _INTERACTION_TEXTS, _INTERACTION_JSON), created_at=_bounded(item.created_at))
        for item in turn.interactions
    ]
    mended = _mended(turn, _TEXTS, _JSON)
    return replace(turn, **mended, created_at_us=_bounded(turn.created_at_us), interactions=interactions)


def _mended(record: TurnRecord | InteractionRecord, texts: Iterable[str], json: Iterable[str]) -> dict[str, Any]:
    mended: dict[str, Any] = {name: storable_text(getattr(record, name)) for name in texts}
    return mended | {name: storable_json(getattr(record, name)) for name in json}


def _bounded(number: int) -> int:
    return max(0, min(number, _LARGEST))
