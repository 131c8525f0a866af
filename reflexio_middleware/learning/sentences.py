"""From a message to the sentences and clauses in which its user speaks for themselves.

Quotations, code, pasted text, echoes of recalled memory and fiction are taken out here, so that no pattern sees them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .grammar import Grammar

MAX_CHARACTERS: Final = 20_000
"""How much of a message is read, in characters."""
MAX_SENTENCES: Final = 200
_MAX_SENTENCE: Final = 320
HELD: Final = ("secrets", "others", "supposed")
"""Guards of a whole sentence that several readers go by: each is looked for once."""

_MEMORY: Final = re.compile(r"<reflexio_memory\b", re.IGNORECASE)
_MEMORY_END: Final = re.compile(r"</reflexio_memory>", re.IGNORECASE)
_FENCE: Final = re.compile(r"^[ \t]*(```|~~~)", re.MULTILINE)
_QUOTED_LINE: Final = re.compile(r"^[ \t]*(?:[>|].*|\$ (?=[a-z./~]).*(?:\n(?![ \t]*$).+)*)$", re.MULTILINE)
"""A quoted line, or the command of a shell with what it printed."""
_EMPHASIS: Final = re.compile(r"(?<![\w*])(\*{1,3})(?=[^\s*])([^*\n]+)(?<=[^\s*])\1(?![\w*])")
_QUOTES: Final = (
    re.compile(r'"([^"\n]{1,2000})"'),
    re.compile(r"“([^”\n]{1,2000})”"),
    re.compile(r"«([^»\n]{1,2000})»"),
    re.compile(r"(?<!\w)'((?:[^'\n]|(?<=\w)'(?=\w)){1,500})'(?!\w)"),
)
_SPLIT: Final = re.compile(
    r"(?<!\bDr\.)(?<!\bMr\.)(?<!\bMs\.)(?<!\bMrs\.)(?<!\bSt\.)(?<!\bNo\.)(?<!\bvs\.)(?<!\be\.g\.)(?<!\bi\.e\.)"
    r"(?<=[.!?…;])[)\]]{0,3}\s+|\n+|(?<![^\S\n])[^\S\n]+[\u2013\u2014-]{1,2}\s+",
)
_STRAIGHT: Final = {0x2018: "'", 0x2019: "'"}
_COLON: Final = re.compile(r":\s")
_LIST_MARK: Final = re.compile(r"^\s*(?:[\u2013\u2014*•-]|\d{1,2}[.)])\s+")
_CONTRACTIONS: Final = (
    (re.compile(r"\bcan'?t\b|\bcan not\b", re.IGNORECASE), "cannot"),
    (re.compile(r"\bwon't\b", re.IGNORECASE), "will not"),
    (re.compile(r"\bdont\b", re.IGNORECASE), "do not"),
    (re.compile(r"(?<=[a-z])n't\b", re.IGNORECASE), " not"),
    (re.compile(r"\b(i)'?m\b", re.IGNORECASE), "I am"),
    (re.compile(r"\b(i)'?ve\b|\b(we|you|they)'ve\b", re.IGNORECASE), r"\1\2 have"),
    (re.compile(r"\b(i|we|you|they|he|she|it)'ll\b", re.IGNORECASE), r"\1 will"),
    (re.compile(r"\b(i|we|you|they|he|she)'d\b", re.IGNORECASE), r"\1 would"),
    (re.compile(r"\b(we|you|they)'re\b", re.IGNORECASE), r"\1 are"),
    (re.compile(r"\b(it|that|he|she|there|what|here|where|who|how|name)'s\b", re.IGNORECASE), r"\1 is"),
    (re.compile(r"\bthats\b", re.IGNORECASE), "that is"),
    (re.compile(r"\bi\b(?!\.)"), "I"),
)
_UNMARKED: Final = tuple(item for item in _CONTRACTIONS if item[0].search("cant dont im ive i thats"))
"""Those of them that are written without an apostrophe, too."""
_ASKS: Final = re.compile(
    r"(?:what|which|who|whose|whom|where|why|how|do(?! not)|does|did|is|are|am|was|were|will|would|could|can|should"
    r"|shall|may|has|had)\b",
    re.IGNORECASE,
)
_TAG_QUESTION: Final = re.compile(r",? (?:right|correct|no|yes|ok|okay|huh|eh|am I not|do I not)\?$", re.IGNORECASE)
_QUESTION_PART: Final = re.compile(
    r",? (?:so |and |but |then )?(?=(?:what|which|where|how|who|why|when|can you|can I|could you|could I|should I"
    r"|do you|do I|am I|does|is there|are there|is it|is that|any|would you|will|may I|what's)\b)",
    re.IGNORECASE,
)
_CLAUSES: Final = re.compile(
    r"(?:,\s*|\s+)(?:and|but|so|because|since|as|though|although|which is why|whereas|while|plus|also) "
    r"(?=(?:I|we|my|our)\b)|[,:]\s+(?=(?:I|we|my|our|by the way|what|so|it|it's|but|now (?:I|we))\b)|\s*\(|\)\s*",
    re.IGNORECASE,
)
_SUBJECT: Final = re.compile(r"(?:I|we|my)\b(?!.*\b(?:who|that|which|those|the|not|never|cannot)\b)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence: as ``said``, and ``plain`` (contractions spelt out, no final stop). ``asks``: it is a question;
    ``bare`` is ``plain`` without what leads up to it, ``held`` names those of :data:`HELD` that keep it back."""

    said: str
    plain: str
    asks: bool
    bare: str
    held: frozenset[str]


