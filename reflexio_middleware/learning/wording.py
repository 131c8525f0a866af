"""Putting what a user said into the words of a learning: third person, verb forms, capitals."""

from __future__ import annotations

import re
from typing import Final

from .grammar import Grammar, place_of

_USER: Final = {
    "my": "their", "mine": "theirs", "i": "they", "me": "them", "myself": "themselves",
    "our": "their", "ours": "theirs", "we": "they", "us": "them", "ourselves": "themselves", "am": "are",
}  # fmt: skip
_AGENT: Final = {
    "my": "the user's", "mine": "the user's", "i": "the user", "me": "the user", "myself": "the user", "am": "is",
    "our": "the user's", "us": "the user", "we": "they",
}  # fmt: skip
_TAILS: Final = {"place": "place_tail", **dict.fromkeys(("thing", "things", "what", "rest"), "thing_tail")}
_SELF: Final = re.compile(r"(?<![\w'-])(?:my|mine|I|me|myself|our|ours|we|us|ourselves|am)(?![\w-])", re.IGNORECASE)
_PLACE: Final = re.compile(r"(\[?)([^\[\]<>]*)<([a-z]+)(?:\|(\w+))?>([^\[\]<>]*)(\]?)")
_DENY: Final = {
    "do not": "Does not", "no longer": "Does not", "cannot": "Cannot", "can not": "Cannot", "must not": "Must not",
    "should not": "Should not", "am not allowed to": "Is not allowed to", "am unable to": "Is unable to",
}  # fmt: skip


def third_person(text: str, *, of_rule: bool = False) -> str:
    """``text`` with the speaker named from outside: "my" is "their", in a rule "the user's"."""
    words = _AGENT if of_rule else _USER
    return _SELF.sub(lambda found: words.get(found[0].lower(), found[0]) if found[0] != "US" else "US", text)


def with_s(verb: str) -> str:
    """The third person singular of the first word of ``verb``."""
    first, _, rest = verb.partition(" ")
    if first == "have":
        first = "has"
    elif re.search(r"(?:s|x|z|ch|sh|o)$", first):
        first += "es"
    elif re.search(r"[^aeiou]y$", first):
        first = first[:-1] + "ies"
    else:
        first += "s"
    return f"{first} {rest}".strip()


def base_form(participle: str, grammar: Grammar) -> str | None:
    """The base form of a past participle ("checked": "check"), or None if it is not known."""
    word = participle.lower()
    if word in grammar.verbs:
        return grammar.verbs[word]
    if word.endswith("ied"):
        return word[:-3] + "y"
    if word.endswith(("eed", "ed")) and re.search(
        r"(?:ck|st|sk|nt|wn|il|in|rt|ow|ay|er|it|ll|ss|ch|sh|rm|ld|nd)ed$", word
    ):
        return word[:-2]
    return None


def with_capital(text: str) -> str:
    """``text`` with its first letter large."""
    return text[:1].upper() + text[1:]


class Filler:
    """Fills the ``<placeholders>`` of a pattern's sentences from a match."""

    def __init__(self, match: re.Match[str], grammar: Grammar, *, of_rule: bool, always: bool = False) -> None:
        self._match, self._grammar, self._of_rule, self._always = match, grammar, of_rule, always

    def fill(self, template: str) -> str | None:
        """The sentence, or None when it needs a word that was not caught. ``[...]`` is left out then."""
        missing = False

        def put(found: re.Match[str]) -> str:
            nonlocal missing
            opened, before, name, change, after, closed = found.groups()
            value = self._value(name, change)
            if value is None:
                missing = missing or not opened
                return ""
            return f"{before}{value}{after}{closed if not opened else ''}"

        text = _PLACE.sub(put, template)
        return None if missing else with_capital(re.sub(r"\s+([,.])", r"\1", " ".join(text.split())))

    def value(self, name: str) -> str | None:
        """What ``name`` caught, cleaned of what only trails behind it."""
        key = place_of(self._match, name)
        if key is None:
            return None
        text: str = self._match[key]
        if name in _TAILS and (tail := self._grammar.text[_TAILS[name]].search(text)):
            text = text[: tail.start()]
        for _ in range(4):
            text = text.strip(" ,;:-\u2013…\"'“”.") if name != "name" else text.strip(" ,;:-\u2013…\"'“”")
            shorter = self._grammar.text["trails"].sub("", text)
            if shorter == text:
                break
            text = shorter
        if name == "bad" and (late := self._grammar.text["lasting_after"].search(text)):
            text = text[: late.start()]
        return text.strip() or None

    def is_cut(self, name: str) -> bool:
        """Whether what ``name`` caught ends in the middle of a thought."""
        key = place_of(self._match, name)
        return key is not None and not self._grammar.text["follows"].match(self._match.string[self._match.end(key) :])

    def _value(self, name: str, change: str | None) -> str | None:
        if name == "always":
            return "Always " if self._always else ""
        if name == "whole":
            return third_person(self._match[0].strip(" ."), of_rule=self._of_rule)
        text = self.value(name)
        if text is None:
            return "" if name in ("rest", "called") else None
        space = " " if name in ("rest", "called") else ""
        changed = self._changed(text, change)
        return None if changed is None else space + third_person(changed, of_rule=self._of_rule)

    def _changed(self, text: str, change: str | None) -> str | None:
        if change == "s":
            return with_s(text.lower())
        if change == "sT":
            return with_capital(with_s(text.lower()))
        if change == "title":
            return " ".join(with_capital(word) for word in text.split()) if text.islower() else with_capital(text)
        if change == "cap":
            return with_capital(text)
        if change == "low":
            return text[:1].lower() + text[1:]
        if change == "city":
            short = text.islower() and len(text.split()) <= 2 and not text.startswith(("a ", "an ", "the "))
            return " ".join(map(with_capital, text.split())) if short else text
        if change == "nation":
            words = text.split(" ")
            return " ".join(with_capital(w) if w.lower().strip(",") in self._grammar.capitals else w for w in words)
        if change == "deny":
            return _DENY.get(text.lower(), with_capital(text))
        if change in ("base", "base_low"):
            base = base_form(text, self._grammar)
            return base if base is None or change == "base_low" else with_capital(base)
        return text
