"""A session as a model is shown it: numbered turns, in parts that fit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final, Literal

from reflexio_store.models import Evidence, ToolUsed, UserPlaybook, UserProfile

from .extractor import SessionView
from .sentences import without_memory
from .tool_fixes import has_failed
from .turns import Message, messages_of

_MAX_TOOL: Final = 1_500
_MAX_KNOWN: Final = 100
_OVERLAP: Final = 4


@dataclass(frozen=True, slots=True)
class Turn:
    """One numbered turn. ``proof`` says what it shows: ``user`` (said it), a tool call that ``failed`` or ``worked``
    (of ``tool``), or "" for what is no evidence."""

    number: int
    text: str
    evidence: Evidence
    proof: Literal["", "user", "failed", "worked"]
    tool: str
    message: Message


@dataclass(frozen=True, slots=True)
class Known:
    """The learnings a model is told of, by the short ids that it uses for them."""

    by_id: dict[str, UserProfile | UserPlaybook]

    def text(self) -> str:
        """One line for each."""
        lines = []
        for short, learning in self.by_id.items():
            trigger = f" (when: {learning.trigger})" if isinstance(learning, UserPlaybook) and learning.trigger else ""
            lines.append(f"{short}: {_one_line(learning.content)}{_one_line(trigger)}")
        return "\n".join(lines) or "(nothing yet)"


def known_of(session: SessionView) -> Known:
    """The known learnings of a session, at most 100 of each kind, as ``p1``, ``r1``, ..."""
    profiles = {f"p{n}": item for n, item in enumerate(session.known_profiles[:_MAX_KNOWN], 1)}
    playbooks = {f"r{n}": item for n, item in enumerate(session.known_playbooks[:_MAX_KNOWN], 1)}
    return Known({**profiles, **playbooks})


def turns_of(session: SessionView, max_chars: int) -> list[Turn]:
    """The turns of a session, numbered from 1, each at most ``max_chars`` characters: a message, then its tools."""
    turns: list[Turn] = []
    for message in messages_of(session):
        content = without_memory(message.interaction.content).strip()
        if content:
            role = message.interaction.role.strip().lower()[:40] or "user"
            line = _numbered(turns, f"{role}: {content}", max_chars)
            turns.append(Turn(len(turns) + 1, line, message.evidence, "user" if message.by_user else "", "", message))
        for tool in message.interaction.tools_used:
            state: Literal["failed", "worked"] = "failed" if has_failed(tool) else "worked"
            line = _numbered(turns, _outcome(tool, state), max_chars)
            turns.append(Turn(len(turns) + 1, line, message.evidence, state, tool.tool_name, message))
    return turns


def _numbered(turns: list[Turn], text: str, max_chars: int) -> str:
    line = f"[{len(turns) + 1}] {text}"
    return line if len(line) <= max_chars else line[: max_chars - 20] + " … (cut)"


def _outcome(tool: ToolUsed, state: str) -> str:
    given, came = _shown(tool.tool_data.get("input")), _shown(tool.tool_data.get("output"))
    return f"outcome of tool {tool.tool_name} ({state}): given {given}, came {came}"


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return without_memory(text)[:_MAX_TOOL]


def parts_of(turns: list[Turn], max_chars: int) -> list[list[Turn]]:
    """The turns in parts of at most ``max_chars`` characters, by whole turns; up to four turns stand in both of two
    neighbouring parts, so that what an answer refers to is beside it."""
    parts: list[list[Turn]] = []
    part: list[Turn] = []
    for turn in turns:
        if part and _size(part) + len(turn.text) + 1 > max_chars:
            parts.append(part)
            part = _overlap(part, max_chars - len(turn.text))
        part.append(turn)
    return [*parts, part] if part else parts


def _overlap(part: list[Turn], room: int) -> list[Turn]:
    kept = part[-_OVERLAP:]
    while kept and _size(kept) > min(room, _size(part) // 2):
        kept = kept[1:]
    return kept


def _size(part: list[Turn]) -> int:
    return sum(len(turn.text) + 1 for turn in part)


def _one_line(text: str) -> str:
    lead = " " if text.startswith(" ") else ""
    return lead + " ".join(text.split())
