"""A session as a model is shown it: numbered turns, in parts that fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from reflexio_store.models import Evidence, ToolUsed, UserPlaybook, UserProfile

from .extractor import SessionView
from .sentences import without_memory
from .tool_fixes import has_failed
from .turns import Message, messages_of

_MAX_TOOL: Final = 1_500
_MAX_KNOWN: Final = 100
_OVERLAP: Final = 4
_LABEL: Final = 4  # tokens of a short id and its punctuation

L = TypeVar("L", UserProfile, UserPlaybook)


@dataclass(frozen=True, slots=True)
class Turn:
    """One numbered turn. ``proof`` says what it shows: ``user`` (said it), a tool call that ``failed`` or ``worked``
    (of ``tool``), or "" for what is no evidence. What is not ``new`` was learned from before."""

    number: int
    text: str
    evidence: Evidence
    proof: Literal["", "user", "failed", "worked"]
    tool: str
    message: Message
    new: bool = True


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


def tokens_of(text: str) -> int:
    """About how many tokens a text is: four letters of ASCII to one, of other scripts one letter (an upper guess)."""
    foreign = 0 if text.isascii() else sum(not letter.isascii() for letter in text)
    return (len(text) - foreign) // 4 + foreign + 1


def known_of(session: SessionView, max_tokens: int) -> Known:
    """The known learnings of a session as ``p1``, ``r1``, ...: the newest, at most 100 of each kind, and of each kind
    at most a quarter of ``max_tokens``."""
    room = max_tokens // 4
    profiles = {f"p{n}": item for n, item in enumerate(_fitting(session.known_profiles, room), 1)}
    playbooks = {f"r{n}": item for n, item in enumerate(_fitting(session.known_playbooks, room), 1)}
    return Known({**profiles, **playbooks})


def _fitting(learnings: Sequence[L], room: int) -> list[L]:
    fitting: list[L] = []
    for learning in learnings[:_MAX_KNOWN]:
        room -= tokens_of(learning.content) + tokens_of(getattr(learning, "trigger", None) or "") + _LABEL
        if room < 0:
            break
        fitting.append(learning)
    return fitting


def turns_of(session: SessionView, max_tokens: int) -> list[Turn]:
    """The turns of a session, numbered from 1, each at most ``max_tokens`` long: a message, then its tools."""
    turns: list[Turn] = []
    for message in messages_of(session):
        new = session.is_new(message.request.request_id)
        earlier = "" if new else "(earlier) "
        content = without_memory(message.interaction.content).strip()
        if content:
            role = message.interaction.role.strip().lower()[:40] or "user"
            line = _numbered(turns, f"{earlier}{role}: {content}", max_tokens)
            proof: Literal["", "user"] = "user" if message.by_user else ""
            turns.append(Turn(len(turns) + 1, line, message.evidence, proof, "", message, new))
        for tool in message.interaction.tools_used:
            state: Literal["failed", "worked"] = "failed" if has_failed(tool) else "worked"
            line = _numbered(turns, earlier + _outcome(tool, state), max_tokens)
            turns.append(Turn(len(turns) + 1, line, message.evidence, state, tool.tool_name, message, new))
    return turns


def _numbered(turns: list[Turn], text: str, max_tokens: int) -> str:
    line = f"[{len(turns) + 1}] {text}"
    tokens = tokens_of(line)
    return line if tokens <= max_tokens else line[: len(line) * max_tokens // tokens - 20] + " … (cut)"


def _outcome(tool: ToolUsed, state: str) -> str:
    given, came = _shown(tool.tool_data.get("input")), _shown(tool.tool_data.get("output"))
    return f"outcome of tool {tool.tool_name} ({state}): given {given}, came {came}"


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return without_memory(text)[:_MAX_TOOL]


def parts_of(turns: list[Turn], max_tokens: int) -> list[list[Turn]]:
    """The turns in parts of at most ``max_tokens``, by whole turns; up to four turns stand in both of two
    neighbouring parts, so that what an answer refers to is beside it."""
    parts: list[list[Turn]] = []
    part: list[Turn] = []
    for turn in turns:
        if part and _size(part) + tokens_of(turn.text) > max_tokens:
            parts.append(part)
            part = _overlap(part, max_tokens - tokens_of(turn.text))
        part.append(turn)
    return [*parts, part] if part else parts


def _overlap(part: list[Turn], room: int) -> list[Turn]:
    kept = part[-_OVERLAP:]
    while kept and _size(kept) > min(room, _size(part) // 2):
        kept = kept[1:]
    return kept


def _size(part: list[Turn]) -> int:
    return sum(tokens_of(turn.text) for turn in part)


def _one_line(text: str) -> str:
    lead = " " if text.startswith(" ") else ""
    return lead + " ".join(text.split())
