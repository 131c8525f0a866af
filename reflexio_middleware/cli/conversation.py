"""A session with all that belongs to it: its turns, what each recalled, and what was learned from each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from reflexio_middleware.cli.cards import STYLES, as_json, content_of, evidence_of, name_of
from reflexio_middleware.cli.screen import many, moment, one_line, said, screen
from reflexio_middleware.recall.render import id_of, kind_of
from reflexio_store.contract import Store
from reflexio_store.models import Interaction, Learning, LearningQuery, RequestData, Status, ToolUsed

_SHORT = 400
_SHORT_TOOL = 160
_ROLES = {"user": "bold", "assistant": "bold blue"}


@dataclass(frozen=True, slots=True)
class Conversation:
    """The turns of one session, oldest first; ``known`` holds the user's learnings by kind and id."""

    session_id: str
    user_id: str
    turns: list[RequestData]
    known: dict[tuple[str, str], Learning]

    @classmethod
    def of(cls, store: Store, user_id: str, session_id: str) -> Conversation:
        """Read it from a store."""
        query = LearningQuery(user_id=user_id, status_filter=[None, *Status])
        learnings = [*store.get_learnings("profile", query), *store.get_learnings("user_playbook", query)]
        turns = store.read_session(user_id, session_id)
        shared = {item.learning_id for turn in turns for item in recalled(turn) if item.kind == "agent_playbook"}
        if shared:
            query = LearningQuery(ids=sorted(shared), status_filter=[None, *Status])
            learnings += store.get_learnings("agent_playbook", query)
        return cls(session_id, user_id, turns, {(kind_of(item), id_of(item)): item for item in learnings})

    def learned(self, turn: RequestData) -> list[Learning]:
        """The learnings that rest on a turn."""
        wanted = turn.request.request_id
        return [item for item in self.known.values() if any(of.request_id == wanted for of in evidence_of(item))]


def recalled(turn: RequestData) -> list[Any]:
    """What recall put into the prompt of a turn: kinds and ids."""
    return [item for message in turn.interactions for item in message.retrieved_learnings]


def conversation_json(told: Conversation) -> dict[str, Any]:
    """The conversation for programs; in each turn, ``learned`` holds what rests on it."""
    turns = [
        {**turn.model_dump(mode="json", warnings=False), "learned": [as_json(item) for item in told.learned(turn)]}
        for turn in told.turns
    ]
    return {"session_id": told.session_id, "user_id": told.user_id, "requests": turns}


def print_conversation(told: Conversation, *, full: bool) -> None:
    """Print it for people; unless ``full``, long texts are cut short."""
    to = screen()
    first, last = told.turns[0].request, told.turns[-1].request
    of = told.user_id or "nobody known"
    facts = [f"session {told.session_id}", of, last.agent_version, last.source, many(len(told.turns), "turn")]
    to.print(said(" · ".join(fact for fact in facts if fact), "bold"))
    if first.metadata:
        to.print(said(f"metadata {json.dumps(first.metadata, ensure_ascii=False, default=str)}", "dim"))
    for number, turn in enumerate(told.turns, 1):
        title = Text.assemble(f"{number} ", (turn.request.request_id, "default"), f" {moment(turn.request.created_at)}")
        to.print(Rule(title, align="left", style="dim"))
        to.print(_turn(told, turn, full))


def _turn(told: Conversation, turn: RequestData, full: bool) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(min_width=9, overflow="fold")
    grid.add_column(overflow="fold")
    for message in turn.interactions:
        _add_message(grid, message, full)
    request = turn.request
    if request.status != "completed":
        why = f": {request.error}" if request.error else ""
        grid.add_row(Text("status", "red"), said(_cut(f"{request.status}{why}", _SHORT, full), "red"))
    for item in recalled(turn):
        learning = told.known.get((item.kind, item.learning_id))
        text = content_of(learning) if learning else f"{item.kind.replace('_', ' ')} {item.learning_id} (deleted since)"
        grid.add_row(Text("recalled", "yellow"), said(_cut(text, _SHORT, full)))
    for learning in told.learned(turn):
        style = STYLES[kind_of(learning)]
        retired = f" ({learning.status})" if learning.status else ""
        words = said(_cut(content_of(learning), _SHORT, full) + retired)
        grid.add_row(Text("learned", style), Text("\n").join([words, name_of(learning)]))
    return grid


def _add_message(grid: Table, message: Interaction, full: bool) -> None:
    texts = [_cut(message.content, _SHORT, full)] if message.content else []
    texts += [f"{name}: {_cut(text, _SHORT, full)}" for name, text in _beside(message)]
    role = said(message.role, _ROLES.get(message.role.lower(), ""))
    for at, text in enumerate(texts or ([] if message.tools_used else [""])):
        grid.add_row(role if at == 0 else "", said(text))
    for at, tool in enumerate(message.tools_used):
        grid.add_row(role if at == 0 and not texts else "", _tool(tool, full))


def _beside(message: Interaction) -> list[tuple[str, str]]:
    action = "" if message.user_action == "none" else f"{message.user_action} {message.user_action_description}"
    encoded = f"{len(message.image_encoding):,} characters" if message.image_encoding else ""
    found = {
        "action": action,
        "image": message.interacted_image_url or encoded,
        "expert": message.expert_content,
        "shadow": message.shadow_content,
    }
    return [(name, text) for name, text in found.items() if text]


def _tool(tool: ToolUsed, full: bool) -> Text:
    given, got = tool.tool_data.get("input"), tool.tool_data.get("output")
    if "input" not in tool.tool_data and "output" not in tool.tool_data:
        given = tool.tool_data
    failed = tool.status not in ("", "success")
    parts: list[Any] = [("tool ", "dim"), said(tool.tool_name, "bold"), " ", said(_value(given, full))]
    if failed:
        parts.append((f" {tool.status}", "red"))
    if got is not None:
        parts += [("\n→ ", "dim"), said(_value(got, full), "red" if failed else "")]
    return Text.assemble(*parts)


def _value(value: Any, full: bool) -> str:
    if value is None or value == {}:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if full else one_line(text, _SHORT_TOOL)


def _cut(text: str, limit: int, full: bool) -> str:
    return text if full or len(text) <= limit else f"{text[:limit].rstrip()}… ({len(text):,} characters; --full)"
