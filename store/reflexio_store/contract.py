"""The one contract that every home of the record keeps, and the plain values it speaks in.

A home is thread-safe. Its methods raise only :class:`~reflexio_store.errors.ReflexioError`; a driver's own error is
the cause. Writes are atomic: a method that raises has changed nothing. Only a delete of many requests goes in pieces,
so that others write in between: one that raises may have been done in part, and can be done again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, runtime_checkable

from .models import (
    ArmResult,
    GetInteractionsRequest,
    GetRequestsRequest,
    GetRequestsResponse,
    GetSessionOutcomesRequest,
    HistoryEntry,
    Interaction,
    Learning,
    LearningKind,
    LearningQuery,
    RequestData,
    SearchInteractionRequest,
    SearchMode,
    SessionOutcome,
    SetSessionOutcomeResponse,
    Status,
    Use,
)
from .moving import Moving
from .records import TurnRecord
from .terms import (
    Answers,
    Applied,
    Change,
    Finding,
    Floors,
    Fresh,
    Job,
    JobState,
    Meaning,
    Promoted,
    Reading,
    Receipt,
    Scored,
    Shared,
    Sharing,
    Supporter,
    Unembedded,
    Unlearned,
    Usage,
    Voice,
)

__all__ = [
    "Agreements",
    "Answers",
    "Applied",
    "Change",
    "Embeddable",
    "Finding",
    "Floors",
    "Fresh",
    "Histories",
    "Job",
    "JobState",
    "Jobs",
    "Learnings",
    "Meaning",
    "Opting",
    "Promoted",
    "Promotions",
    "Reading",
    "Reads",
    "Receipt",
    "Requests",
    "Scored",
    "Shared",
    "Sharing",
    "Store",
    "Supporter",
    "Unembedded",
    "Unlearned",
    "Usage",
    "Uses",
    "Voice",
]


class Requests(Protocol):
    """The record of turns."""

    def add_turns(self, turns: Sequence[TurnRecord], *, learn_after: float | None = 0.0, restore: bool = False) -> int:
        """Store turns in one transaction and return how many were new. A known request_id is left as it is.

        With ``learn_after`` (seconds), the job that learns from each turn's session falls due so long after this
        call (at once where the turn's options say ``force_extraction`` or ``session_finished``); None makes no job.
        Turns without a user, or marked ``evaluation_only``, make none. A turn that was deleted after it was said (or
        its session, or its user) is passed over, unless ``restore`` says that it is to be had again.
        """
        ...

    def get_requests(self, query: GetRequestsRequest) -> GetRequestsResponse:
        """Sessions with their requests, newest first, one page of them."""
        ...

    def read_session(self, user_id: str, session_id: str) -> list[RequestData]:
        """The whole session of one user, oldest request first."""
        ...

    def get_interactions(self, query: GetInteractionsRequest) -> list[Interaction]:
        """Interactions of one user (of all users where none is named), newest first."""
        ...

    def search_interactions(
        self, query: SearchInteractionRequest, *, meaning: Meaning | None = None
    ) -> list[Interaction]:
        """Interactions of one user that match, or stand beside what matches in its session, best first.

        What was stored before the call is found; of a long backlog the newest 1,000 requests at least, and the rest
        in later calls. ``meaning`` is the vector of the query's text; None: full text alone.
        """
        ...

    def delete_interaction(self, user_id: str, interaction_id: int) -> Receipt:
        """Delete one message of a user, and the learnings that rested on it alone; what those had superseded is current
        again. A request that has no message left goes, too."""
        ...

    def delete_requests(self, request_ids: Sequence[str] | None, *, user_id: str | None = None) -> Receipt:
        """Delete requests (all of them, or of the user, where ``request_ids`` is None), and the learnings that rested
        on them alone; what those had superseded is current again.

        What still waits in some spool is refused, even where nothing of it is stored yet.
        """
        ...

    def delete_session(self, session_id: str, *, user_id: str | None = None) -> Receipt:
        """Delete a session (of one user where one is given), and the learnings that rested on it alone.

        What still waits in some spool is refused, even where nothing of it is stored yet.
        """
        ...

    def delete_user(self, user_id: str) -> Receipt:
        """Delete everything held on one user."""
        ...


class Learnings(Protocol):
    """What was learned."""

    def add_learnings(self, learnings: Sequence[Learning]) -> list[str]:
        """Store learnings of any kind in one transaction and return their ids (as text), in order.

        An empty id is made; a known one (of the same user) is replaced. Evidence is kept as given.
        """
        ...

    def get_learnings(self, kind: LearningKind, query: LearningQuery) -> list[Learning]:
        """Learnings of one kind, newest first; ``query.query`` is ignored here."""
        ...

    def search_learnings(self, kind: LearningKind, query: LearningQuery) -> list[Scored[Learning]]:
        """Learnings of one kind that match ``query.query``, best first (``top_k`` 10 when not given).

        For profiles and user playbooks a ``user_id`` is required: without one the answer is empty.
        """
        ...

    def search(
        self,
        queries: Mapping[LearningKind, LearningQuery],
        *,
        meaning: Meaning | None = None,
        mode: SearchMode = "hybrid",
        floors: Callable[[int], Floors] | None = None,
    ) -> Answers:
        """Several kinds in one read of one state: as :meth:`search_learnings`, an answer for each kind asked for.

        Args:
            queries: What is looked for, by kind.
            meaning: The vector of the queries' text; None: full text alone.
            mode: Which of both counts: ``fts``, ``vector`` (``meaning`` is needed to find anything) or ``hybrid``.
            floors: Given how many learnings there are (``Answers.among``), what one must reach: what reaches none of it
                may be left out, which saves reading it. None: all that matches.
        """
        ...

    def update_learning(
        self, kind: LearningKind, learning_id: str, fields: dict[str, Any], *, user_id: str | None = None
    ) -> bool:
        """Change some fields of a learning; False if there is none of that id.

        What it said before is not learned again from the same messages.
        """
        ...

    def delete_learnings(self, kind: LearningKind, ids: Sequence[str] | None, *, user_id: str | None = None) -> int:
        """Delete learnings by id (all of the kind, or of the user, where ``ids`` is None); how many were there.

        They are not learned again from the same messages; what they had superseded is current again.
        """
        ...

    def apply(self, user_id: str, changes: Sequence[Change], *, status: Status | None = None) -> Applied:
        """Apply an extractor's changes in one transaction, to the learnings of a status (None: the current ones).

        Evidence whose request is no longer stored is dropped; a change left without evidence is not applied. To
        ``update`` adds to the evidence of the learning. ``retire`` marks it superseded. Of two values of one slot the
        one whose evidence is newer is current, whatever was applied first.
        """
        ...


class Uses(Protocol):
    """What became of learnings in use."""

    def uses(self, kind: LearningKind, learning_ids: Sequence[str], *, user_id: str | None = None) -> dict[str, Use]:
        """How learnings fared, by id; those that were never shown are left out. With ``user_id``, in that user's turns
        alone."""
        ...

    def mark_outcome(self, outcome: SessionOutcome) -> SetSessionOutcomeResponse:
        """Note how a session ended. The first report stands; without a ``user_id`` the session's only user is meant.

        Raises:
            InvalidInputError: Several users have a session of that id, and none is named.
        """
        ...

    def get_outcomes(self, query: GetSessionOutcomesRequest) -> list[SessionOutcome]:
        """Reported outcomes, the latest first."""
        ...

    def experiment_results(self, experiment_id: str) -> list[ArmResult]:
        """How the sessions of an experiment ended: one result for each user and arm, without saying who."""
        ...


class Promotions(Protocol):
    """Learnings made anew beside the current ones, and the users they are made for."""

    def user_ids(self) -> list[str]:
        """Everybody who has a session, in order; not nobody (``""``)."""
        ...

    def promote(
        self,
        kind: Literal["profile", "user_playbook"],
        *,
        user_id: str | None = None,
        agent_version: str | None = None,
        playbook_name: str | None = None,
        only_affected: bool = True,
    ) -> Promoted:
        """Archived learnings go, current ones are archived, pending ones become current.

        With ``only_affected`` only those of users who have a pending one; each user's at once.
        """
        ...

    def demote(
        self,
        kind: Literal["profile", "user_playbook"],
        *,
        user_id: str | None = None,
        agent_version: str | None = None,
        playbook_name: str | None = None,
    ) -> Promoted:
        """Archived learnings become current again, and current ones are archived, for users who have archived ones."""
        ...


class Opting(Protocol):
    """Who wants to be left alone."""

    def opt_out(self, user_id: str) -> bool:
        """Learn nothing more of a user, recall nothing personal, and let what they said support nothing that is
        shared; False if it was so already. What was learned stays, until it is deleted."""
        ...

    def opt_in(self, user_id: str) -> bool:
        """Learn of a user again; False if nothing stood against it."""
        ...

    def opted_out(self, user_id: str) -> bool:
        """Whether a user opted out."""
        ...


class Histories(Protocol):
    """What happened to learnings, and when they end."""

    def history(
        self, kind: LearningKind, *, user_id: str | None = None, learning_id: str | None = None, limit: int | None = 100
    ) -> list[HistoryEntry]:
        """What happened to profiles or user playbooks, the latest first.

        It goes with the learning, and with the message that it came from: it does not keep what was forgotten.
        """
        ...

    def purge_expired(self) -> int:
        """Delete the profiles whose time to live is over; how many. Nothing that they had superseded comes back."""
        ...


class Agreements(Protocol):
    """What users agree on: agent playbooks, and the user playbooks that each rests on."""

    def voices(self, agent_version: str, *, most: int = 20_000, model: str | None = None) -> list[Voice]:
        """The current user playbooks of a version that may support an agent playbook, the newest ``most`` of them;
        with the vectors that they have of a ``model``.

        Left out are those of nobody, of users who opted out, and those that rest on nothing but requests published
        with ``skip_aggregation``. They come without their evidence.
        """
        ...

    def told_by(self, user_ids: Sequence[str]) -> dict[str, list[str]]:
        """What the current profiles of some users say, by user; those who have none are left out."""
        ...

    def shared(self, agent_version: str) -> list[Shared]:
        """The agent playbooks of a version, of any status and approval, with what supports them."""
        ...

    def share(self, agent_version: str, rules: Sequence[Shared], *, least: int, approve: bool) -> Sharing:
        """Note what agent playbooks of a version rest on now, in one transaction.

        A supporter that was changed or deleted meanwhile does not count. A new rule that ``least`` users support is
        stored, pending (approved where ``approve``, unless it rests on meaning alone). Known ones get the words given
        (and are pending again), unless they were added or reworded by hand. Those that fewer users support, and those
        not named here, are retired: archived, or deleted where nobody supports them any more.
        """
        ...

    def promote_shared(self, from_version: str, to_version: str) -> int:
        """Copy the approved agent playbooks of one version to another, with what they rest on; how many were new."""
        ...


class Jobs(Protocol):
    """Durable work with leases: at least once, so handlers are idempotent."""

    def put_job(
        self, kind: str, key: str, *, user_id: str = "", due_after: float = 0.0, payload: dict[str, Any] | None = None
    ) -> None:
        """Ask for a piece of work, ``due_after`` seconds from now.

        One that waits already is put off to then (unless it is due), and takes the payload where one is given; one
        that runs will run again. For a user who was deleted, and has said nothing since, none is asked for.
        """
        ...

    def claim_job(self, kind: str, *, lease_seconds: float) -> Job | None:
        """Take the job that has been due longest, or one whose lease ran out; None if there is none."""
        ...

    def extend_job(self, job: Job, *, lease_seconds: float, result: dict[str, Any] | None = None) -> bool:
        """Keep a job for longer, and note how far it is as its result so far; False if it was lost to another."""
        ...

    def finish_job(self, job: Job, result: dict[str, Any]) -> bool:
        """Note a job as done with its result (or ready again, if it was asked for meanwhile); False if lost."""
        ...

    def fail_job(self, job: Job, error: str, *, retry_after: float | None) -> bool:
        """Note a failure: due again after ``retry_after`` seconds, or dead where that is None; False if lost."""
        ...

    def release_job(self, job: Job, *, due_after: float = 0.0) -> bool:
        """Give a job back undone, due again after some seconds; this attempt does not count; False if lost."""
        ...

    def hasten_jobs(self, kind: str, *, user_id: str | None = None, key: str | None = None) -> int:
        """Make waiting jobs due now; how many."""
        ...

    def job_states(
        self,
        kind: str,
        *,
        user_id: str | None = None,
        key: str | None = None,
        states: Sequence[str] | None = None,
        limit: int = 1000,
    ) -> list[JobState]:
        """Where jobs stand, the one due first first."""
        ...

    def retry_dead_jobs(self, kind: str | None = None) -> int:
        """Make dead jobs (of a kind, or all) ready again; how many."""
        ...

    def backlog(self) -> dict[str, int]:
        """How many jobs are open, as ``jobs_ready``, ``jobs_running``, ``jobs_dead``; cheap, however many are done."""
        ...


class Reads(Protocol):
    """How far each extractor has read, turn by turn, and what its model took.

    A turn that asks for learning is unread under the extractor ``""``, until it is handed to the extractors by name.
    What is kept is what is unread, not a place in the session: a turn that arrives late is unread like any other.
    """

    def unlearned(self, user_id: str, session_id: str) -> list[Unlearned]:
        """What is unread of a session, for all extractors, by request id."""
        ...

    def hand_over(self, user_id: str, session_id: str, extractors: Sequence[str]) -> None:
        """Let each of these extractors have what is unread under ``""``, and it alone; atomic."""
        ...

    def read_unlearned(
        self, user_id: str, session_id: str, extractor: str, *, context: int, limit: int, skip: Sequence[str] = ()
    ) -> Reading:
        """The oldest unread turns of a session with the ``context`` requests before them, in one piece: at most
        ``limit`` requests from the oldest unread one on (what was read of them stands between). ``skip`` names
        requests that count as read here. Empty when nothing is unread."""
        ...

    def fresh_messages(self, user_id: str, query: str, *, except_session: str, limit: int) -> list[Fresh]:
        """What a user said that some extractor has still to read and that shares words with ``query``, newest first:
        of the newest ``limit`` such turns of other sessions."""
        ...

    def mark_learned(self, user_id: str, session_id: str, extractor: str, request_ids: Sequence[str]) -> None:
        """Note turns as read."""
        ...

    def force_learning(self, *, user_id: str | None = None, session_id: str | None = None) -> int:
        """Let all that is unread be learned from now (of a user, of a session): how many sessions that concerns."""
        ...

    def add_usage(self, usage: Usage) -> None:
        """Add to what a model took on a day; what it took for a user who was deleted meanwhile, it took for nobody."""
        ...

    def spent(self, day: str, *, user_id: str | None = None) -> tuple[int, int]:
        """Tokens, and millionths of cost, that models took on one day: of everybody, or of one user."""
        ...

    def get_usage(self, *, since: str, user_id: str | None = None) -> list[Usage]:
        """What models took from the day ``since`` on, newest day first."""
        ...


@runtime_checkable
class Embeddable(Protocol):
    """A home that keeps vectors made by its client. A server that embeds by itself is none."""

    def index_interactions(self, *, user_id: str | None = None, limit: int = 1000) -> int:
        """Make what was said findable before somebody searches, the newest first, at most ``limit`` requests (of one
        user where one is given); how many there were."""
        ...

    def unindexed(self, *, user_id: str | None = None) -> int:
        """How many requests (of one user where one is given) cannot be found by a search yet; at most 1,001 are
        counted."""
        ...

    def index_backlog(self) -> int:
        """Of requests that are too many for one search to index, make the newest 200 findable; how many there were: 0
        where a search would do the rest itself."""
        ...

    def unembedded(self, model: str, *, messages: bool = False, limit: int = 64) -> list[Unembedded]:
        """Texts without a vector of that model, the newest of each kind first: learnings, and ``messages`` if asked."""
        ...

    def put_vectors(self, model: str, vectors: Mapping[int, Sequence[float]]) -> int:
        """Keep the vectors of texts (by their ``number``; of any length but zero); how many were kept.

        Texts that are gone meanwhile are left out, and those that have a vector of that model. A vector of another
        model is replaced.
        """
        ...

    def set_aside(self, model: str, numbers: Sequence[int]) -> None:
        """Note that a model refuses some texts: :meth:`unembedded` tells of them no more, until it is asked for
        another model, or their words change. A vector of another model is dropped."""
        ...


@runtime_checkable
class Store(Requests, Learnings, Promotions, Opting, Histories, Agreements, Uses, Jobs, Reads, Moving, Protocol):
    """A home of the record: requests, learnings and jobs behind one URL."""

    @property
    def url(self) -> str:
        """Where the record is, without any password."""
        ...

    @property
    def kind(self) -> str:
        """``sqlite``, ``postgresql`` or ``remote``."""
        ...

    @property
    def learns_itself(self) -> bool:
        """Whether the home learns from what it is given: no worker is needed, and :meth:`apply` is refused."""
        ...

    def reading(self) -> AbstractContextManager[None]:
        """What this thread reads inside is read from one state and by one transaction, where the home has any: it
        costs less than one for each read. Nothing can be written inside."""
        ...

    def counts(self) -> dict[str, int]:
        """Rows by what they are: ``sessions, requests, interactions, profiles`` (``expired_profiles`` apart),
        ``user_playbooks, agent_playbooks, supports, events, dismissals, opt_outs, erasures, outcomes, usages``, and
        jobs as ``jobs_ready, jobs_running, jobs_done, jobs_dead``."""
        ...

    def check(self) -> list[Finding]:
        """Look for what is wrong: integrity, schema version, known faults of the driver."""
        ...

    def close(self) -> None:
        """Release every connection. Closing twice is fine; using a closed store raises."""
        ...
