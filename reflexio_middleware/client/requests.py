"""Publishing, reading and deleting requests and sessions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from reflexio_middleware.capture.messages import strip_injected
from reflexio_middleware.capture.snapshot import snapshot
from reflexio_middleware.client.core import Core, checked, ids_in, named, whose
from reflexio_middleware.learning.learn import LEARN, kind_of
from reflexio_store.contract import JobState, Receipt
from reflexio_store.errors import DeliveryError, InvalidInputError, StoreUnavailableError
from reflexio_store.ids import uuid7
from reflexio_store.models import (
    BulkDeleteResponse,
    DeleteResponse,
    DeleteSessionResponse,
    GetRequestsRequest,
    GetRequestsResponse,
    InteractionData,
    PublishUserInteractionRequest,
    PublishUserInteractionResponse,
    check_publish,
)
from reflexio_store.records import InteractionRecord, TurnRecord

_OPTIONS = ("session_finished", "skip_aggregation", "force_extraction", "evaluation_only", "override_learning_stall")
_STANDING = {"ready": "pending", "running": "processing", "done": "done", "dead": "failed"}
_ASK_SECONDS = 0.5  # a server answers 120 such questions a minute (wire fact)


class RequestsApi(Core):
    """The part of the client that speaks of requests and sessions."""

    def publish_interaction(
        self,
        user_id: str,
        interactions: Sequence[InteractionData | Mapping[str, Any]],
        source: str = "",
        agent_version: str = "",
        session_id: str | None = None,
        wait_for_response: bool = False,
        skip_aggregation: bool = False,
        force_extraction: bool = False,
        evaluation_only: bool = False,
        override_learning_stall: bool = False,
        retrieval_experiment_id: str | None = None,
        retrieval_experiment_arm: str | None = None,
        session_finished: bool = False,
        request_id: str | None = None,
    ) -> PublishUserInteractionResponse:
        """Store interactions as one request.

        When this returns, the request is on disk (in the spool) and survives the process being killed; the next read
        through this client sees it.

        Args:
            user_id: Whose request it is.
            interactions: 1 to 1000 messages: ``{"role", "content", "tools_used", ...}`` (see ``InteractionData``).
            source: Where it comes from, e.g. ``"web_app"``.
            agent_version: Version of the agent that answered; ``""``: the setting ``agent_version``.
            session_id: The conversation it belongs to. Required.
            wait_for_response: Wait until it is stored and learned from, and report what was learned.
            skip_aggregation: Keep what is learned from it out of agent playbooks.
            force_extraction: Learn from the session at once.
            evaluation_only: Keep it, but never learn from it.
            override_learning_stall: Accepted for compatibility.
            retrieval_experiment_id: Experiment that this request is part of; goes with the next one.
            retrieval_experiment_arm: ``"treatment"`` or ``"holdout"``.
            session_finished: The conversation is over: learn from it at once.
            request_id: Your own id, for publishing at most once; None: one is made. A known id changes nothing.

        Raises:
            InvalidInputError: Something is wrong; the message names interaction and field. Nothing was stored.
            DeliveryError: It could not be kept (spool full or not writable). Nothing was stored.
        """
        body, warnings = check_publish(
            user_id=user_id, interactions=interactions, source=source, agent_version=agent_version,
            session_id=session_id, skip_aggregation=skip_aggregation, force_extraction=force_extraction,
            evaluation_only=evaluation_only, override_learning_stall=override_learning_stall,
            retrieval_experiment_id=retrieval_experiment_id, retrieval_experiment_arm=retrieval_experiment_arm,
            session_finished=session_finished, request_id=request_id,
        )  # fmt: skip
        turn = _record(body, self.settings.agent_version)
        if request_id is not None and self._stored(turn.request_id):
            return self._answer(turn, warnings, "This request_id is stored already; nothing was changed")
        if not self._delivery.put(turn):
            raise DeliveryError(
                "The request was not stored: the spool is full, not writable, or the client is closed. See stats() and "
                "`reflexio-middleware doctor`."
            )
        stored = wait_for_response and not self._delivery.flush(self.settings.flush_timeout)
        message = "Stored" if stored else "Accepted: it waits to be stored"
        return self._answer(turn, warnings, message, wait=wait_for_response, stored=stored)

    def _stored(self, request_id: str) -> bool:
        """Whether the home has it; where it cannot be asked, it keeps each id once all the same."""
        try:
            return bool(self._settled().get_requests(GetRequestsRequest(request_id=request_id)).sessions)
        except StoreUnavailableError:
            return False

    def _answer(
        self, turn: TurnRecord, warnings: list[str], message: str, *, wait: bool = False, stored: bool = False
    ) -> PublishUserInteractionResponse:
        answer: dict[str, Any] = {"learning_status": "deferred", "learning_reason": "queued"}
        if self.settings.learning == "off" or "evaluation_only" in turn.options:
            answer = {"learning_status": "not_tracked", "learning_reason": "not_applicable"}
        elif wait and not stored:
            answer["learning_reason"] = "wait_timeout"
        elif wait and self._worker is not None:
            answer = self._wait_for_learning(turn)
        elif wait and self.store.learns_itself:
            answer = self._wait_for_server(turn)
        store = self._opened
        return PublishUserInteractionResponse(
            success=True, message=message, warnings=warnings, request_id=turn.request_id,
            storage_type=store.kind if store else None, storage_label=self.url, **answer,
        )  # fmt: skip

    def _wait_for_learning(self, turn: TurnRecord) -> dict[str, Any]:
        store = self._settled()
        store.force_learning(user_id=turn.user_id, session_id=turn.session_id)
        assert self._worker is not None  # noqa: S101 - the caller has looked
        self._worker.wait(self.settings.flush_timeout, user_id=turn.user_id, session_id=turn.session_id)
        status, reason = self._learning_of(turn.user_id, turn.session_id, turn.request_id)
        if status == "failed":
            return {"learning_status": status, "learning_reason": reason}
        if status != "done":
            reason = "input_budget_exceeded" if reason else "wait_timeout"
            return {"learning_status": "deferred", "learning_reason": reason}
        names = ("profiles_added", "profiles_updated", "playbooks_added", "playbooks_updated")
        results = [state.result for state in self._learning_states(turn.user_id, turn.session_id)]
        return {"learning_status": "done", **{name: sum(one.get(name, 0) for one in results) for name in names}}

    def _wait_for_server(self, turn: TurnRecord) -> dict[str, Any]:
        """Ask a server that learns itself until it is done, or says that it waits for more to be said."""
        deadline = time.monotonic() + self.settings.flush_timeout
        answer = {"learning_status": "deferred", "learning_reason": "wait_timeout"}
        try:
            self._settled()
            while time.monotonic() < deadline:
                status, reason = self._learning_of(turn.user_id, turn.session_id, turn.request_id)
                if status == "not_tracked":
                    return {"learning_status": status, "learning_reason": "not_applicable"}
                if status in ("done", "failed"):
                    return {"learning_status": status, "learning_reason": reason}
                if reason == "waiting_for_window":
                    return {"learning_status": "deferred", "learning_reason": reason}
                time.sleep(_ASK_SECONDS)
        except StoreUnavailableError as error:
            answer["learning_reason"] = str(error)
        return answer

    def _learning_states(self, user_id: str, session_id: str) -> list[JobState]:
        if self.store.learns_itself:
            return self.store.job_states(LEARN, user_id=user_id, key=session_id)
        kinds = [LEARN, *map(kind_of, self._extractor_names)]
        return [state for kind in kinds for state in self.store.job_states(kind, user_id=user_id, key=session_id)]

    def _learning_of(self, user_id: str, session_id: str, request_id: str) -> tuple[str, str]:
        """Where learning from a request stands, and why it does not go on where it does not."""
        states = self._learning_states(user_id, session_id)
        if self.store.learns_itself:
            return (_STANDING[states[0].state], states[0].last_error) if states else ("not_tracked", "")
        unread = {turn.extractor for turn in self.store.unlearned(user_id, session_id) if turn.request_id == request_id}
        if not unread:
            return ("done", "") if states else ("not_tracked", "")
        concerned = [state for state in states if state.kind == LEARN or state.kind in map(kind_of, unread)]
        dead = next((state for state in concerned if state.state == "dead"), None)
        if dead is not None:
            return "failed", dead.last_error
        running = any(state.state == "running" for state in concerned)
        waits_for = next((str(state.result["waits_for"]) for state in concerned if "waits_for" in state.result), "")
        return ("processing" if running else "pending"), waits_for

    def get_learning_status(self, request_id: str) -> str:
        """Where learning from a request stands, with all extractors: ``pending``, ``processing``, ``done``, ``failed``
        or ``not_tracked``.

        Raises:
            InvalidInputError: No id is given, or there is no such request.
        """
        found = self.get_requests(request_id=named("request_id", request_id)).sessions
        if not found:
            raise InvalidInputError("The call was refused", [("request_id", f"no request {request_id!r} is stored")])
        if found[0].requests[0].request.evaluation_only:
            return "not_tracked"
        return self._learning_of(found[0].user_id, found[0].session_id, request_id)[0]

    def finalize_session(self, session_id: str, *, user_id: str | None = None, wait_for_response: bool = False) -> bool:
        """Say that a conversation is over: it is learned from now. False if nothing of it waited for learning."""
        user, session = whose(user_id), named("session_id", session_id)
        forced = self._settled().force_learning(user_id=user, session_id=session)
        if self._worker:
            self._worker.wake()
            if wait_for_response:
                self._worker.wait(self.settings.flush_timeout, user_id=user, session_id=session)
        return forced > 0

    def get_requests(
        self,
        request: GetRequestsRequest | Mapping[str, Any] | None = None,
        *,
        user_id: str | None = None,
        request_id: str | None = None,
        session_id: str | None = None,
        source: str | None = None,
        start_time: datetime | str | None = None,
        end_time: datetime | str | None = None,
        top_k: int | None = None,
        offset: int | None = None,
        cursor: str | None = None,
    ) -> GetRequestsResponse:
        """Requests grouped by session: the session with the newest request first, requests newest first.

        Args:
            request: All of it as one value; the keywords override its fields.
            user_id: Only this user's; None: everybody's.
            request_id: Only this request.
            session_id: Only this session.
            source: Only from this source.
            start_time: Only requests made at this time or later (naive times are local).
            end_time: Only requests made before this time.
            top_k: Sessions in one page (30).
            offset: Sessions to pass over.
            cursor: The ``next_cursor`` of the page before; stable while new turns arrive.

        Raises:
            InvalidInputError: A filter is unusable.
        """
        given = _fields_of(request)
        keywords = {
            "user_id": user_id, "request_id": request_id, "session_id": session_id, "source": source,
            "start_time": start_time, "end_time": end_time, "top_k": top_k, "offset": offset, "cursor": cursor,
        }  # fmt: skip
        given.update({name: value for name, value in keywords.items() if value is not None})
        return self._settled().get_requests(checked(GetRequestsRequest, **given))

    def delete_request(self, request_id: str, wait_for_response: bool = False) -> DeleteResponse:  # noqa: ARG002
        """Delete a request, and what was learned from it alone. An unknown id changes nothing and says so.

        ``wait_for_response`` is accepted for compatibility: the deletion is complete when this returns.
        """
        receipt = self._settled().delete_requests([named("request_id", request_id)])
        if not receipt.requests:
            return DeleteResponse(success=False, message=f"No request {request_id!r} is stored; nothing was changed")
        return DeleteResponse(success=True, message=f"Deleted {told(receipt)}")

    def delete_session(
        self,
        session_id: str,
        wait_for_response: bool = False,  # noqa: ARG002
        *,
        user_id: str | None = None,
    ) -> DeleteSessionResponse:
        """Delete all requests of a session, and what was learned from it alone.

        Args:
            session_id: The session.
            wait_for_response: Accepted for compatibility: the deletion is complete when this returns.
            user_id: Only this user's session of that name; None: everybody's.
        """
        receipt = self._settled().delete_session(named("session_id", session_id), user_id=whose(user_id))
        known = receipt.requests > 0
        return DeleteSessionResponse(
            success=known,
            message=f"Deleted {told(receipt)}" if known else f"No session {session_id!r}; nothing was changed",
            deleted_requests_count=receipt.requests,
            deleted_profiles_count=receipt.profiles,
            deleted_playbooks_count=receipt.user_playbooks,
        )

    def delete_requests_by_ids(self, request_ids: Sequence[str]) -> BulkDeleteResponse:
        """Delete up to 10,000 requests, and what was learned from them alone; unknown ids are passed over."""
        receipt = self._settled().delete_requests(ids_in("request_ids", request_ids))
        return BulkDeleteResponse(success=True, deleted_count=receipt.requests, message=f"Deleted {told(receipt)}")


def _fields_of(request: GetRequestsRequest | Mapping[str, Any] | None) -> dict[str, Any]:
    if request is None:
        return {}
    if isinstance(request, GetRequestsRequest):
        return request.model_dump()
    if not isinstance(request, Mapping):
        problem = f"must be a GetRequestsRequest or a mapping, not {type(request).__name__}"
        raise InvalidInputError("The call was refused", [("request", problem)])
    unknown = [str(name) for name in request if name not in GetRequestsRequest.model_fields]
    if unknown:  # a misspelt filter must not mean everybody's
        known = ", ".join(GetRequestsRequest.model_fields)
        raise InvalidInputError(
            "The call was refused", [(name, f"is no filter; there are: {known}") for name in unknown]
        )
    return dict(request)


def told(receipt: Receipt) -> str:
    """What a delete removed, in words."""
    learned = receipt.profiles + receipt.user_playbooks
    return f"{receipt.requests} request(s), {receipt.interactions} interaction(s) and {learned} learning(s)"


def _record(body: PublishUserInteractionRequest, default_version: str) -> TurnRecord:
    """The body of a publish as the record that is stored; injected blocks are taken out of its texts."""
    interactions = []
    for item in body.interaction_data_list:
        values = item.model_dump(exclude={"tools_used"})
        record = InteractionRecord(**values, tools_used=[snapshot(tool.model_dump()) for tool in item.tools_used])
        record.content = strip_injected(record.content)
        interactions.append(record)
    return TurnRecord(
        request_id=body.request_id or uuid7(),
        user_id=body.user_id,
        session_id=body.session_id,
        agent_version=body.agent_version or default_version,
        source=body.source,
        created_at_us=time.time_ns() // 1000,
        interactions=interactions,
        options={name: True for name in _OPTIONS if getattr(body, name)},
        retrieval_experiment_id=body.retrieval_experiment_id,
        retrieval_experiment_arm=body.retrieval_experiment_arm,
    )
