"""What users tell the agent to do: standing orders, manners of answering, corrections."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from .facts import is_refused, slot_name
from .grammar import Grammar, Pattern
from .sentences import Sentence, without_leads
from .wording import Filler

_POLITE_QUESTION: Final = re.compile(r"(?:can|could|would|will) (?:you|we)\b", re.IGNORECASE)
_ALWAYS: Final = re.compile(r"\b(?:always|at all times|every time)\b", re.IGNORECASE)
_PLEASE: Final = re.compile(r"\b(?:please|pls|plz|kindly)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``manner`` tells that it holds for every request; ``trigger`` stands alone, ``about`` is a topic
    for the trigger; ``sentence`` is the number of the sentence in which it was ``said``."""

    content: str
    manner: str
    trigger: str
    about: str
    slot: str
    why: str
    said: str
    sentence: int


@dataclass(frozen=True, slots=True)
class _Order:
    """A sentence without what surrounds the order in it, and what that told."""

    text: str
    denial: bool = False
    lasting: bool = False
    always: bool = False
    please: bool = False


def find_rules(spoken: list[Sentence], grammar: Grammar, *, answered: bool) -> list[Rule]:
    """The rules that these sentences state, in order. ``answered`` says that they reply to the agent."""
    found: list[Rule] = []
    denied = False
    for index, sentence in enumerate(spoken):
        order = _order(sentence, grammar, denied)
        denied = order.denial and not order.text
        if sentence.held or not order.text:
            continue
        if sentence.asks and not _POLITE_QUESTION.match(order.text):
            continue
        peeled = _peeled(order, grammar)
        for form in (order, peeled) if peeled != order else (order,):
            rule = _rule(form, sentence.said, index, grammar, answered)
            if rule is not None:
                found.append(rule)
                break
    return found


def _order(sentence: Sentence, grammar: Grammar, denied: bool) -> _Order:
    text = sentence.bare
    denial = grammar.text["denials"].match(text)
    if denial is not None:
        text, denied = without_leads(text[denial.end() :], grammar)[0], True
        while again := grammar.text["denials"].match(text):
            text = text[again.end() :]
    return _Order(_trimmed(text, grammar), denial=denied, please=bool(_PLEASE.search(sentence.plain)))


def _trimmed(text: str, grammar: Grammar) -> str:
    for _ in range(3):
        text = grammar.text["trails"].sub("", text.strip(" ,?"))
    return text


def _peeled(order: _Order, grammar: Grammar) -> _Order:
    """The order without "please", "could you", "from now on", ... around it."""
    text, lasting, always = order.text, False, False
    for _ in range(8):
        before = text
        for name in ("lasting_before", "polite_before", "lasting_after"):
            found = (grammar.text[name].search if name.endswith("after") else grammar.text[name].match)(text)
            if found is None:
                continue
            text = _trimmed(text[: found.start()] + text[found.end() :], grammar)
            lasting = lasting or name.startswith("lasting")
            always = always or bool(name.startswith("lasting") and _ALWAYS.search(found[0]))
        if text == before:
            break
    return _Order(text, order.denial, lasting, always, order.please)


def _rule(order: _Order, said: str, index: int, grammar: Grammar, answered: bool) -> Rule | None:
    met = _met(order, answered)
    for pattern in grammar.rules:
        if pattern.needs not in met:
            continue
        match = pattern.match.fullmatch(order.text)
        if match is not None:
            rule = _filled(pattern, match, order, said, index, grammar)
            if rule is not None:
                return rule
    return None


def _met(order: _Order, answered: bool) -> frozenset[str]:
    """Which needs of patterns are met."""
    met = {
        "": True,
        "answer": answered,
        "denial": answered and order.denial,
        "lasting": order.lasting,
        "please_or_lasting": order.lasting or order.please,
    }
    return frozenset(name for name, is_met in met.items() if is_met)


def _filled(
    pattern: Pattern, match: re.Match[str], order: _Order, said: str, index: int, grammar: Grammar
) -> Rule | None:
    filler = Filler(match, grammar, of_rule=True, always=order.always)
    if is_refused(pattern, filler, order.text, grammar):
        return None
    if pattern.once and grammar.guarded(filler.value("situation") or "", pattern.once):
        return None
    content = filler.fill(pattern.say)
    if content is None:
        return None
    trigger = filler.value("situation") if pattern.trigger else ""
    about = filler.fill(pattern.about) or "" if pattern.about else ""
    slot = slot_name(filler.fill(pattern.slot) or "") if pattern.slot else ""
    return Rule(content, pattern.manner, trigger or "", about, slot, pattern.why, said, index)
