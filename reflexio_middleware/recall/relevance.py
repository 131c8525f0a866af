"""Whether a learning is relevant enough for a question, and whether two say the same.

The floors are relative to what the question could attain, and rise with the number of learnings that were searched, so
that small and large memories behave alike: the more there are, the better fits the best of those that do not. They were
calibrated on one half of the prompts of ``tests/benchmarks/recall_silence.py`` and measured on the other
(``recall.py --embedder --fit`` shows how).
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

from reflexio_store.contract import Floors, Fresh, Meaning, Scored

MIN_COVERAGE: Final = 0.3
"""Share of the question's weight (by rarity of its words) that a learning must cover."""
RELATIVE_COVERAGE: Final = 0.5
"""The same, relative to the best learning found for the question."""
MIN_SHARE: Final = 0.3
"""Or: share of a fact's own words that the question must name. A long request may touch a short fact."""
MIN_TRIGGER_SHARE: Final = 0.6
"""The same of a rule's trigger, which is worded as a request: most of it."""
COSINE: Final[dict[str, float]] = {"all-MiniLM-L6-v2": 0.375}
"""For models that were measured: what cosine and coverage, weighed as below, must have together, in place of the
coverage alone. For other models meaning orders, but admits nothing by itself, unless a floor is set."""
COVERAGE_WEIGHT: Final = 0.25
"""What a full coverage counts beside the cosine (a logistic regression found 0.2)."""
_USUAL: Final = 50
"""The number of learnings that the floors hold for."""
_FEWEST, _MOST = 10, 500
"""Among fewer the floors sink no further, among more they rise no further: nothing was measured there."""
_WORDS_STEP: Final = 0.03
_COSINE_STEP: Final = 0.02
"""By how much they rise with each doubling. What 95 of 100 prompts that fit nothing stay below was measured to rise by
0.02 to 0.035, among 6 learnings to 500."""
_SAME: Final = 0.8  # of the words of the longer one
_WORD: Final = re.compile(r"\w+")
_MEDIA: Final = re.compile(r"^\[(?:image|audio|video|file|document|data)(?:: .*)?\]$", re.MULTILINE)
"""A line by which capture names what is no text in a message: its type, size and hash, or its address."""
_SMALL_TALK: Final = frozenset(
    "a again ahead all alright am and are awesome bye cheers continue cool done evening excellent fine for go good "  # noqa: SIM905
    "goodbye got great haha hello hey hi hmm i im is it k later lol me more morning much next nice night no nope now "
    "ok okay perfect please right see so sounds sure thank thanks that there this thx ty understand understood very "
    "was welcome well what works wow yeah yep yes you afternoon".split()
)


def says_something(query: str) -> bool:
    """Whether a message is about anything: not a greeting, thanks or assent, and not only signs."""
    words = _WORD.findall(query.casefold())
    return sum(map(len, words)) >= 3 and any(word not in _SMALL_TALK for word in words)


def asked_for(query: str) -> str:
    """What is looked for: the words of a message, without the names of its media; these where there is nothing else."""
    return _MEDIA.sub("", query).strip() or query


def floors_of(meaning: Meaning | None, among: int) -> Floors:
    """What a learning must reach in something among so many; what does not, :func:`why` refuses, whatever else is
    found."""
    return Floors(_min_coverage(among), _min_share(among), MIN_TRIGGER_SHARE, _least_cosine(meaning, among))


def _min_coverage(among: int) -> float:
    return MIN_COVERAGE + _WORDS_STEP * _doublings(among)


def _min_share(among: int) -> float:
    """It does not sink: among few a word of four is as little as among many."""
    return MIN_SHARE + _WORDS_STEP * max(0.0, _doublings(among))


def _doublings(among: int) -> float:
    """How often the usual number doubles to make this one, below 0 for fewer; a number that nobody knows is usual."""
    return math.log2(min(max(among, _FEWEST), _MOST) / _USUAL) if among else 0.0


def _least_cosine(meaning: Meaning | None, among: int) -> float | None:
    if meaning is None:
        return None
    if meaning.floor is not None:
        return meaning.floor
    measured = COSINE.get(meaning.model)
    if measured is None:
        return None
    return measured + _COSINE_STEP * _doublings(among) - COVERAGE_WEIGHT * _min_coverage(among)


def why(found: Scored[Any], best_coverage: float, meaning: Meaning | None, among: int) -> str:
    """Why a learning is relevant enough among so many, in words; ``""`` where it is not."""
    measured = COSINE.get(meaning.model) if meaning is not None and meaning.floor is None else None
    if measured is not None and found.cosine is not None:
        near = found.cosine + COVERAGE_WEIGHT * found.coverage >= measured + _COSINE_STEP * _doublings(among)
        admits = f"its meaning is near (cosine {found.cosine:.2f}, {_covered(found)})" if near else ""
    else:
        admits = _why_alone(found, best_coverage, meaning.floor if meaning is not None else None, among)
    if not admits and found.share >= (
        MIN_TRIGGER_SHARE if getattr(found.learning, "trigger", None) else _min_share(among)
    ):
        return f"the question names {found.share:.0%} of its words"
    return admits


def _why_alone(found: Scored[Any], best_coverage: float, floor: float | None, among: int) -> str:
    """Why its meaning alone, or its words alone, admit a learning."""
    if floor is not None and found.cosine is not None and found.cosine >= floor:
        return f"its meaning is near (cosine {found.cosine:.2f})"
    if found.coverage >= max(_min_coverage(among), RELATIVE_COVERAGE * best_coverage):
        return f"it has the words of the question ({_covered(found)})"
    return ""


def _covered(found: Scored[Any]) -> str:
    return f"{found.coverage:.0%} of the weight of the question's words"


def fits(found: Fresh, best_coverage: float) -> bool:
    """Whether a message that nobody has learned from yet is relevant enough: by the floors of a fact."""
    return found.coverage >= max(MIN_COVERAGE, RELATIVE_COVERAGE * best_coverage) or found.share >= MIN_SHARE


def words_in(text: str) -> frozenset[str]:
    """The words of a text as they are, to be compared by :func:`says_same`."""
    return frozenset(_WORD.findall(text.casefold()))


def says_same(mine: frozenset[str], theirs: frozenset[str]) -> bool:
    """Whether two texts of these words say the same in nearly the same words; a negation makes a difference."""
    if (mine ^ theirs) & _NEGATIONS:
        return False
    return len(mine & theirs) >= _SAME * max(len(mine), len(theirs), 1)


_NEGATIONS: Final = frozenset(["not", "no", "never", "don", "dont", "doesn", "isn", "without", "except", "unless"])
