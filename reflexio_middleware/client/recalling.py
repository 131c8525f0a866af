"""Recall: what was learned, as prompt text, within a budget and a time limit."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import functools
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as Late
from dataclasses import dataclass, replace
from typing import Any, Final

from reflexio_middleware.capture.messages import strip_injected
from reflexio_middleware.capture.turn import current_turn
from reflexio_middleware.client.awaiting import given_up
from reflexio_middleware.client.core import Core
from reflexio_middleware.guard import count, guard, warn
from reflexio_middleware.recall.choose import Near, Recall, choose
from reflexio_middleware.recall.deadline import Deadline
from reflexio_middleware.recall.experiment import arm_of
from reflexio_middleware.recall.frozen import Frozen
from reflexio_middleware.recall.inject import Placement, inject_block, latest_user_text
from reflexio_middleware.scope import cleaned, current_session
from reflexio_middleware.tracing import span
from reflexio_store.contract import Embeddable, Meaning, Store
from reflexio_store.errors import InvalidInputError

_COLD_SECONDS = 5.0  # opening the home (once) is not part of a recall's time limit
_FIRST_SECONDS = 1.0
_MAX_QUERY = 2_000
_LARGEST: Final = 1_000_000
_NUMBERS: Final[dict[str, tuple[type[float], int, int]]] = {
    "top_k": (int, 1, 100),
    "token_budget": (int, 0, _LARGEST),
    "timeout": (float, 0, _LARGEST),
    "recall_turns": (int, 0, _LARGEST),
}
"""Of each number of a recall its type, the least and the most."""


@dataclass(frozen=True, slots=True)
class _Question:
    """One recall that was asked for: with what words, for whom, how much of it."""

    text: str
    user_id: str
    agent_version: str
    session_id: str
    top_k: int
    token_budget: int
    turns: int
    hold: bool
    forgotten: int
    seconds: float

    @property
    def conversation(self) -> tuple[str, str, str]:
        """Whose conversation it is part of."""
        return self.user_id, self.agent_version, self.session_id


class RecallApi(Core):
    """The part of the client that puts what was learned into prompts."""

    _recalled_before = False
    _waited_cold = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._deadline, self._frozen = Deadline(), Frozen()
        super().__init__(*args, **kwargs)

    def recall(
        self,
        query: str,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        agent_version: str | None = None,
        top_k: int | None = None,
        token_budget: int | None = None,
        timeout: float | None = None,
        hold: bool = False,
        recall_turns: int | None = None,
    ) -> Recall:
        """What was learned that fits ``query``, as one block of text for a prompt; falsy when nothing fits.

        It fails open: when the store is slow or fails, the recall is empty and its ``reason`` (and ``stats()``) says
        so. What comes too late serves the next turn of the conversation, if that is late as well. Inside a turn, what
        was recalled is stored with it as ``retrieved_learnings``.

        Args:
            query: The user's message.
            user_id: Whose learnings; None: the scope's. Without one nothing personal is recalled.
            session_id: Which conversation; None: the scope's.
            agent_version: Playbooks of this version; None: the scope's, else the setting.
            top_k: Most learnings of one kind; None: the setting ``recall_top_k`` (5).
            token_budget: Most tokens of the block; None: the setting ``recall_tokens`` (400).
            timeout: Seconds at most; None: the setting ``recall_timeout`` (0.05, or 1 with a server), and a
                second for the first recall.
            hold: Give the same block for the whole session, from the first one that is not empty on, as long as all in
                it still stands: for system messages, so that the provider's prompt cache keeps its prefix.
            recall_turns: Most messages of this user's other sessions, not yet learned from, beside the learnings; None:
                the setting ``recall_turns`` (0). A block that is held has none, nor has a Reflexio server.

        Raises:
            InvalidInputError: ``query`` is not text, or a number makes no sense: ``top_k`` is from 1 to 100,
                ``token_budget`` and ``recall_turns`` are whole numbers from 0, ``timeout`` is a number from 0.
        """
        _check(query, top_k=top_k, token_budget=token_budget, timeout=timeout, recall_turns=recall_turns)
        with guard("recalling"):
            question, experiment = self._question(
                query, user_id, session_id, agent_version, top_k, token_budget, timeout, hold, recall_turns
            )
            found = self._instead(experiment)
            if found is None:
                if cold := self._cold():
                    with guard("opening the store for a recall"):
                        cold.result(_COLD_SECONDS)
                future = self._asked(question)
                try:
                    found = self._deadline.in_time(question.conversation, future.result(question.seconds))
                except Late:
                    found = self._late(question, future)
                except CancelledError:  # the client was closed
                    found = Recall(reason="closed")
            return _noted(replace(found, experiment=experiment))
        return Recall(reason="error")

    async def recall_async(
        self,
        query: str,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        agent_version: str | None = None,
        top_k: int | None = None,
        token_budget: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the same arguments as recall()
        hold: bool = False,
        recall_turns: int | None = None,
    ) -> Recall:
        """:meth:`recall` that does not block the event loop."""
        _check(query, top_k=top_k, token_budget=token_budget, timeout=timeout, recall_turns=recall_turns)
        with guard("recalling"):
            question, experiment = self._question(
                query, user_id, session_id, agent_version, top_k, token_budget, timeout, hold, recall_turns
            )
            found = self._instead(experiment)
            if found is None:
                if cold := self._cold():
                    with guard("opening the store for a recall"):
                        await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(cold)), _COLD_SECONDS)
                future = self._asked(question)
                try:
                    answer = await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), question.seconds)
                    found = self._deadline.in_time(question.conversation, answer)
                except TimeoutError:
                    found = self._late(question, future)
                except asyncio.CancelledError:
                    if not given_up(future):
                        raise
                    found = Recall(reason="closed")
            return _noted(replace(found, experiment=experiment))
        return Recall(reason="error")

    def inject(
        self,
        messages: Sequence[Any],
        *,
        placement: Placement = "turn",
        user_id: str | None = None,
        session_id: str | None = None,
        agent_version: str | None = None,
        token_budget: int | None = None,
        timeout: float | None = None,
    ) -> list[Any]:
        """Chat messages (dictionaries, pairs or LangChain messages) with what fits the latest user message.

        A new list; the given one and its messages stay as they are. Nothing fits: nothing is added.

        Args:
            messages: The conversation, oldest first.
            placement: ``"turn"``: before the latest user message's text, so that all before it stays the same for the
                provider's prompt cache; ``"system"``: at the end of the system message, the same block for the whole
                session (where one is known).
            user_id: As in :meth:`recall`, like the rest.
            session_id: Which conversation; None: the scope's.
            agent_version: Playbooks of this version.
            token_budget: Most tokens of the block.
            timeout: Seconds at most.

        Raises:
            InvalidInputError: An argument makes no sense, as for :meth:`recall`. Messages that cannot be read are no
                error: they are handed back as they are.
        """
        _check(placement=placement, token_budget=token_budget, timeout=timeout)
        with guard("injecting"):
            found = self.recall(
                latest_user_text(messages), user_id=user_id, session_id=session_id, agent_version=agent_version,
                token_budget=token_budget, timeout=timeout, hold=placement == "system",
            )  # fmt: skip
            return inject_block(messages, found.text, placement)
        return messages  # type: ignore[return-value]  # what cannot be read is handed back as it is

    async def inject_async(
        self,
        messages: Sequence[Any],
        *,
        placement: Placement = "turn",
        user_id: str | None = None,
        session_id: str | None = None,
        agent_version: str | None = None,
        token_budget: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> list[Any]:
        """:meth:`inject` that does not block the event loop."""
        _check(placement=placement, token_budget=token_budget, timeout=timeout)
        with guard("injecting"):
            found = await self.recall_async(
                latest_user_text(messages), user_id=user_id, session_id=session_id, agent_version=agent_version,
                token_budget=token_budget, timeout=timeout, hold=placement == "system",
            )  # fmt: skip
            return inject_block(messages, found.text, placement)
        return messages  # type: ignore[return-value]  # what cannot be read is handed back as it is

    def experiment_of(self, user_id: str) -> tuple[str, str] | None:
        """The retrieval experiment that runs, and the arm of a user: ``"treatment"`` or ``"holdout"``; None: neither.

        What is shown to a user of the holdout must be nothing, on whatever way it would come.
        """
        name = self.settings.retrieval_experiment
        return (name, arm_of(name, user_id, self.settings.retrieval_holdout)) if name and user_id else None

    def _limit(self, timeout: float | None) -> float:
        """Seconds for a recall. The first of a client, which has everything to load, is given a second unless told."""
        if timeout is not None:
            return timeout
        first, self._recalled_before = not self._recalled_before, True
        seconds = self.settings.recall_seconds
        return max(_FIRST_SECONDS, seconds) if first else seconds

    def _question(
        self,
        query: str,
        user_id: str | None,
        session_id: str | None,
        agent_version: str | None,
        top_k: int | None,
        token_budget: int | None,
        timeout: float | None,
        hold: bool,
        turns: int | None,
    ) -> tuple[_Question, tuple[str, str] | None]:
        """What is asked, with what is not said taken from the turn or the scope around; and the arm of the user in the
        experiment that runs, if any."""
        turn, settings = current_turn(), self.settings
        scope = turn.scope if turn is not None else current_session()
        inside = current_session() if turn is not None and not turn.begun_for else None
        user = cleaned(user_id) or (inside.user_id if inside else "") or (scope.user_id if scope else "")
        if not user:
            count("recalls_without_user")
            warn("recall-no-user", "reflexio: a recall without user_id finds nothing personal. Name the user: "
                 "`with session(..., user_id=...)` or recall(..., user_id=...)")  # fmt: skip
        session = cleaned(session_id) or (scope.session_id if scope else "")
        question = _Question(
            text=strip_injected(query)[:_MAX_QUERY].encode("utf-8", "replace").decode(),  # no lone surrogates
            user_id=user,
            agent_version=cleaned(agent_version) or (scope.agent_version if scope else "") or settings.agent_version,
            session_id=session,
            top_k=settings.recall_top_k if top_k is None else top_k,
            token_budget=settings.recall_tokens if token_budget is None else token_budget,
            turns=0 if hold and session else settings.recall_turns if turns is None else turns,
            hold=hold and bool(session),
            forgotten=self._deadline.forgotten,
            seconds=self._limit(timeout),
        )
        return question, self.experiment_of(user)

    def _instead(self, experiment: tuple[str, str] | None) -> Recall | None:
        """The empty recall that there is where nothing is asked, with its reason; None: ask."""
        count("recalls")
        if experiment is not None and experiment[1] == "holdout":
            count("recalls_held_out")
            return Recall(reason="holdout")
        if self.is_closed:
            return Recall(reason="closed")
        if not self._deadline.may_ask():
            count("recalls_skipped")
            return Recall(reason="circuit open")
        return None

    def _settled(self) -> Store:
        """As everywhere; but whoever asks the store may be about to delete what a late recall rests on."""
        self._deadline.forget()
        return super()._settled()

    def _asked(self, question: _Question) -> Future[Recall]:
        """The recall, under way."""
        context = contextvars.copy_context()
        return self._recall_threads().submit(context.run, self._recalled, question)

    def _cold(self) -> Future[Store] | None:
        """The home that is being opened, for the first recall to wait for: that is not part of its time limit."""
        if self._waited_cold or self._opened is not None or self._opening.is_away:
            return None
        self._waited_cold = True
        return self._recall_threads().submit(self._open)

    def _recalled(self, question: _Question) -> Recall:
        with guard("recall"), span("reflexio.recall", "retrieval") as traced:
            store = self._open()
            if self._delivery.pending and not store.learns_itself:  # a server would not have learned from it yet
                self._delivery.flush(question.seconds / 2)
            if question.hold and question.user_id and store.opted_out(question.user_id):
                question = dataclasses.replace(question, user_id="", hold=False)
            held = self._frozen.get(question.conversation, store, user_id=question.user_id) if question.hold else None
            found = held or choose(
                store,
                question.text,
                user_id=question.user_id,
                agent_version=question.agent_version,
                top_k=question.top_k,
                token_budget=question.token_budget,
                count_tokens=self._count_tokens,
                meant=functools.partial(self._meant, seconds=question.seconds / 2),
                near=self._near(store, time.monotonic() + question.seconds),
                session_id=question.session_id,
                most_turns=question.turns,
            )
            if question.hold:
                self._frozen.hold(question.conversation, found)
            traced.note(recalled=len(found.learnings) + len(found.turns), characters=len(found.text))
            return found
        count("recalls_failed")
        return Recall(reason="error")

    def _meant(self, query: str, seconds: float) -> Meaning | None:
        """The meaning of a query, where it is had in time."""
        return self._embedding.meaning(query, seconds) if self._embedding else None

    def _near(self, store: Store, ends: float) -> Near | None:
        """Compares what a home found that keeps no vectors made here, in half of the time that is left then."""
        embedding = self._embedding
        if embedding is None or isinstance(store, Embeddable):
            return None
        return lambda meaning, texts: embedding.cosines(meaning, texts, (ends - time.monotonic()) / 2)

    def _late(self, question: _Question, future: Future[Recall]) -> Recall:
        count("recalls_late")
        warn("recall-late", "reflexio: a recall was too late; the agent goes on without (see the setting "
             "recall_timeout)")  # fmt: skip
        return self._deadline.late(question.conversation, future, question.forgotten)

    def after_fork(self, *, child: bool) -> None:
        """A child begins anew: a thread that it has not may have held a lock."""
        super().after_fork(child=child)
        if child:
            self._deadline, self._frozen = Deadline(), Frozen()


def _check(query: object = "", placement: object = "turn", **numbers: float | None) -> None:
    """Refuse what makes no sense; None is what was not said.

    Raises:
        InvalidInputError: It names each argument that is unusable.
    """
    problems = [] if isinstance(query, str) else [("query", f"must be text, not {type(query).__name__}")]
    if placement not in ("turn", "system"):
        problems.append(("placement", "must be 'turn' or 'system'"))
    for name, number in numbers.items():
        kind, least, most = _NUMBERS[name]
        if number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, (int, kind)) or not least <= number <= most:
            problems.append((name, f"must be a {'whole ' if kind is int else ''}number from {least} to {most}"))
    if problems:
        raise InvalidInputError("The call was refused", problems)


def _noted(found: Recall) -> Recall:
    """Note on the current turn what its prompt is about to hold."""
    turn = current_turn()
    if turn is not None:
        turn.retrieved(found.retrieved, experiment=found.experiment)
    return found
