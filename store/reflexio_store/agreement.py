"""Whether two learnings say the same, contradict each other, or have nothing to do with one another.

Pure and deterministic, without a model. Rather two rows too many than two facts made one: two texts say the same only
if they affirm the same words and deny the same words in the same order, once articles, auxiliaries and words of degree
are left out and a few synonyms are made one. Whatever else differs (a number, a name, a tense, any word) makes another
fact.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from .sql.words import index_words

Relation = Literal["same", "opposed", "narrower", "wider", "other"]
"""Of one text to another. ``narrower`` says all that the other says, and adds a name or an item to it."""

_CONTRACTED: Final = (
    (re.compile(r"\bcan['\u2019]?t\b", re.IGNORECASE), "cannot"),
    (re.compile(r"\bwon['\u2019]t\b", re.IGNORECASE), "will not"),
    (re.compile(r"n['\u2019]t\b", re.IGNORECASE), " not"),
)
_DENIES: Final = re.compile(
    r"\b(?:can(?:not| not) (?:stand|bear)|not|never|no longer|no|cannot|without|avoid(?:s|ing)?|neither|nor|instead of"
    r"|rather than|refrains? from|dislikes?|hates?|loathes?|detests?)\b",
    re.IGNORECASE,
)
_DISLIKES: Final = re.compile(r"dislike|hate|loathe|detest|can", re.IGNORECASE)
_CLAUSE_ENDS: Final = re.compile(r"[.,;:!?()]+(?=\s|$)|\s(?=but\b)", re.IGNORECASE)
_TOKEN: Final = re.compile(
    r"[^\s.,;:!?()\"\u201c\u201d\xab\xbb\u2026]+(?:[.,:][^\s.,;:!?()\"\u201c\u201d\xab\xbb\u2026]+)*"
)
_SILENT: Final = frozenset(
    {"a", "an", "the", "do", "does", "also", "really", "very", "quite", "just", "please", "kindly", "actually"}
    | {"definitely", "certainly", "truly", "absolutely", "currently", "presently", "user", "user's"}
)
"""Words that change how something is said, not what is said."""
_ONE_WORD: Final[dict[str, str]] = {
    "loves": "like", "love": "like", "enjoys": "like", "enjoy": "like", "adores": "like", "adore": "like",
    "likes": "like", "resides": "live", "reside": "live", "lives": "live", "reply": "answer", "respond": "answer",
    "replies": "answer", "answers": "answer", "favorite": "favourite", "color": "colour", "prefers": "prefer",
    "named": "called", "has": "have", "is": "be", "are": "be", "am": "be", "works": "work",
    "drinks": "drink", "eats": "eat", "uses": "use", "owns": "own", "speaks": "speak",
}  # fmt: skip
_ADDING: Final = re.compile(r"(?:,? (?:called|named|and)\b|,) ", re.IGNORECASE)
_LIMITING: Final = re.compile(
    r"\b(?:if|when|whenever|unless|on|in|at|for|during|while|before|after|until|but|except|only|not|or|no|never|as|with"
    r"|without|than|over|sometimes|rarely|seldom|often|then|because|so)\b",
    re.IGNORECASE,
)


def polar_parts(text: str) -> Iterator[tuple[str, bool]]:
    """The parts of a text in order, each with whether it is denied. A second denial takes back the first; a clause
    ends it. ``dislikes x`` denies ``like x``."""
    for contraction, full in _CONTRACTED:
        text = contraction.sub(full, text)
    for clause in _CLAUSE_ENDS.split(text):
        place, denied = 0, False
        for sign in _DENIES.finditer(clause):
            yield clause[place : sign.start()], denied
            denied = not denied
            if _DISLIKES.match(sign[0]):
                yield "like", denied
            place = sign.end()
        yield clause[place:], denied


@lru_cache(maxsize=20_000)
def _said(text: str) -> tuple[tuple[str, bool], ...]:
    """The words of a text that say something, in order, each with whether it is denied."""
    return tuple((word, denied) for part, denied in polar_parts(text) for word in _words(part))


def _words(part: str) -> Iterator[str]:
    for token in _TOKEN.findall(part):
        if token.isupper() and len(token) > 1:
            yield token  # an abbreviation: US is not us
            continue
        word: str = token.casefold()
        if word not in _SILENT:
            yield _ONE_WORD.get(word, word)


def relation(one: str, other: str) -> Relation:
    """What the fact ``one`` is to the fact ``other``."""
    mine, theirs = _said(one), _said(other)
    if not mine or not theirs:
        return "other"
    if mine == theirs:
        return "same"
    if _opposed(mine, theirs):
        return "opposed"
    if _adds(one, other):
        return "narrower"
    return "wider" if _adds(other, one) else "other"


def _opposed(mine: tuple[tuple[str, bool], ...], theirs: tuple[tuple[str, bool], ...]) -> bool:
    """Whether the same is said, but denied here and affirmed there; or what is to be taken and what to be left is
    exchanged ("use x, not y" and "use y, not x")."""
    if [word for word, _ in mine] == [word for word, _ in theirs]:
        return True
    yes, no = _divided(mine)
    their_yes, their_no = _divided(theirs)
    if not (no and their_no and set(no) <= set(their_yes) and set(their_no) <= set(yes)):
        return False
    return [word for word in yes if word not in their_no] == [word for word in their_yes if word not in no]


def _divided(said: tuple[tuple[str, bool], ...]) -> tuple[list[str], list[str]]:
    return [word for word, denied in said if not denied], [word for word, denied in said if denied]


def _adds(longer: str, shorter: str) -> bool:
    """Whether ``longer`` is ``shorter`` with a name or a further item behind it, and no condition or limit."""
    stem = shorter.strip().rstrip(".!;\u2026 ")
    tail = longer.strip()[len(stem) :].rstrip(".!;\u2026 ")
    if not longer.strip().startswith(stem) or any(denied for _, denied in _said(shorter)):
        return False
    adding = _ADDING.match(tail)
    return adding is not None and bool(_said(tail[adding.end() :])) and not _LIMITING.search(tail)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule to compare: what to do, when (parts of a trigger are set apart by " / "), and whether always."""

    content: str
    trigger: str = ""
    standing: bool = False


def rule_relation(one: Rule, other: Rule) -> Relation:
    """What one rule is to another: ``same`` or ``opposed`` only if they hold in the same situation."""
    if one.standing != other.standing or not (one.standing or _meet(one.trigger, other.trigger)):
        return "other"
    found = relation(one.content, other.content)
    return found if found in ("same", "opposed") else "other"


def trigger_parts(trigger: str | None) -> list[str]:
    """The parts of a trigger, each of which should find the rule."""
    return [part.strip() for part in (trigger or "").split(" / ") if part.strip()]


def _meet(one: str, other: str) -> bool:
    mine, theirs = ({_said(part) for part in trigger_parts(trigger)} for trigger in (one, other))
    return bool(mine & theirs) or not (mine or theirs)


def stems(text: str) -> frozenset[str]:
    """The words of a text by which it is found: stems, without the words that say nothing about what it is about."""
    return frozenset(index_words(text))
