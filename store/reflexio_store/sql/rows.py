"""Between records, rows and values of the record of turns.

Reading trusts what is stored: values are made without checking them again, which would make reading several times
slower, and one odd row would hide a whole session.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import RowMapping

from reflexio_store.ids import interaction_id
from reflexio_store.models import Citation, Interaction, Request, RetrievedLearning, ToolUsed
from reflexio_store.records import InteractionRecord, TurnRecord

from .json_text import storable_text

_LARGEST = 2**63 - 1
_TEXTS = ("request_id", "user_id", "session_id", "agent_version", "source", "status", "error")
_INTERACTION_TEXTS = (
    *("role", "content", "user_action", "user_action_description"),
    *("interacted_image_url", "image_encoding", "shadow_content", "expert_content"),
)


def request_row(turn: TurnRecord) -> dict[str, Any]:
    """The row of a turn's request."""
    return {
        "user_id": turn.user_id,
        "request_id": turn.request_id,
        "session_id": turn.session_id,
        "created_at_us": turn.created_at_us,
        "source": turn.source,
        "agent_version": turn.agent_version,
        "status": turn.status,
        "error": turn.error,
        "details": turn.metadata or None,
        "options": turn.options or None,
        "retrieval_experiment_id": turn.retrieval_experiment_id,
        "retrieval_experiment_arm": turn.retrieval_experiment_arm,
        "text_indexed": False,
    }


def interaction_rows(turn: TurnRecord) -> list[dict[str, Any]]:
    """The rows of a turn's interactions. Empty lists are stored as NULL."""
    return [
        {
            "user_id": turn.user_id,
            "request_id": turn.request_id,
            "seq": seq,
            "interaction_id": interaction_id(turn.request_id, seq),
            "created_at": item.created_at,
            "role": item.role,
            "content": item.content,
            "user_action": item.user_action,
            "user_action_description": item.user_action_description,
            "interacted_image_url": item.interacted_image_url,
            "image_encoding": item.image_encoding,
            "shadow_content": item.shadow_content,
            "expert_content": item.expert_content,
            "tools_used": item.tools_used or None,
            "citations": item.citations or None,
            "retrieved_learnings": item.retrieved_learnings or None,
        }
        for seq, item in enumerate(turn.interactions)
    ]


def request_value(row: RowMapping) -> Request:
    """The request that a row holds."""
    return Request.model_construct(
        request_id=row["request_id"],
        user_id=row["user_id"],
        created_at=row["created_at_us"] // 1_000_000,
        source=row["source"],
        agent_version=row["agent_version"],
        session_id=row["session_id"],
        evaluation_only=bool((row["options"] or {}).get("evaluation_only")),
        retrieval_experiment_id=row["retrieval_experiment_id"],
        retrieval_experiment_arm=row["retrieval_experiment_arm"],
        status=row["status"],
        error=row["error"],
        metadata=row["details"] or {},
    )


def interaction_value(row: RowMapping) -> Interaction:
    """The interaction that a row holds."""
    values = dict(row)
    del values["seq"]
    values["tools_used"] = [_tool(item) for item in row["tools_used"] or ()]
    values["citations"] = [Citation.model_construct(**item) for item in row["citations"] or ()]
    values["retrieved_learnings"] = [
        RetrievedLearning.model_construct(**item) for item in row["retrieved_learnings"] or ()
    ]
    return Interaction.model_construct(**values)


def _tool(item: dict[str, Any]) -> ToolUsed:
    data = item.get("tool_data")
    return ToolUsed.model_construct(
        tool_name=str(item.get("tool_name", "")),
        tool_data=data if isinstance(data, dict) else {},
        status=str(item.get("status") or "")[:100],
    )


def storable(turn: TurnRecord) -> TurnRecord:
    """The turn with what no database can hold replaced: halves of surrogate pairs, times beyond 64 bits."""
    texts: dict[str, Any] = {name: storable_text(getattr(turn, name)) for name in _TEXTS}
    interactions = [_storable_interaction(item) for item in turn.interactions]
    return replace(turn, **texts, created_at_us=_bounded(turn.created_at_us), interactions=interactions)


def _storable_interaction(item: InteractionRecord) -> InteractionRecord:
    texts: dict[str, Any] = {name: storable_text(getattr(item, name)) for name in _INTERACTION_TEXTS}
    return replace(item, **texts, created_at=_bounded(item.created_at))


def _bounded(number: int) -> int:
    return max(0, min(number, _LARGEST))
