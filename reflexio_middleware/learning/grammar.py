"""The patterns of the statements extractor, read once from ``patterns/<language>.toml`` and compiled once.

The file itself explains its form to whoever wants to extend it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Final

_PLACEHOLDER: Final = re.compile(r"(?<!\(\?P)<([a-z]+)(\d*)>")
_LIST: Final = re.compile(r"\{([a-z]+)\}")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One ``[[profile]]`` or ``[[rule]]`` of a pattern file, compiled. The file's header says what each part means."""

    match: re.Pattern[str]
    say: str
    slot: str = ""
    unless: re.Pattern[str] | None = None
    ttl: str = ""
    manner: str = ""
    needs: str = ""
    about: str = ""
    trigger: str = ""
    why: str = "order"
    about_now: bool = False
    is_name: bool = False
    greeting: bool = False
    once: str = ""


@dataclass(frozen=True, slots=True)
class Grammar:
    """Everything that a pattern file says."""

    profiles: tuple[Pattern, ...]
    rules: tuple[Pattern, ...]
    text: Mapping[str, re.Pattern[str]]
    guards: Mapping[str, re.Pattern[str]]
    ttl: Mapping[str, re.Pattern[str]]
    verbs: Mapping[str, str]
    trivial: frozenset[str] = field(default=frozenset())
    capitals: frozenset[str] = field(default=frozenset())

    def guarded(self, text: str, *names: str) -> bool:
        """Whether one of the named guards finds something in ``text``."""
        return any(self.guards[name].search(text) for name in names)


@cache
def load_grammar(language: str = "en") -> Grammar:
    """The grammar of a language.

    Raises:
        FileNotFoundError: There is no pattern file for it.
        ValueError: The file names a list or shape that it does not have, or holds a wrong regular expression.
    """
    source = files("reflexio_middleware.learning").joinpath("patterns", f"{language}.toml")
    return compile_grammar(tomllib.loads(source.read_text(encoding="utf-8")))


def compile_grammar(data: Mapping[str, Any]) -> Grammar:
    """The grammar that a decoded pattern file describes; ``ValueError`` if it is wrong."""
    words: Mapping[str, list[str]] = data["words"]
    lists = {name: "(?:" + "|".join(sorted(items, key=len, reverse=True)) + ")" for name, items in words.items()}
    shapes: Mapping[str, str] = data["shapes"]
    capitals = {part for name in ("languages", "nationalities") for item in words[name] for part in item.split()}
    return Grammar(
        profiles=tuple(_pattern(item, lists, shapes, tail=r"(?:\s*[,;(].*|:\s.*)?") for item in data["profile"]),
        rules=tuple(_pattern(item, lists, shapes, tail="") for item in data["rule"]),
        text=_compiled(_anchored(data["text"], data["orders"]), lists),
        guards=_compiled(data["guards"], lists),
        ttl=_compiled(data["ttl"], lists),
        verbs=data["verbs"],
        trivial=frozenset(words["trivial"]),
        capitals=frozenset(capitals - {"plain", "sign", "language"}),
    )


def _anchored(text: Mapping[str, str], orders: Mapping[str, str]) -> dict[str, str]:
    """The tables of plain alternatives, bound to where they stand: at the beginning or the end of a sentence."""
    values = {
        **text,
        "denials": rf"(?:{text['denials']})(?:\s*[,:;.!\u2013-]+\s*|$)",
        "pastes": rf"(?:{text['pastes']})[^:.?!\n]{{0,60}}:(?=\s)",
        "pasted_below": rf"(?:{text['pasted_below']})[.?!]?[ \t]*\n|{text['pasted_mail']}",
        "speakers": rf"(?m:^)[ \t]*(?:\[?\d{{1,2}}:\d{{2}}[\d:apm \]]{{0,8}})?(?!(?:{text['labels']}):)"
        r"(?P<who>(?-i:[A-Z])[\w.'-]{0,24}(?: (?-i:[A-Z])[\w.'-]{0,24})?):[ \t](?P<own>.*\b(?:I|we|my|our)\b)?",
    }
    for name, alternatives in orders.items():
        values[f"{name}_before"] = rf"(?:{alternatives})\b[,:]?\s+"
        values[f"{name}_after"] = rf"[,\s]+(?:{alternatives})$"
    return values


def _compiled(table: Mapping[str, str], lists: Mapping[str, str]) -> dict[str, re.Pattern[str]]:
    return {name: _regex(text, lists, {}) for name, text in table.items()}


def _pattern(item: Mapping[str, Any], lists: Mapping[str, str], shapes: Mapping[str, str], tail: str) -> Pattern:
    values = dict(item)
    values["match"] = _regex(f"(?:{values['match']}){tail}", lists, shapes)
    if "unless" in values:
        values["unless"] = _regex(values["unless"], lists, shapes)
    try:
        return Pattern(**values)
    except TypeError as error:
        raise ValueError(f"pattern file: {item.get('say', item)!r}: {error}") from error


def _regex(text: str, lists: Mapping[str, str], shapes: Mapping[str, str]) -> re.Pattern[str]:
    seen: set[str] = set()

    def shape(found: re.Match[str]) -> str:
        name = found[1] + found[2]
        body = f"(?:{shapes[found[1]]})"
        if name in seen:
            return body
        seen.add(name)
        return f"(?P<{name}>{body})"

    try:
        expanded = _LIST.sub(lambda found: lists[found[1]], _PLACEHOLDER.sub(shape, text))
        return re.compile(expanded, re.IGNORECASE)
    except (KeyError, re.error) as error:
        raise ValueError(f"pattern file: {error} in {text[:80]!r}") from error


def place_of(match: re.Match[str], name: str) -> str | None:
    """The group that caught the placeholder ``name``: the first of its places (``place``, ``place2``, ...) in use."""
    groups = match.groupdict()
    return next((key for key in (name, *(f"{name}{n}" for n in range(2, 10))) if groups.get(key)), None)
