"""The record of turns on a server: storing, listing, reading and searching them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final

from reflexio_store.models import (
    GetInteractionsRequest,
    GetRequestsRequest,
    GetRequestsResponse,
    Interaction,
    RequestData,
    SearchInteractionRequest,
)
from reflexio_store.records import TurnRecord

from .pages import Placed, walk
from .part import Part
from .ranking import fits
from .wire import interaction, literal, rows, window, wire_user

DEFAULT_SESSIONS: Final = 100
_SEARCH_LIMIT: Final = 10  # the server's searches of interactions return so many, whatever is asked for (wire fact)
_MARGIN: Final = 50
_EVERYTHING: Final = 1_000_000


class RemoteRequests(Part):
    """The part of the home that keeps turns."""

    def add_turns(
        self,
        turns: Sequence[TurnRecord],
        *,
        learn_after: float | None = 0.0,
        restore: bool = False,
    ) -> int:
        """Publish turns and return how many were new; each is stored once, however often it is given.

        Not in one transaction: what was delivered before an error stays. Where ``learn_after`` is None they are
        published as ``evaluation_only``, so that the server does not learn from them; otherwise it learns when it sees
        fit. The server sets ``created_at`` of a request to its own time, and keeps neither ``status``, ``error`` nor
        ``metadata``.

        Raises:
            StoreUnavailableError: Not all could be delivered now; give them again.
            InvalidInputError: The server refused one for good; the others were delivered.
        """
        learn = learn_after is not None
        if restore:
            return self._publisher.publish(turns, learn=learn)
        return self._publisher.publish(turns, learn=learn, wanted=self._erasures.spares)

    def get_requests(self, query: GetRequestsRequest) -> GetRequestsResponse:
        """Sessions with their requests, newest first, one page of them; see :mod:`.pages`.

        At most 100 sessions where ``top_k`` is None. ``offset`` counts from the cursor where both are given.
        """
        size = query.top_k or DEFAULT_SESSIONS
        found = list(islice(self._sessions(query, size + 1), query.offset, query.offset + size + 1))
        page = found[:size]
        more = len(found) > size
        total = sum(len(item.session.requests) for item in page)
        return GetRequestsResponse(
            sessions=[item.session for item in page],
            has_more=more,
            next_cursor=page[-1].cursor if more else None,
            msg=f"Found {total} request(s) in {len(page)} session(s)",
        )

    def _sessions(self, query: GetRequestsRequest, size: int) -> Any:
        times = window(query.start_time, query.end_time)
        filters: dict[str, Any] = {"request_id": query.request_id, "session_id": query.session_id}
        filters |= {"source": query.source, **(times or {})}
        if query.user_id is not None:
            filters["user_id"] = wire_user(query.user_id)
        body = {name: value for name, value in filters.items() if value is not None}

        def ask(offset: int, count: int) -> list[Mapping[str, Any]]:
            if times is None:
                return []
            return list(self._ask_requests({**body, "offset": offset, "top_k": count}))

        return walk(ask, lambda data: _matches(data, query), size, query.cursor)

    def _ask_requests(self, body: dict[str, Any]) -> list[Mapping[str, Any]]:
        return list(rows(self._http.call("POST", "/api/get_requests", body), "sessions"))

    def _all_requests(self, **filters: Any) -> list[RequestData]:
        """All requests that match, in no promised order."""
        found: list[Placed] = list(self._sessions(GetRequestsRequest(**filters), DEFAULT_SESSIONS))
        return [data for item in found for data in item.session.requests]

    def read_session(self, user_id: str, session_id: str) -> list[RequestData]:
        """The whole session of one user, oldest request first."""
        found = list(self._sessions(GetRequestsRequest(user_id=user_id, session_id=session_id), 1))
        return found[0].session.requests[::-1] if found else []

    def get_interactions(self, query: GetInteractionsRequest) -> list[Interaction]:
        """Interactions of one user (of all users where none is named), newest first.

        The server cuts among interactions of one second as they were stored, oldest first (wire fact): so more are
        asked for, until the last one that is wanted is newer than the last one that came.
        """
        times = window(query.start_time, query.end_time)
        if times is None:
            return []
        if query.user_id is None:
            return self._interactions_of_all(query)
        wanted = query.top_k
        asked = None if wanted is None else wanted + _MARGIN
        while True:
            body = {"user_id": wire_user(query.user_id), "top_k": asked, **times}
            found = self._of_user(self._http.call("POST", "/api/get_interactions", body), query.user_id)
            found.sort(key=lambda item: (item.created_at, item.interaction_id), reverse=True)
            if wanted is None or asked is None or len(found) < asked:
                return found[:wanted]
            if found[wanted - 1].created_at > found[-1].created_at:
                return found[:wanted]
            asked *= 4

    def _interactions_of_all(self, query: GetInteractionsRequest) -> list[Interaction]:
        """The route has no window (wire fact): it is kept to here."""
        size = _EVERYTHING if query.start_time or query.end_time or query.top_k is None else query.top_k
        answer = self._http.call("GET", "/api/get_all_interactions", params={"limit": str(size)})
        found = [interaction(row) for row in rows(answer, "interactions")]
        found = [item for item in found if _within(item.created_at, query)]
        found.sort(key=lambda item: (item.created_at, item.interaction_id), reverse=True)
        return found[: query.top_k]

    def _messages_of(self, user_id: str) -> list[Interaction]:
        """All messages of a user (``""``: of nobody)."""
        answer = self._http.call("POST", "/api/get_interactions", {"user_id": wire_user(user_id), "top_k": None})
        return self._of_user(answer, user_id)

    def _of_user(self, answer: Mapping[str, Any], user_id: str) -> list[Interaction]:
        found = map(interaction, rows(answer, "interactions"))
        return [item for item in found if item.user_id == user_id]

    def search_interactions(
        self,
        query: SearchInteractionRequest,
        *,
        meaning: object = None,  # noqa: ARG002 - the server embeds by itself
    ) -> list[Interaction]:
        """Interactions of one user that match, best first; without a query the ``most_recent_k`` newest.

        The server finds ten at most, and its time filters are broken (wire facts): where more, a window or one request
        is asked for, they are ranked here, by words.
        """
        words = (query.query or "").strip()
        if not words:
            return self._candidates(query)[: query.most_recent_k] if query.most_recent_k else []
        limit = query.top_k or _SEARCH_LIMIT
        narrowed = query.request_id or query.start_time or query.end_time
        if narrowed or limit > _SEARCH_LIMIT:
            return self._ranked(words, self._candidates(query))[:limit]
        body = {"user_id": wire_user(query.user_id), "query": literal(words), "search_mode": query.search_mode}
        with self._searching.call():
            answer = self._http.call("POST", "/api/search_interactions", body, timeout=self._search_timeout, attempts=2)
        return self._of_user(answer, query.user_id)[:limit]

    def _candidates(self, query: SearchInteractionRequest) -> list[Interaction]:
        """What a search may find, newest first."""
        everything = GetInteractionsRequest(
            user_id=query.user_id,
            start_time=query.start_time,
            end_time=query.end_time,
            top_k=None if query.query or query.request_id else query.most_recent_k,
        )
        found = self.get_interactions(everything)
        return [item for item in found if query.request_id in (None, item.request_id)]

    def _ranked(self, words: str, candidates: Sequence[Interaction]) -> list[Interaction]:
        scored = zip(fits(words, [("", item.content) for item in candidates]), candidates, strict=True)
        found = [(fit.weight, item) for fit, item in scored if fit.weight > 0]
        return [item for _, item in sorted(found, key=lambda pair: -pair[0])]


def _within(moment: int, query: GetInteractionsRequest) -> bool:
    start, end = query.start_time, query.end_time
    return (start is None or moment >= start.timestamp()) and (end is None or moment < end.timestamp())


def _matches(data: RequestData, query: GetRequestsRequest) -> bool:
    """Whether a request is one that was asked for: what another user said is never let through."""
    request = data.request
    pairs = (
        (query.user_id, request.user_id),
        (query.request_id, request.request_id),
        (query.session_id, request.session_id),
        (query.source, request.source),
    )
    return all(wanted is None or wanted == found for wanted, found in pairs)
