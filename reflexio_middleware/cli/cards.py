"""A learning as a person reads it, and as a program does."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from reflexio_middleware.cli.screen import ago, indented, moment, said
from reflexio_middleware.recall.render import id_of, kind_of
from reflexio_store.models import AgentPlaybook, Evidence, Learning, UserPlaybook, UserProfile

STYLES = {"profile": "cyan", "user_playbook": "green", "agent_playbook": "magenta"}


def as_json(learning: Learning) -> dict[str, Any]:
    """All fields of a learning, after ``kind`` and ``id`` (text)."""
    return {"kind": kind_of(learning), "id": id_of(learning), **learning.model_dump(mode="json", warnings=False)}


def learned_at(learning: Learning) -> int:
    """When it was learned or last changed, in epoch seconds."""
    return learning.last_modified_timestamp if isinstance(learning, UserProfile) else learning.created_at


def evidence_of(learning: Learning) -> list[Evidence]:
    """The messages that it rests on; none for an agent playbook."""
    return [] if isinstance(learning, AgentPlaybook) else learning.evidence


def content_of(learning: Learning) -> str:
    """What it says, in its own words."""
    return learning.content if isinstance(learning, UserProfile) else learning.content or learning.trigger or ""


def name_of(learning: Learning) -> Text:
    """Its kind and id, such as ``user playbook 42``."""
    kind = kind_of(learning)
    return Text.assemble((kind.replace("_", " "), STYLES[kind]), " ", said(id_of(learning), "bold"))


def card(learning: Learning) -> RenderableType:
    """A learning in a few lines: what it is, what it says, when it applies, and what it rests on."""
    facts = [said(fact) for fact in (*_owner(learning), _state(learning), ago(learned_at(learning))) if fact]
    lines: list[RenderableType] = [Text(" · ").join([name_of(learning), *facts])]
    lines.append(indented(said(content_of(learning))))
    if not isinstance(learning, UserProfile) and learning.trigger and learning.content:
        lines.append(indented(Text.assemble(("when   ", "dim"), said(learning.trigger))))
    lines += [
        indented(
            Text.assemble(("from   ", "dim"), said(item.request_id), (f" message {item.interaction_index}", "dim"))
        )
        for item in evidence_of(learning)
    ]
    span = None if isinstance(learning, AgentPlaybook) else learning.source_span
    if span and span.strip() != content_of(learning).strip():
        lines.append(indented(Text.assemble(("said   ", "dim"), "“", said(span), "”")))
    return Group(*lines)


def _owner(learning: Learning) -> list[str]:
    if isinstance(learning, UserProfile):
        return [learning.user_id]
    if isinstance(learning, UserPlaybook):
        return [learning.user_id, learning.agent_version]
    return [learning.agent_version]


def _state(learning: Learning) -> str:
    told = [str(learning.playbook_status)] if isinstance(learning, AgentPlaybook) else []
    if isinstance(learning, AgentPlaybook) and learning.support:
        told.append(f"{learning.support} users say so")
    if learning.status is not None:
        told.append(str(learning.status))
    if isinstance(learning, UserProfile) and learning.profile_time_to_live != "infinity":
        told.append(f"until {moment(learning.expiration_timestamp)}")
    return " · ".join(told)
