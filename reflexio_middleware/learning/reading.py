"""One extractor reads what is unread of a session, piece by piece, and what it proposes is applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from reflexio_middleware.learning.extractor import Extractor, Meter, SessionView
from reflexio_middleware.learning.metering import Account, Budget
from reflexio_store.contract import Applied, Reading, Store
from reflexio_store.errors import ExtractionError, UnusableAnswerError
from reflexio_store.models import LearningQuery, Request, RequestData, Status, UserPlaybook, UserProfile

_KNOWN: Final = 500
CONTEXT: Final = 4
"""Requests before the new ones that an extractor is shown, to understand those by."""
PIECE: Final = 50
"""Most requests in one piece: what was learned from a piece stays, whatever becomes of the next."""


def extractor_name(extractor: object) -> str:
    """The name of an extractor, or of ``statements`` and ``llm`` as text; one that has none goes by its class."""
    return extractor if isinstance(extractor, str) else str(getattr(extractor, "name", "") or type(extractor).__name__)


@dataclass(frozen=True, slots=True)
class Exempt:
    """What is not learned from, by patterns such as ``test-*`` of its source and of its agent version."""

    sources: Sequence[str] = ()
    agents: Sequence[str] = ()

    def covers(self, request: Request) -> bool:
        """Whether a request is not learned from."""
        return (
            request.evaluation_only
            or any(fnmatchcase(request.source, pattern) for pattern in self.sources)
            or any(fnmatchcase(request.agent_version, pattern) for pattern in self.agents)
        )


@dataclass(frozen=True, slots=True)
class Reader:
    """An extractor with what it may read and spend.

    Args:
        extractor: What learns.
        exempt: What it is not shown.
        budget: What it may spend.
    """

    extractor: Extractor
    exempt: Exempt = field(default_factory=Exempt)
    budget: Budget = field(default_factory=Budget)

    @property
    def name(self) -> str:
        """The name of the extractor."""
        return extractor_name(self.extractor)

    @property
    def waits(self) -> bool:
        """Whether turns shall gather before it is asked."""
        return bool(getattr(self.extractor, "waits", False))

    def read(self, store: Store, user_id: str, session_id: str, unread_of: str) -> Applied:
        """Learn from what is unread under the name ``unread_of``.

        A piece whose answer is of no use is passed over, and stays unread; the others are learned from all the same.

        Raises:
            ExtractionError: The extractor failed; what it learned before that stays.
        """
        applied = Applied()
        unusable: list[str] = []
        failure: ExtractionError | None = None
        more = True
        while more:
            piece = store.read_unlearned(
                user_id, session_id, unread_of, context=CONTEXT, limit=PIECE, skip=tuple(unusable)
            )
            more = piece.more
            try:
                applied += self.learn(store, user_id, session_id, piece)
            except UnusableAnswerError as error:
                failure = failure or error
                unusable += piece.new
            else:
                if piece.new:
                    store.mark_learned(user_id, session_id, unread_of, sorted(piece.new))
        if failure is not None:
            raise failure
        return applied

    def learn(
        self,
        store: Store,
        user_id: str,
        session_id: str,
        piece: Reading,
        *,
        status: Status | None = None,
        kinds: Sequence[str] = ("profile", "user_playbook"),
    ) -> Applied:
        """Learn from one piece of a session, into learnings of some kinds and of a status (None: current).

        Of a user who opted out nothing is learned, and no extractor is shown what they said.

        Raises:
            ExtractionError: The extractor failed; nothing was changed.
        """
        shown = [data for data in piece.requests if not self.exempt.covers(data.request)]
        new = frozenset(data.request.request_id for data in shown) & piece.new
        if not new or store.opted_out(user_id):
            return Applied()
        view = self._view(store, user_id, session_id, shown, new, status)
        changes = [change for change in self.extractor.extract(view) if change.kind in kinds]
        return store.apply(user_id, changes, status=status)

    def _view(
        self,
        store: Store,
        user_id: str,
        session_id: str,
        shown: Sequence[RequestData],
        new: frozenset[str],
        status: Status | None,
    ) -> SessionView:
        version = next(data for data in reversed(shown) if data.request.request_id in new).request.agent_version
        profiles: list[UserProfile] = []
        playbooks: list[UserPlaybook] = []
        if getattr(self.extractor, "reads_known", True):
            query = LearningQuery(user_id=user_id, top_k=_KNOWN, status_filter=[status])
            found = store.get_learnings("profile", query)
            profiles = [item for item in found if isinstance(item, UserProfile)]
            found = store.get_learnings("user_playbook", query.model_copy(update={"agent_version": version}))
            playbooks = [item for item in found if isinstance(item, UserPlaybook)]
        return SessionView(
            user_id=user_id,
            session_id=session_id,
            agent_version=version,
            requests=shown,
            known_profiles=profiles,
            known_playbooks=playbooks,
            new=new,
            meter=self._meter(store, user_id),
        )

    def _meter(self, store: Store, user_id: str) -> Meter:
        return Account(store, user_id, self.name, self.budget)

    def close(self) -> None:
        """Release what the extractor holds."""
        close = getattr(self.extractor, "close", None)
        if close is not None:
            close()
