"""What of users' rules may become everybody's: which rules agree, and which words are somebody's own."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from reflexio_middleware.learning.grammar import load_grammar
from reflexio_middleware.learning.vocabulary import forms, opposed
from reflexio_store.agreement import polar_parts, stems, trigger_parts
from reflexio_store.contract import Agreements
from reflexio_store.models import STANDING, AgentPlaybook, UserPlaybook

_LEAST: Final = 0.6
"""Share of the words of two rules that both must have (Jaccard), for what they affirm and for what they deny."""
_LEAST_OF_TRIGGER: Final = 0.5
_MOST_OF_FRAME: Final = 1 / 3
"""Share of the words of two texts up to which their meanings are compared: where one word is exchanged for another in
the same frame ("by first name", "by last name"), a model finds them more alike than one rule that is told twice."""
_EXACT: Final = re.compile(r"[^\s,;:!?()\"\u201c\u201d]*(?:\d|[+#@$%€£*=<>\\/])[^\s,;:!?()\"\u201c\u201d]*")
_COUNTED: Final = stems(
    "zero one two three four five six seven eight nine ten eleven twelve twenty thirty hundred thousand half double"
    " twice monday tuesday wednesday thursday friday saturday sunday"
)
_NAME: Final = re.compile(r"(?<!^)(?<![.!?]\s)(?<!\w)(?!I\b)[^\W\d_a-zß-öø-ÿ][\w'\u2019-]*")
"""A word with a capital, but for the first of a sentence."""
_OWN: Final = re.compile(
    r"[\w.+-]+@[\w-]+\.[\w.]+|\d[\d\s./-]{5,}\d|\b[0-9a-f]{8}-[0-9a-f]{4}\b|\[redacted", re.IGNORECASE
)
"""Mail addresses, numbers of phones, accounts and orders, and what was masked: never everybody's."""
_SECRET: Final = re.compile(
    r"\b(?:pass ?(?:word|phrase|code)s?|passwd|pwd|(?:api|access|private|secret)[ _-]?keys?|tokens?|credentials?|pin"
    r"|cvv|cvc|iban|ssn|social security)\b",
    re.IGNORECASE,
)
_IDENTITY: Final = re.compile(
    r"\b(?:names?|surname|called|lives?|living|home|address|works? (?:for|at)|employ\w*|company|firm|runs?|comes?|born"
    r"|from|birthday|phone|mail|handle|school|university|studies|based|located)\b[:,]?(.*)",
    re.IGNORECASE | re.DOTALL,
)
_GENERIC: Final = stems(
    "from for at in on with company firm home school university work name live user phone mail city"
)


@dataclass(frozen=True, slots=True)
class Said:
    """A rule taken apart: stems that it affirms and denies, what must be exact, the stems of each part of its trigger,
    and ``words``, all stems and names in it. ``content`` and ``trigger`` are its texts, for those who compare meanings.
    """

    affirms: frozenset[str]
    denies: frozenset[str]
    exact: frozenset[str]
    names: frozenset[str]
    situations: tuple[frozenset[str], ...]
    standing: bool
    words: frozenset[str]
    content: str
    trigger: str

    @property
    def stems(self) -> frozenset[str]:
        """The stems of what it says to do or to leave."""
        return self.affirms | self.denies

    def comparable(self, other: Said) -> bool:
        """Whether polarity, numbers and names are the same, so that the rest of the words may differ."""
        same = bool(self.denies) == bool(other.denies) and self.exact == other.exact and self.standing == other.standing
        named = self.names <= forms(other.content) and other.names <= forms(self.content)
        return same and named and not opposed(self.content, other.content)


def said_of(playbook: UserPlaybook | AgentPlaybook) -> Said:
    """A playbook taken apart."""
    return _said(playbook.content, playbook.trigger or "", STANDING in playbook.tags)


@lru_cache(maxsize=50_000)
def _said(content: str, trigger: str, standing: bool) -> Said:
    affirms: set[str] = set()
    denies: set[str] = set()
    for part, denied in polar_parts(content):
        (denies if denied else affirms).update(stems(part))
    both = frozenset(affirms | denies)
    exact = {token.casefold().rstrip(".") for token in _EXACT.findall(content)} | (both & _COUNTED)
    return Said(
        affirms=frozenset(affirms),
        denies=frozenset(denies),
        exact=frozenset(exact),
        names=names_in(content),
        situations=tuple(words_of(part) for part in trigger_parts(trigger)),
        standing=standing,
        words=both.union(words_of(trigger), *map(names_in, [content, *trigger_parts(trigger)])),
        content=content,
        trigger=trigger,
    )


