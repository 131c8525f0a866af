"""Why a turn was shown what it was shown: each learning with its scores, its use, and the messages behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from reflexio_middleware.recall.render import id_of, line_of
from reflexio_store.contract import Store
from reflexio_store.models import (
    GetRequestsRequest,
    Interaction,
    Learning,
    LearningKind,
    LearningQuery,
    RequestData,
    RetrievedLearning,
    Status,
    Use,
    UserPlaybook,
    UserProfile,
)

_EVERY_STATUS: Final = [None, *Status]


@dataclass(frozen=True, slots=True)
class Shown:
    """One learning that was shown to a turn.

    Attributes:
        kind: ``profile``, ``user_playbook`` or ``agent_playbook``.
        learning_id: Its id.
        tag: What it was called in the block, e.g. ``p1``.
        text: What it says today; ``""`` where it is gone.
        score: How well its words matched (BM25; None: not known).
        coverage: Share (0 to 1) of the question's weight that it covers.
        similarity: Cosine of its meaning and the question's, where embeddings are used.
        reason: Why it was chosen, in words.
        cited: Whether the answer cited it by its tag.
        use: How it fared in all turns that it was shown to.
        evidence: The messages of this user that it was learned from. Of a shared rule, none are told: they are others'.
    """

    kind: LearningKind
    learning_id: str
    tag: str = ""
    text: str = ""
    score: float | None = None
    coverage: float | None = None
    similarity: float | None = None
    reason: str = ""
    cited: bool = False
    use: Use = field(default_factory=Use)
    evidence: Sequence[Interaction] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a turn was shown, and why. ``question`` is what the user said in it; ``arm`` is set for a turn of an
    experiment (see the setting ``retrieval_experiment``)."""

    request_id: str
    user_id: str
    session_id: str
    question: str
    arm: str | None = None
    shown: Sequence[Shown] = ()


def explain(store: Store, request_id: str) -> Explanation | None:
    """Why the turn ``request_id`` was shown what it was shown; None if no such turn is stored."""
    turn = _request(store, request_id)
    if turn is None:
        return None
    cited = {(item.kind, item.real_id) for message in turn.interactions for item in message.citations}
    retrieved = [item for message in turn.interactions for item in message.retrieved_learnings]
    said = [message.content for message in turn.interactions if message.role.lower() == "user" and message.content]
    user_id = turn.request.user_id
    return Explanation(
        request_id=request_id,
        user_id=user_id,
        session_id=turn.request.session_id or "",
        question="\n".join(said),
        arm=turn.request.retrieval_experiment_arm,
        shown=tuple(_shown(store, item, user_id, (item.kind, item.learning_id) in cited) for item in retrieved),
    )


def _shown(store: Store, item: RetrievedLearning, user_id: str, cited: bool) -> Shown:
    learning = _learning(store, item, user_id)
    return Shown(
        **item.model_dump(exclude={"exposure_receipt"}),
        text=line_of(learning) if learning is not None else "",
        cited=cited,
        use=store.uses(item.kind, [item.learning_id], user_id=user_id).get(item.learning_id, Use()),
        evidence=tuple(_evidence(store, learning)),
    )


def _learning(store: Store, item: RetrievedLearning, user_id: str) -> Learning | None:
    owner = None if item.kind == "agent_playbook" else user_id
    query = LearningQuery(ids=[item.learning_id], user_id=owner, status_filter=_EVERY_STATUS)
    return next((found for found in store.get_learnings(item.kind, query) if id_of(found) == item.learning_id), None)


def _evidence(store: Store, learning: Learning | None) -> list[Interaction]:
    if not isinstance(learning, (UserProfile, UserPlaybook)):
        return []
    found = []
    for item in learning.evidence:
        turn = _request(store, item.request_id, user_id=learning.user_id)
        if turn is not None and item.interaction_index < len(turn.interactions):
            found.append(turn.interactions[item.interaction_index])
    return found


def _request(store: Store, request_id: str, *, user_id: str | None = None) -> RequestData | None:
    sessions = store.get_requests(GetRequestsRequest(request_id=request_id, user_id=user_id)).sessions
    return next((data for session in sessions for data in session.requests), None)
