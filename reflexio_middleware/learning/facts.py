"""What users say about themselves, sentence by sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from dataclasses import dataclass, replace
from typing import Final

from .grammar import Grammar, Pattern
from .sentences import Sentence, clauses, without_leads, without_trails
from .turns import is_trivial
from .wording import Filler, third_person

_GREETING: Final = re.compile(r"\b(?:hi|hello|hey|good (?:morning|afternoon|evening))\b", re.IGNORECASE)
_CONDITION: Final = re.compile(r"(?:when|whenever) (I|we) ([^,]{2,60}), (?=(?:I|we|my)\b)", re.IGNORECASE)
_OTHER_CONDITION: Final = re.compile(
    r"(?:if|when|whenever|unless|once|in case|until|before|after|had)\b", re.IGNORECASE
)
_VALUES: Final = ("thing", "things", "subject", "good")
_MAX_SLOT: Final = 80


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact. ``slot`` is "" where several may be true; ``ttl`` is a value of ``ProfileTimeToLive``."""

    content: str
    slot: str
    ttl: str
    said: str


def find_facts(spoken: list[Sentence], skip: Set[int], grammar: Grammar) -> Iterator[Fact]:
    """The facts that these sentences state, in order; the sentences numbered in ``skip`` are not read."""
    for index, sentence in enumerate(spoken):
        if index in skip or sentence.held or grammar.guarded(sentence.plain, "speech"):
            continue
        sentence, when = _without_condition(sentence, grammar)
        greeted = index <= 1 and bool(_GREETING.search(spoken[0].plain[:30]))
        if _OTHER_CONDITION.match(sentence.bare):
            continue
        for clause in clauses(sentence, grammar):
            fact = _fact(clause, sentence.said, grammar, greeted)
            if fact is not None:
                yield fact if not when else _under(fact, when)
            greeted = greeted and is_trivial(f"hi {clause}", grammar)


def _without_condition(sentence: Sentence, grammar: Grammar) -> tuple[Sentence, str]:
    """The sentence without a leading "when I travel,", and that condition in the third person."""
    found = _CONDITION.match(sentence.plain)
    if found is None:
        return sentence, ""
    plain = sentence.plain[found.end() :]
    return replace(sentence, plain=plain, bare=without_leads(plain, grammar)[0]), third_person(f"{found[1]} {found[2]}")


def _under(fact: Fact, condition: str) -> Fact:
    return Fact(f"{fact.content.removesuffix('.')} when {condition}.", "", fact.ttl, fact.said)


def _fact(clause: str, said: str, grammar: Grammar, greeted: bool) -> Fact | None:
    text = without_trails(without_leads(clause, grammar)[0].strip(" ,."), grammar)
    if grammar.guarded(text, "sentence"):
        return None
    for pattern in grammar.profiles:
        if pattern.greeting and not greeted:
            continue
        match = pattern.match.fullmatch(text)
        if match is not None and (fact := _filled(pattern, match, text, said, grammar)):
            return fact
    return None


def _filled(pattern: Pattern, match: re.Match[str], text: str, said: str, grammar: Grammar) -> Fact | None:
    filler = Filler(match, grammar, of_rule=False)
    if is_refused(pattern, filler, text, grammar):
        return None
    content = filler.fill(pattern.say)
    slot = filler.fill(pattern.slot) or "" if pattern.slot else ""
    if content is None:
        return None
    return Fact(content, slot_name(slot), _ttl(pattern, text, grammar), said)


def is_refused(pattern: Pattern, filler: Filler, text: str, grammar: Grammar) -> bool:
    """Whether a match says nothing that lasts: vague, about the matter at hand, or no name of anybody."""
    if pattern.unless is not None and pattern.unless.search(text):
        return True
    if pattern.about_now and grammar.guarded(text, "one_off"):
        return True
    if any(_is_vague(name, filler, grammar) for name in _VALUES):
        return True
    name = (filler.value("name") or filler.value("proper")) if pattern.is_name else None
    return name is not None and (grammar.guarded(name, "no_names") or name.lower() in grammar.capitals)


def _is_vague(name: str, filler: Filler, grammar: Grammar) -> bool:
    value = filler.value(name)
    if value is None:
        return False
    if grammar.guards["vague"].match(value) or grammar.guarded(value, "dangling"):
        return True
    return name.startswith("thing") and filler.is_cut(name)


def slot_name(slot: str) -> str:
    """A slot as it stands in a tag: lower case, articles left out, at most 80 characters."""
    return re.sub(r"\b(?:a|an|the) ", "", " ".join(slot.lower().split()))[:_MAX_SLOT]


def _ttl(pattern: Pattern, text: str, grammar: Grammar) -> str:
    return next((ttl for ttl, sign in grammar.ttl.items() if sign.search(text)), pattern.ttl or "infinity")
