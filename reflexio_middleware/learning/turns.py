"""A session read message by message: who speaks, where a message stands, and what it asks for."""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass
from typing import Final

from reflexio_store.ids import place_of
from reflexio_store.models import Evidence, Interaction, Request
from reflexio_store.terms import USER_ROLES

from .extractor import SessionView
from .grammar import Grammar, load_grammar
from .sentences import MAX_CHARACTERS, Sentence, without_leads

AGENT_ROLES: Final = frozenset({"assistant", "agent", "ai", "bot", "model"})
_MAX_REQUEST: Final = 200
_ASKING: Final = re.compile(
    r"(?:I|we) (?:want|need|would like|am looking|am trying|have to|wish to|was hoping)\b"
    r"|(?:can|could|would|will) you\b|what|which|who|where|when|why|how|is|are|do|does|did|should|please\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Message:
    """One message and its place: interaction ``index`` (from 0) of ``request``."""

    request: Request
    index: int
    interaction: Interaction

    @property
    def by_user(self) -> bool:
        """Whether the user wrote it; roles are compared without case."""
        return self.interaction.role.strip().lower() in USER_ROLES

    @property
    def by_agent(self) -> bool:
        """Whether the agent wrote it."""
        return self.interaction.role.strip().lower() in AGENT_ROLES

    @property
    def evidence(self) -> Evidence:
        """The message as evidence."""
        return Evidence(request_id=self.request.request_id, interaction_index=self.index)

    @property
    def time(self) -> int:
        """When it was said, in epoch seconds."""
        return self.interaction.created_at or self.request.created_at


def messages_of(session: SessionView) -> list[Message]:
    """The messages of a session in order. Left out are requests marked ``evaluation_only``, and those in which the
    user asks that they be not remembered."""
    found: list[Message] = []
    for data in session.requests:
        messages = [Message(data.request, _place(item, index), item) for index, item in enumerate(data.interactions)]
        if not data.request.evaluation_only and not any(_is_private(message) for message in messages):
            found += messages
    return found


def _is_private(message: Message) -> bool:
    """Whether the user asks in it that the turn be not remembered."""
    text = message.interaction.content[:MAX_CHARACTERS].replace("\u2019", "'")
    return message.by_user and load_grammar().guarded(text, "private")


def _place(interaction: Interaction, index: int) -> int:
    """Where a message stands in its request; its place in the list is another once one before it was deleted."""
    place = place_of(interaction.interaction_id, interaction.request_id)
    return index if place is None else place


def request_in(spoken: list[Sentence], used: Set[int], grammar: Grammar) -> str:
    """What a user's message asks for, as one sentence of it (at most 200 characters); "" if it asks for nothing.

    Sentences in ``used`` taught something already; secrets and small talk are passed over.
    """
    first = ""
    for index, sentence in enumerate(spoken):
        if index in used or "secrets" in sentence.held:
            continue
        text = without_leads(sentence.said, grammar)[0].strip()
        if is_trivial(text, grammar):
            continue
        if sentence.asks or _ASKING.match(text) or grammar.text["imperative"].match(text):
            return text[:_MAX_REQUEST]
        first = first or text
    return first[:_MAX_REQUEST]


def is_trivial(text: str, grammar: Grammar) -> bool:
    """Whether ``text`` is small talk (thanks, yes, hello) or a single word."""
    words = re.findall(r"[\w']+", text.lower())
    return len(words) < 2 or all(word in grammar.trivial for word in words)
