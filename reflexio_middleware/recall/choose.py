"""Choosing the few learnings that fit a prompt: relevant enough, within a budget, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from reflexio_middleware.recall.render import TokenCounter, estimate_tokens, id_of, kind_of, line_of, render, tags_of
from reflexio_store.contract import Learnings, Scored
from reflexio_store.models import STANDING, Learning, LearningKind, LearningQuery, PlaybookStatus, UserPlaybook

MIN_COVERAGE: Final = 0.26
"""Share of the query's weight (by rarity of its words) that a learning must cover to be recalled: more than one word
in four."""
RELATIVE_COVERAGE: Final = 0.5
"""The same, relative to the best learning found for the query."""
MIN_SHARE: Final = 0.3
"""Or: share of the learning's own words that the query must name. A long request may touch a short fact."""
_POOL: Final = 20


@dataclass(frozen=True, slots=True)
class Recall:
    """What was recalled for a prompt. Falsy when nothing fits.

    Attributes:
        text: The finished block, or ``""``.
        learnings: The learnings in it, in its order.
        reason: Why there is nothing, where that was not a matter of relevance: ``"timeout"``, ``"error"``,
            ``"circuit open"``, ``"holdout"``, ``"closed"``.
        experiment: The experiment that the user is part of, and the arm: ``"treatment"`` or ``"holdout"``.
    """

    text: str = ""
    learnings: Sequence[Learning] = field(default=())
    reason: str = ""
    experiment: tuple[str, str] | None = None

    def __bool__(self) -> bool:
        return bool(self.learnings)

    def __str__(self) -> str:
        return self.text

    @property
    def retrieved(self) -> list[dict[str, str]]:
        """The learnings as ``retrieved_learnings`` of an interaction: ``{"kind", "learning_id", "tag"}``."""
        tagged = zip(self.learnings, tags_of(self.learnings), strict=True)
        return [{"kind": kind_of(item), "learning_id": id_of(item), "tag": tag} for item, tag in tagged]


def choose(
    store: Learnings,
    query: str,
    *,
    user_id: str,
    agent_version: str,
    top_k: int = 5,
    token_budget: int = 400,
    count_tokens: TokenCounter = estimate_tokens,
) -> Recall:
    """The learnings that fit ``query``: of this user, of this agent version, and approved ones of all users.

    Rules of this user that apply to every request come first (only if the query says anything at all), then what
    matches best. Without ``user_id`` nothing personal is looked for.

    Args:
        store: Where the learnings are.
        query: The user's message.
        user_id: Whose learnings; ``""`` for nobody.
        agent_version: Playbooks of other versions are left out.
        top_k: Most learnings of one kind.
        token_budget: Most tokens of the block, as ``count_tokens`` counts them.
        count_tokens: Counts the tokens of a text.
    """
    chosen: list[Learning] = []
    if user_id:
        personal = LearningQuery(user_id=user_id, agent_version=agent_version, query=query, top_k=_POOL)
        rules = _fitting(store, "user_playbook", personal)
        facts = _fitting(store, "profile", personal.model_copy(update={"agent_version": None}))
        standing = store.get_learnings(
            "user_playbook", personal.model_copy(update={"tags": [STANDING], "top_k": top_k, "query": None})
        )
        always = [item for item in standing if isinstance(item, UserPlaybook)] if _says_something(query) else []
        chosen += _once([*always, *rules])[:top_k] + facts[:top_k]
    shared = LearningQuery(
        agent_version=agent_version, query=query, top_k=_POOL, playbook_status_filter=[PlaybookStatus.APPROVED]
    )
    chosen += _fitting(store, "agent_playbook", shared)[:top_k]
    kept = _within(chosen, token_budget, count_tokens)
    return Recall(render(kept), tuple(kept))


def _says_something(query: str) -> bool:
    return sum(char.isalnum() for char in query) >= 8


def _fitting(store: Learnings, kind: LearningKind, query: LearningQuery) -> list[Learning]:
    found: Sequence[Scored[Learning]] = store.search_learnings(kind, query)
    best = max((item.coverage for item in found), default=0.0)
    floor = max(MIN_COVERAGE, RELATIVE_COVERAGE * best)
    return [item.learning for item in found if item.coverage >= floor or item.share >= MIN_SHARE]


def _once(learnings: Sequence[Learning]) -> list[Learning]:
    return list({(kind_of(item), id_of(item)): item for item in learnings}.values())


def _within(learnings: Sequence[Learning], budget: int, count_tokens: TokenCounter) -> list[Learning]:
    """The longest prefix-by-preference whose block keeps the budget: what does not fit is passed over."""
    kept: list[Learning] = []
    left = budget - count_tokens(render(learnings[:1])) + count_tokens(line_of(learnings[0])) if learnings else 0
    for learning in learnings:
        cost = count_tokens(line_of(learning)) + 4  # bullet, tag, line break
        if cost <= left:
            kept.append(learning)
            left -= cost
    while kept and count_tokens(render(kept)) > budget:
        kept.pop()
    return kept