def without_memory(text: str) -> str:
    """``text`` without the blocks that recall put there; one that is never closed reaches to the end."""
    parts: list[str] = []
    place = 0
    while found := _MEMORY.search(text, place):
        parts.append(text[place : found.start()])
        end = _MEMORY_END.search(text, found.end())
        if end is None:
            return "".join(parts)
        place = end.end()
    return "".join([*parts, text[place:]])


def sentences(message: str, grammar: Grammar) -> list[Sentence]:
    """The sentences of a user's message that are the user's own and meant as said, in order."""
    text = _own_words(message, grammar)
    if grammar.guarded(text, "message"):
        return []
    found: list[Sentence] = []
    for part in _SPLIT.split(text):
        said = _LIST_MARK.sub("", part).strip()
        if not 2 <= len(said) <= _MAX_SENTENCE or not any(map(str.isalpha, said)):
            continue
        sentence = _sentence(said, grammar)
        if any(grammar.guarded(text, "fiction") for text in {sentence.plain, sentence.bare}):
            break
        if found and grammar.guarded(sentence.bare, "retraction"):
            found.pop()
        found.append(sentence)
        if len(found) == MAX_SENTENCES:
            break
    return found


def _own_words(message: str, grammar: Grammar) -> str:
    text = without_memory(message[:MAX_CHARACTERS]).translate(_STRAIGHT).replace("\r", "\n")
    text = _EMPHASIS.sub(r"\2", _QUOTED_LINE.sub("", _without_code(text)))
    text = _before_a_paste(text, grammar)
    for quotes in _QUOTES:
        text = quotes.sub(lambda match: match[1] if len(match[1].split()) <= 2 else "…", text)
    return text


def _before_a_paste(text: str, grammar: Grammar) -> str:
    """The text up to what somebody else wrote: below the line that says so, a mail, or a conversation of several."""
    if _COLON.search(text) and (paste := grammar.text["pastes"].search(text)):
        text = text[: paste.end()].rstrip(": ")
    if "\n" in text and (paste := grammar.text["pasted_below"].search(text)):
        text = text[: paste.end()]
    speakers = list(grammar.text["speakers"].finditer(text)) if _COLON.search(text) else []
    if len({said["who"] for said in speakers}) > 1 and any(said["own"] for said in speakers):
        text = text[: speakers[0].start()]
    return text


def _without_code(text: str) -> str:
    parts = _FENCE.split(text)  # text, fence, code, fence, text, ...
    return "\n".join(parts[0::4])


def _sentence(said: str, grammar: Grammar) -> Sentence:
    plain = " ".join(said.split())
    for contraction, full in _CONTRACTIONS if "'" in plain else _UNMARKED:
        plain = contraction.sub(full, plain)
    asks = plain.rstrip("!)\"'").endswith("?") or bool(_ASKS.match(plain))
    plain = plain.rstrip(" .!;…")
    held = frozenset(name for name in HELD if grammar.guarded(plain, name))
    return Sentence(said=said, plain=plain, asks=asks, bare=without_leads(plain, grammar)[0], held=held)


def without_leads(text: str, grammar: Grammar) -> tuple[str, str]:
    """``text`` without the words that only lead up to it, and those words."""
    rest, taken = text, ""
    for _ in range(5):
        lead = grammar.text["leads"].match(rest)
        if lead is None:
            break
        taken += lead[0] + " "
        rest = rest[lead.end() :]
    return rest, taken


def without_trails(text: str, grammar: Grammar) -> str:
    """``text`` without the words that only trail behind it (up to three groups of them)."""
    for _ in range(3):
        before, text = text, grammar.text["trails"].sub("", text)
        if text == before:
            break
    return text


def clauses(sentence: Sentence, grammar: Grammar) -> Iterator[str]:
    """The parts of a sentence that state something, each beginning with its subject; a question states nothing."""
    text = sentence.plain
    if sentence.asks:
        if _ASKS.match(sentence.bare) or _TAG_QUESTION.search(text):
            return
        cut = _QUESTION_PART.search(text)
        if cut is None or not cut.start():
            return
        text = text[: cut.start()]
    for part in _CLAUSES.split(text):
        yield from _spelled_out(part.strip(" ,?"), grammar)


def _spelled_out(clause: str, grammar: Grammar) -> Iterator[str]:
    """``I live here and work there`` as two clauses with a subject each."""
    parts = grammar.text["elided"].split(clause)
    if not _SUBJECT.match(without_leads(parts[0], grammar)[0]):
        parts = [clause]
    yield parts[0]
    yield from (f"I {part}" for part in parts[1:])
