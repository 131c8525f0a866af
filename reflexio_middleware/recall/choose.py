"""Choosing the few learnings that fit a prompt: relevant enough, within a budget, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from reflexio_middleware.recall.relevance import asked_for, fits, floors_of, says_same, says_something, why, words_in
from reflexio_middleware.recall.render import (
    TokenCounter,
    estimate_tokens,
    id_of,
    kind_of,
    line_of,
    one_line,
    render,
    tags_of,
)
from reflexio_store.contract import Answers, Fresh, Meaning, Store
from reflexio_store.models import (
    STANDING,
    Interaction,
    Learning,
    LearningKind,
    LearningQuery,
    PlaybookStatus,
    UserPlaybook,
    UserProfile,
)

_POOL: Final = 2  # candidates for each learning that may be shown: some say the same
_FRESH: Final = 100  # turns, the newest, that are looked at where nobody has learned from them
_BULLET: Final = 4  # tokens of a line beside its text: bullet, tag, line break

Near = Callable[[Meaning, Sequence[str]], Sequence[float | None]]
"""The cosines of texts and a meaning; None where one is not to be had."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A learning that was chosen, and why.

    Attributes:
        learning: The learning.
        score: How well its words match (BM25; None: words did not matter).
        coverage: Share (0 to 1) of the question's weight, by rarity of its words, that it covers.
        similarity: Cosine of its meaning and the question's, where both have vectors.
        reason: Why it was chosen, in words.
    """

    learning: Learning
    score: float | None = None
    coverage: float | None = None
    similarity: float | None = None
    reason: str = ""

    @property
    def noted(self) -> dict[str, Any]:
        """It as an entry of ``retrieved_learnings``, without its tag."""
        given = {"score": self.score, "coverage": self.coverage, "similarity": self.similarity}
        rounded = {name: round(value, 4) for name, value in given.items() if value is not None}
        return {"kind": kind_of(self.learning), "learning_id": id_of(self.learning), **rounded, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Recall:
    """What was recalled for a prompt. Falsy when nothing fits.

    Attributes:
        text: The finished block, or ``""``.
        learnings: The learnings in it, in its order.
        reason: Why there is nothing, where that was not a matter of relevance: ``"timeout"``, ``"error"``,
            ``"circuit open"``, ``"holdout"``, ``"closed"``.
        experiment: The experiment that the user is part of, and the arm: ``"treatment"`` or ``"holdout"``.
        chosen: Why each of the learnings was chosen, in the same order.
        turns: What the user said in other sessions, not yet learned from, in the block's order (see ``recall_turns``).
    """

    text: str = ""
    learnings: Sequence[Learning] = field(default=())
    reason: str = ""
    experiment: tuple[str, str] | None = None
    chosen: Sequence[Chosen] = field(default=(), repr=False)
    turns: Sequence[Interaction] = field(default=())

    def __bool__(self) -> bool:
        return bool(self.learnings or self.turns)

    def __str__(self) -> str:
        return self.text

    @property
    def retrieved(self) -> list[dict[str, Any]]:
        """The learnings as ``retrieved_learnings`` of an interaction: ``kind``, ``learning_id``, ``tag``, and why."""
        chosen = self.chosen or [Chosen(learning) for learning in self.learnings]
        return [
            {**item.noted, "tag": tag} for item, tag in zip(chosen, tags_of([i.learning for i in chosen]), strict=True)
        ]


def choose(
    store: Store,
    query: str,
    *,
    user_id: str,
    agent_version: str,
    top_k: int = 5,
    token_budget: int = 400,
    count_tokens: TokenCounter = estimate_tokens,
    meant: Callable[[str], Meaning | None] | None = None,
    near: Near | None = None,
    session_id: str = "",
    most_turns: int = 0,
) -> Recall:
    """The learnings that fit ``query``: of this user, of this agent version, and approved ones of all users.

    A query that says nothing ("thanks", "ok") recalls nothing. Rules of this user that apply to every request come
    first, then what matches best. Without ``user_id``, or for a user who opted out, nothing personal is looked for.

    Args:
        store: Where the learnings are.
        query: The user's message.
        user_id: Whose learnings; ``""`` for nobody.
        agent_version: Playbooks of other versions are left out.
        top_k: Most learnings of one kind.
        token_budget: Most tokens of the block, as ``count_tokens`` counts them.
        count_tokens: Counts the tokens of a text.
        meant: Gives the meaning of a query, or None; without it full text alone is searched.
        near: Tells how near what was found is, for a home that finds by meaning without telling that.
        session_id: The session that is going on: the agent knows what was said in it.
        most_turns: Most messages of the user's other sessions that are shown though nobody has learned from them yet.
    """
    if not says_something(query):
        return Recall()
    query = asked_for(query)
    meaning = meant(query) if meant else None
    with store.reading():
        if user_id and store.opted_out(user_id):
            user_id = ""
        found = store.search(
            _queries(query, user_id, agent_version, _POOL * top_k), meaning=meaning, floors=partial(floors_of, meaning)
        )
        chosen = _standing(store, user_id, agent_version, top_k) if user_id else []
        personal = user_id and most_turns
        unread = store.fresh_messages(user_id, query, except_session=session_id, limit=_FRESH) if personal else []
    if meaning is not None and near is not None:
        found = _compared(found, meaning, near)
    rules = [*chosen, *_fitting(found, "user_playbook", meaning)]
    facts, shared = _fitting(found, "profile", meaning), _fitting(found, "agent_playbook", meaning)
    kept = _within(_once([rules, facts, shared], top_k), token_budget, count_tokens)
    learnings = tuple(item.learning for item in kept)
    turns = _turns_within(learnings, _fresh(unread, most_turns, learnings), token_budget, count_tokens)
    return Recall(render(learnings, turns), learnings, chosen=tuple(kept), turns=tuple(turns))


def _compared(found: Answers, meaning: Meaning, near: Near) -> Answers:
    """What was found, with its cosines; a trigger stands for its rule, as it is worded as the request to find it."""
    said = [
        getattr(item.learning, "trigger", None) or item.learning.content for hits in found.values() for item in hits
    ]
    cosines = iter(near(meaning, said))
    compared = Answers({kind: [replace(item, cosine=next(cosines)) for item in hits] for kind, hits in found.items()})
    compared.among = found.among
    return compared


def _fresh(found: Sequence[Fresh], most: int, shown: Sequence[Learning]) -> list[Interaction]:
    """What the user said that fits and that nobody has learned from yet, newest first, each thing once."""
    best = max((item.coverage for item in found), default=0.0)
    said = [words_in(line_of(learning)) for learning in shown]
    turns: list[Interaction] = []
    for item in found:
        words = words_in(one_line(item.message.content))
        if len(turns) < most and fits(item, best) and not any(says_same(words, other) for other in said):
            turns.append(item.message)
            said.append(words)
    return turns


def _turns_within(
    learnings: Sequence[Learning], turns: Sequence[Interaction], budget: int, count_tokens: TokenCounter
) -> list[Interaction]:
    """The messages that the learnings leave room for; one that is too long is passed over."""
    kept: list[Interaction] = []
    for turn in turns:
        if count_tokens(render(learnings, [*kept, turn])) <= budget:
            kept.append(turn)
    return kept


def _queries(query: str, user_id: str, agent_version: str, most: int) -> dict[LearningKind, LearningQuery]:
    approved = [PlaybookStatus.APPROVED]
    queries: dict[LearningKind, LearningQuery] = {
        "agent_playbook": LearningQuery(
            query=query, agent_version=agent_version, top_k=most, playbook_status_filter=approved
        )
    }
    if user_id:
        queries["profile"] = LearningQuery(query=query, user_id=user_id, top_k=most)
        queries["user_playbook"] = LearningQuery(query=query, user_id=user_id, agent_version=agent_version, top_k=most)
    return queries


def _standing(store: Store, user_id: str, agent_version: str, top_k: int) -> list[Chosen]:
    query = LearningQuery(user_id=user_id, agent_version=agent_version, tags=[STANDING], top_k=top_k)
    found = store.get_learnings("user_playbook", query)
    return [Chosen(item, reason="applies to every request") for item in found if isinstance(item, UserPlaybook)]


def _fitting(found: Answers, kind: LearningKind, meaning: Meaning | None) -> list[Chosen]:
    """What is relevant enough, best first; of those that match alike, what rests on more and is newer goes first."""
    scored = found.get(kind, ())
    best = max((item.coverage for item in scored), default=0.0)
    fits = [(item, reason) for item in scored if (reason := why(item, best, meaning, found.among))]
    fits.sort(key=lambda pair: (-round(pair[0].coverage + (pair[0].cosine or 0.0), 1), *_standing_of(pair[0].learning)))
    return [Chosen(item.learning, item.score, item.coverage, item.cosine, reason) for item, reason in fits]


def _standing_of(learning: Learning) -> tuple[int, int]:
    """What breaks ties: how much it rests on, and how new it is (the more, the smaller)."""
    stamp = learning.last_modified_timestamp if isinstance(learning, UserProfile) else learning.created_at
    return -len(getattr(learning, "evidence", ())), -stamp


def _once(groups: Iterable[Iterable[Chosen]], most: int) -> list[Chosen]:
    """The first ``most`` of each group, without what says the same as one before it."""
    kept: list[Chosen] = []
    said: list[frozenset[str]] = []
    for group in groups:
        room = most
        for item in group:
            if not room:
                break
            words = words_in(line_of(item.learning))
            if not any(says_same(words, other) for other in said):
                kept.append(item)
                said.append(words)
                room -= 1
    return kept


def _within(chosen: Sequence[Chosen], budget: int, count_tokens: TokenCounter) -> list[Chosen]:
    """The longest prefix-by-preference whose block keeps the budget: what does not fit is passed over."""
    if not chosen:
        return []
    kept: list[Chosen] = []
    first = chosen[0].learning
    left = budget - count_tokens(render([first])) + count_tokens(line_of(first))
    for item in chosen:
        cost = count_tokens(line_of(item.learning)) + _BULLET
        if cost <= left:
            kept.append(item)
            left -= cost
    while kept and count_tokens(render([item.learning for item in kept])) > budget:
        kept.pop()
    return kept
