"""Whether a learning is relevant enough for a question, and whether two say the same.

The floors are relative to what the question could attain, so that small and large memories behave alike. They were
calibrated on one half of ``tests/benchmarks/recall_prompts.toml`` and measured on the other.
"""

from __future__ import annotations

import re
from typing import Any, Final

from reflexio_store.contract import Fresh, Scored

MIN_COVERAGE: Final = 0.3
"""Share of the question's weight (by rarity of its words) that a learning must cover."""
RELATIVE_COVERAGE: Final = 0.5
"""The same, relative to the best learning found for the question."""
MIN_SHARE: Final = 0.3
"""Or: share of a fact's own words that the question must name. A long request may touch a short fact."""
MIN_TRIGGER_SHARE: Final = 0.6
"""The same of a rule's trigger, which is worded as a request: most of it."""
COSINE: Final[dict[str, float]] = {"all-MiniLM-L6-v2": 0.4}
"""Or: cosine that a learning must have, by model. For a model that is not measured, meaning orders, but admits nothing
by itself."""
_SAME: Final = 0.8  # of the words of the longer one
_WORD: Final = re.compile(r"\w+")
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


def why(found: Scored[Any], best_coverage: float, cosine_floor: float | None) -> str:
    """Why a learning is relevant enough, in words; ``""`` where it is not."""
    if cosine_floor is not None and found.cosine is not None and found.cosine >= cosine_floor:
        return f"its meaning is near (cosine {found.cosine:.2f})"
    if found.coverage >= max(MIN_COVERAGE, RELATIVE_COVERAGE * best_coverage):
        return f"it has the words of the question ({found.coverage:.0%} of their weight)"
    if found.share >= (MIN_TRIGGER_SHARE if getattr(found.learning, "trigger", None) else MIN_SHARE):
        return f"the question names {found.share:.0%} of its words"
    return ""


def fits(found: Fresh, best_coverage: float) -> bool:
    """Whether a message that nobody has learned from yet is relevant enough: by the floors of a fact."""
    return found.coverage >= max(MIN_COVERAGE, RELATIVE_COVERAGE * best_coverage) or found.share >= MIN_SHARE


def same_words(one: str, other: str) -> bool:
    """Whether two texts say the same in nearly the same words; a negation makes a difference."""
    mine, theirs = set(_WORD.findall(one.casefold())), set(_WORD.findall(other.casefold()))
    if (mine ^ theirs) & _NEGATIONS:
        return False
    return len(mine & theirs) >= _SAME * max(len(mine), len(theirs), 1)


_NEGATIONS: Final = frozenset(["not", "no", "never", "don", "dont", "doesn", "isn", "without", "except", "unless"])
