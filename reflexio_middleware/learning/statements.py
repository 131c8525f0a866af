"""Learning without a model: what users say outright, and which tool calls failed and then worked.

Deterministic, and rather silent than wrong. Only the user's own words and observed outcomes of tools are evidence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from reflexio_store.contract import Change
from reflexio_store.models import STANDING, ProfileTimeToLive, UserPlaybook, UserProfile

from .extractor import SessionView
from .facts import Fact, find_facts
from .grammar import load_grammar
from .rules import Rule, find_rules
from .sentences import sentences
from .tool_fixes import ToolFix, find_tool_fixes
from .turns import Message, messages_of, request_in

_MAX_TRIGGER: Final = 400
_REASONS: Final = {"order": "The user asked for it", "correction": "The user corrected the answer"}


class StatementsExtractor:
    """Learns from plain statements by patterns: profiles, standing orders, corrections and repaired tool calls.

    Args:
        language: Which pattern file to use (``learning/patterns/<language>.toml``).
    """

    reads_known = False

    def __init__(self, language: str = "en") -> None:
        self._grammar = load_grammar(language)

    @property
    def name(self) -> str:
        """``statements``."""
        return "statements"

    def extract(self, session: SessionView) -> list[Change]:
        """The learnings that the session's user stated in the new requests, all as ``add``.

        The same session gives the same list. Of two statements about the same thing the later one stands. A session
        without a user teaches nothing.
        """
        if not session.user_id:
            return []
        latest: dict[str, Change] = {}
        for about, change in self._found(session):
            if not any(session.is_new(evidence.request_id) for evidence in change.evidence):
                continue
            earlier = latest.pop(about, None)  # the later statement takes the later place
            latest[about] = _joined(earlier, change) if earlier else change
        return list(latest.values())

    def _found(self, session: SessionView) -> Iterator[tuple[str, Change]]:
        """Every learning with what it is about, in the order of the session; repaired tool calls last."""
        messages = messages_of(session)
        asked, answered = "", False
        at_hand: dict[str, str] = {}
        for message in messages:
            if not message.by_user:
                answered = answered or message.by_agent
                continue
            spoken = sentences(message.interaction.content, self._grammar)
            rules = find_rules(spoken, self._grammar, answered=answered)
            used = {rule.sentence for rule in rules}
            here = request_in(spoken, used, self._grammar)
            for fact in find_facts(spoken, used, self._grammar):
                yield f"profile {fact.slot or fact.content.lower()}", _profile(session, message, fact)
            for rule in rules:
                at = asked or here if rule.why == "correction" else here or asked
                yield f"rule {rule.slot or rule.content.lower()}", _playbook(session, message, rule, at)
            corrected = any(rule.why == "correction" for rule in rules)
            asked, answered = asked if corrected and asked else here or asked, False
            at_hand[message.request.request_id] = asked
        for fix in find_tool_fixes(messages, self._grammar):
            yield f"fix {fix.content.lower()}", _tool_playbook(session, fix, at_hand)


def _joined(earlier: Change, later: Change) -> Change:
    """The later of two; where it says the same again, it rests on the messages of both."""
    if earlier.learning is None or later.learning is None or earlier.learning.content != later.learning.content:
        return later
    evidence = tuple(dict.fromkeys((*earlier.evidence, *later.evidence)))
    return replace(later, learning=later.learning.model_copy(update={"evidence": list(evidence)}), evidence=evidence)


def _profile(session: SessionView, message: Message, fact: Fact) -> Change:
    learning = UserProfile.model_validate(
        {
            "user_id": session.user_id,
            "content": fact.content,
            "last_modified_timestamp": message.time,
            "generated_from_request_id": message.request.request_id,
            "profile_time_to_live": ProfileTimeToLive(fact.ttl),
            "source": message.request.source,
            "extractor_names": ["statements"],
            "source_span": fact.said,
            "source_interaction_ids": [message.interaction.interaction_id],
            "tags": [f"slot:{fact.slot}"] if fact.slot else [],
            "evidence": [message.evidence],
        }
    )
    return Change(action="add", kind="profile", learning=learning, evidence=(message.evidence,))


def _playbook(session: SessionView, message: Message, rule: Rule, asked: str) -> Change:
    tags = [STANDING] if rule.manner else []
    learning = UserPlaybook(
        user_id=session.user_id,
        agent_version=message.request.agent_version or session.agent_version,
        request_id=message.request.request_id,
        created_at=message.time,
        content=rule.content,
        trigger=_trigger(rule, asked),
        rationale=f"{_REASONS[rule.why]}: “{rule.said}”",
        tags=[*tags, f"slot:{rule.slot}"] if rule.slot else tags,
        source=message.request.source,
        source_span=rule.said,
        source_interaction_ids=[message.interaction.interaction_id],
        evidence=[message.evidence],
    )
    return Change(action="add", kind="user_playbook", learning=learning, evidence=(message.evidence,))


def _trigger(rule: Rule, asked: str) -> str:
    """The future request that should find the rule, in the words of the request at hand."""
    if rule.manner:
        return f"any request: {rule.manner}"
    if rule.trigger:
        return rule.trigger
    first = rule.about[:1] if rule.about[1:2].isupper() else rule.about[:1].lower()  # an acronym stays one
    topic = first + rule.about[1:].removesuffix(".")
    parts = [asked, topic] if rule.why == "correction" else [topic, asked]
    return " / ".join(part for part in parts if part)[:_MAX_TRIGGER] or rule.content


def _tool_playbook(session: SessionView, fix: ToolFix, at_hand: dict[str, str]) -> Change:
    request = fix.worked.request
    evidence = list(dict.fromkeys((fix.failed.evidence, fix.worked.evidence)))
    asked = at_hand.get(request.request_id, "")
    learning = UserPlaybook(
        user_id=session.user_id,
        agent_version=request.agent_version or session.agent_version,
        request_id=request.request_id,
        created_at=fix.worked.time,
        content=fix.content,
        trigger=f"{asked} / {fix.tool}" if asked else fix.tool,
        rationale="A call of the tool failed, and the changed call then worked.",
        source=request.source,
        source_interaction_ids=[fix.failed.interaction.interaction_id, fix.worked.interaction.interaction_id],
        evidence=evidence,
    )
    return Change(action="add", kind="user_playbook", learning=learning, evidence=tuple(evidence))
