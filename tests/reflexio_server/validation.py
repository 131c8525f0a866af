"""What the server refuses with 422, and what it drops with a warning. The input is repeated in whole, as measured."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

_SOURCE = re.compile(r"^[a-z0-9][a-z0-9._:-]{0,127}$")
_INTERACTION = {
    *("created_at", "role", "content", "shadow_content", "expert_content", "user_action", "user_action_description"),
    *("interacted_image_url", "image_encoding", "tools_used", "citations", "retrieved_learnings"),
}
_BOUNDS = {"role": 1000, "content": 1_000_000, "shadow_content": 1_000_000, "expert_content": 1_000_000,
           "user_action_description": 10_000, "interacted_image_url": 2048, "image_encoding": 15_000_000}  # fmt: skip


class RefusedError(Exception):
    """An error answer."""

    def __init__(self, status: int, body: dict[str, Any] | str, headers: dict[str, str] | None = None) -> None:
        self.status, self.body, self.headers = status, body, headers or {}
        super().__init__(str(body)[:200])


def invalid(kind: str, loc: list[Any], message: str, given: Any) -> RefusedError:
    """A 422 as the server words it."""
    return RefusedError(422, {"detail": [{"type": kind, "loc": loc, "msg": message, "input": given}]})


def text(body: dict[str, Any], name: str, *, required: bool = False, most: int | None = None) -> str | None:
    """A text field; not blank where it is required."""
    value = body.get(name)
    if value is None:
        if required:
            raise invalid("missing", ["body", name], "Field required", body)
        return None
    if not isinstance(value, str):
        raise invalid("string_type", ["body", name], "Input should be a valid string", value)
    if required and not value.strip():
        raise invalid("value_error", ["body", name], "Value error, must not be empty", value)
    if most is not None and len(value) > most:
        raise invalid("string_too_long", ["body", name], f"String should have at most {most} characters", value)
    return value


def number(body: dict[str, Any], name: str, default: int | None, *, least: int = 1, most: int | None = None) -> Any:
    """A whole number of at least ``least``."""
    value = body.get(name, default)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise invalid("int_parsing", ["body", name], "Input should be a valid integer", value)
    if value is not None and (value < least or (most is not None and value > most)):
        raise invalid("greater_than", ["body", name], f"Input should be from {least} to {most}", value)
    return value


def listed(body: dict[str, Any], name: str, most: int) -> list[Any]:
    """A list of one to so many."""
    value = body.get(name)
    if not isinstance(value, list):
        raise invalid("missing", ["body", name], "Field required", body)
    if not 1 <= len(value) <= most:
        kind = "too_short" if not value else "too_long"
        raise invalid(kind, ["body", name], f"List should have 1 to {most} items", value)
    return value


def source(body: dict[str, Any], name: str = "source") -> str | None:
    """A source: empty, or of its pattern."""
    value = text(body, name)
    if value and not _SOURCE.match(value):
        raise invalid("string_pattern_mismatch", ["body", name, "constrained-str"], "String should match", value)
    return value


def window(body: dict[str, Any]) -> tuple[int | None, int | None]:
    """Both ends in whole epoch seconds. Without a zone a time is local; one of each is a 500, as measured."""
    moments: list[datetime | None] = []
    for name in ("start_time", "end_time"):
        value = body.get(name)
        moments.append(None if value is None else datetime.fromisoformat(str(value)))
    start, end = moments
    if start and end:
        if (start.tzinfo is None) != (end.tzinfo is None):
            raise RefusedError(500, "Internal Server Error")
        if end <= start:
            raise invalid("value_error", ["body"], "Value error, end_time must be after start_time", body)
    return tuple(None if item is None else int(item.timestamp()) for item in (start, end))  # type: ignore[return-value]


def publish(body: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The checked publish with its interactions, and the warnings."""
    for name in ("user_id", "session_id"):
        text(body, name, required=True)
    text(body, "request_id", required="request_id" in body and body["request_id"] is not None)
    text(body, "agent_version", most=1000)
    source(body)
    rows = listed(body, "interaction_data_list", 1000)
    if body.get("evaluation_only") and body.get("force_extraction"):
        raise invalid("value_error", ["body"], "Value error, evaluation_only and force_extraction", body)
    if (body.get("retrieval_experiment_id") is None) != (body.get("retrieval_experiment_arm") is None):
        raise invalid("value_error", ["body"], "Value error, experiment id and arm go together", body)
    warnings: list[str] = []
    kept = []
    for index, row in enumerate(rows):
        item = _interaction(index, row, warnings)
        if _says_something(item):
            kept.append(item)
        else:
            warnings.append(f"interaction {index} is empty and was dropped")
    if not kept:
        raise invalid("value_error", ["body"], "Value error, every interaction is empty", body)
    if sum(len(item.get("retrieved_learnings") or ()) for item in kept) > 1000:
        raise invalid("value_error", ["body"], "Value error, too many retrieved_learnings", body)
    return {**body, "interaction_data_list": kept}, warnings


def _interaction(index: int, row: Any, warnings: list[str]) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise invalid("model_type", ["body", "interaction_data_list", index], "Input should be a dictionary", row)
    unknown = sorted(set(row) - _INTERACTION - {"user_id", "session_id"})
    if unknown:
        warnings.append(f"interaction {index}: unknown fields {unknown[:5]}")
    item = {name: value for name, value in row.items() if name in _INTERACTION}
    for name, most in _BOUNDS.items():
        text(item, name, most=most)
    for name in ("tools_used", "citations", "retrieved_learnings"):
        if len(item.get(name) or ()) > 1000:
            raise invalid("too_long", ["body", "interaction_data_list", index, name], "at most 1000", None)
    if item.get("user_action", "none") not in ("none", "click", "scroll", "type"):
        raise invalid("enum", ["body", "interaction_data_list", index, "user_action"], "Input should be", row)
    if item.get("user_action", "none") != "none" and not item.get("user_action_description"):
        raise invalid("value_error", ["body"], "Value error, user_action_description is required", row)
    if item.get("interacted_image_url") and item.get("image_encoding"):
        raise invalid("value_error", ["body"], "Value error, one image", row)
    created_at = number(item, "created_at", int(datetime.now(UTC).timestamp()), least=-(2**62))
    item["created_at"] = created_at // 1000 if created_at > 100_000_000_000 else max(created_at, 0)
    item["role"] = item.get("role") or "User"
    return item


def _says_something(item: dict[str, Any]) -> bool:
    texts = ("content", "shadow_content", "expert_content", "interacted_image_url", "image_encoding")
    lists = ("tools_used", "citations", "retrieved_learnings")
    return bool(
        any((item.get(name) or "").strip() for name in texts)
        or any(item.get(name) for name in lists)
        or item.get("user_action", "none") != "none"
    )