def words_of(text: str) -> frozenset[str]:
    """All stems of a text, whether it affirms or denies them."""
    return frozenset(stem for part, _ in polar_parts(text) for stem in stems(part))


def names_in(text: str) -> frozenset[str]:
    """The stems of words that may be names; one that has none, for it is a word of nearly every text, as it is: Will
    is somebody."""
    return frozenset(form for word in _NAME.findall(text) for form in forms(word))


def alike(one: Said, other: Said) -> bool:
    """Whether two rules say the same with like words, in a situation of like words."""
    return says_the_same(one, other) and like_situations(one, other)


def says_the_same(one: Said, other: Said) -> bool:
    """Whether two rules say with like words to do the same: one may say more than the other, but what each says
    instead of the other makes another rule."""
    if not one.stems or not (one.stems <= other.stems or other.stems <= one.stems):
        return False
    if likeness(one.affirms, other.affirms) < _LEAST or likeness(one.denies, other.denies) < _LEAST:
        return False
    return one.comparable(other)


def like_situations(one: Said, other: Said) -> bool:
    """Whether two rules hold in a situation of like words, or one of them in any."""
    if one.standing or not one.situations or not other.situations:
        return True
    return any(likeness(mine, theirs) >= _LEAST_OF_TRIGGER for mine in one.situations for theirs in other.situations)


def told_otherwise(one: Said, other: Said) -> bool:
    """Whether two rules say what they do in such different words that their meaning can be judged."""
    return _in_other_words(one.stems, other.stems) and one.comparable(other)


def situated_otherwise(one: Said, other: Said) -> bool:
    """The same of the situations in which they hold."""
    return _in_other_words(words_of(one.trigger), words_of(other.trigger)) and not opposed(one.trigger, other.trigger)


def _in_other_words(one: frozenset[str], other: frozenset[str]) -> bool:
    return likeness(one, other) <= _MOST_OF_FRAME and max(len(one - other), len(other - one)) > 1


def likeness(one: frozenset[str], other: frozenset[str]) -> float:
    """The share (0 to 1) of the words of two that both have; of nothing and nothing it is 1."""
    return len(one & other) / len(one | other) if one or other else 1.0


def may_be_shared(playbook: UserPlaybook) -> bool:
    """Whether a user's rule may support an agent playbook: not if it speaks to the memory, or for other users, or
    holds secrets, or rests on words that do."""
    texts = [text for text in (playbook.content, playbook.trigger, playbook.source_span, playbook.rationale) if text]
    grammar = load_grammar()
    if any(grammar.guarded(text, "others", "message") or _SECRET.search(text) for text in texts):
        return False
    return bool(said_of(playbook).stems) and not _OWN.search(playbook.content)


class Personal:
    """Which words are a part of who users are: their ids, and what their profiles say of name, place and employer."""

    def __init__(self, store: Agreements) -> None:
        self._store = store
        self._known: dict[str, frozenset[str]] = {}

    def is_in(self, text: str, users: Collection[str]) -> bool:
        """Whether ``text`` holds anything personal of any of these users."""
        if _OWN.search(text):
            return True
        self._learn(users)
        words = stems(text) | names_in(text)
        return any(words & self._known[user] or _names(user, text) for user in users)

    def _learn(self, users: Collection[str]) -> None:
        """Look up those of the users who were not met before, all at once."""
        new = [user for user in users if user not in self._known]
        told = self._store.told_by(new) if new else {}
        for user in new:
            named = {stem for stem in stems(user) if len(stem) > (3 if stem.isdigit() else 2)}
            identity = " ".join(map(_identity, told.get(user, ())))
            self._known[user] = (stems(identity) | names_in(identity) | named) - _GENERIC


def _names(user_id: str, text: str) -> bool:
    """Whether a user's id stands in a text as a word of its own."""
    if user_id.isascii() and text.isascii() and user_id.lower() not in text.lower():
        return False  # nearly always, and a pattern for each user would cost more
    return bool(re.search(rf"(?<!\w){re.escape(user_id)}(?!\w)", text, re.IGNORECASE))


def _identity(content: str) -> str:
    found = _IDENTITY.search(content)
    return found[1] if found else ""
