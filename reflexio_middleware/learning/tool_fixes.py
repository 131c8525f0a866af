"""A tool call that failed, and the changed call of the same tool that then worked, as a playbook."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from reflexio_store.models import ToolUsed

from .grammar import Grammar
from .turns import Message

_ERROR: Final = re.compile(r"\s*(?:\w*(?:error|exception|traceback)\b|failed:|failure:)", re.IGNORECASE)
_PASSING: Final = re.compile(
    r"timed[ -]?out|time-?out(?! (?:must|should|has to|is not|is no|cannot))|rate.?limit|too many requests"
    r"|\b(?:429|50[234])\b|unavailable|overloaded|busy|connection (?:refused|reset|error|aborted)"
    r"|network (?:error|failure|is)|try again",
    re.IGNORECASE,
)
"""Trouble of the moment: no argument was wrong."""
_IDENTIFIER: Final = re.compile(r"(?:^|_)(?:id|ids|uuid|key|token|secret|password|email|phone|name|user|number)$|Id$")
_CODE: Final = re.compile(r"\b(?=[\w-]*\d)(?=[\w-]*[A-Za-z_])[\w-]{6,}\b|\b\d{5,}\b|[\w.+-]+@[\w.-]+")
_MAX_VALUE: Final = 80
_MAX_ERROR: Final = 120
_MAX_CALLS: Final = 6


@dataclass(frozen=True, slots=True)
class ToolFix:
    """What to do differently when calling ``tool``, learned from the messages ``failed`` and ``worked``."""

    tool: str
    content: str
    failed: Message
    worked: Message


@dataclass(frozen=True, slots=True)
class _Call:
    message: Message
    tool: ToolUsed
    number: int


def find_tool_fixes(messages: list[Message], grammar: Grammar) -> Iterator[ToolFix]:
    """The repaired tool calls of a session, in order. A call counts as a repair of a failed one of the same tool
    when it comes within six calls, before the user asks for something else."""
    failed: dict[str, _Call] = {}
    number = 0
    for message in messages:
        if message.by_user:
            failed.clear()  # a new request: what changes now, changes for the user's sake
        for tool in message.interaction.tools_used:
            number += 1
            if has_failed(tool):
                failed[tool.tool_name] = _Call(message, tool, number)
                continue
            before = failed.pop(tool.tool_name, None)
            if before is None or number - before.number > _MAX_CALLS:
                continue
            content = _content(before.tool, tool, grammar)
            if content:
                yield ToolFix(tool.tool_name, content, before.message, message)


def has_failed(tool: ToolUsed) -> bool:
    """Whether a call went wrong, by its status or by what it returned."""
    if tool.status.lower() in ("error", "failed", "failure"):
        return True
    output = _decoded(tool.tool_data.get("output"))
    if isinstance(output, Mapping):
        return bool(output.get("error")) or output.get("isError") is True or output.get("is_error") is True
    return isinstance(output, str) and bool(_ERROR.match(output))


def _decoded(value: Any) -> Any:
    """JSON text as what it holds; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _content(before: ToolUsed, after: ToolUsed, grammar: Grammar) -> str:
    old, new = _decoded(before.tool_data.get("input")), _decoded(after.tool_data.get("input"))
    failure = _failure(before)
    if old == new or new in (None, "", {}) or _PASSING.search(failure):
        return ""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        changes = list(_changes(old, new, grammar))
    else:
        changes = [f"“{_short(new)}” (not “{_short(old)}”)"] if _showable("", old, grammar, new) else []
    if not changes:
        return ""
    return f"When calling `{before.tool_name}`, use {', '.join(changes[:4])}: {failure}."


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], grammar: Grammar) -> Iterator[str]:
    for key, value in new.items():
        if old.get(key) == value or not _showable(str(key), value, grammar, old.get(key, "")):
            continue
        instead = f"not “{_short(old[key])}”" if key in old else "it was missing"
        yield f"{key} “{_short(value)}” ({instead})"
    for key in old:
        if key not in new:
            yield f"no {key}"


def _showable(key: str, value: Any, grammar: Grammar, other: Any) -> bool:
    """Whether a changed argument teaches something: no identifier, no secret, nothing long."""
    texts = [_short(value), _short(other)]
    if any(len(text) > _MAX_VALUE or _CODE.search(text) or grammar.guarded(text, "secrets") for text in texts):
        return False
    return not _IDENTIFIER.search(key)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return " ".join(text.split())[: _MAX_VALUE + 1]


def _failure(tool: ToolUsed) -> str:
    output = _decoded(tool.tool_data.get("output"))
    if isinstance(output, Mapping):
        output = output.get("error") or output.get("message") or ""
    text = _CODE.sub("…", " ".join(str(output or "").split()))[:_MAX_ERROR].rstrip(" .")
    return f"the first call failed with “{text}”" if text else "the first call failed"
