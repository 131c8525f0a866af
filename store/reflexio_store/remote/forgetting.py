"""Deleting on a server: what is named and nobody else's, with what was learned from it alone, and an honest receipt.

The server's ``delete_session`` is not scoped by user, it reports success for what is not there, and it leaves what was
learned (wire facts). So what is there is looked up first, is deleted by its ids, and then what rests on it alone.
Before that it is noted what is deleted: from then on no turn of it that waits in some spool is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from reflexio_store.contract import Receipt
from reflexio_store.erasing import digest_of
from reflexio_store.models import LearningKind, RequestData

from .kinds import KINDS
from .learnings import RemoteLearnings
from .listing import request_of, sources_of
from .wire import wire_user

_AT_ONCE: Final = 1000
_PERSONAL: Final[tuple[LearningKind, ...]] = ("profile", "user_playbook")


class RemoteForgetting(RemoteLearnings):
    """The part of the home that deletes turns."""

    def delete_interaction(self, user_id: str, interaction_id: int) -> Receipt:
        """Delete one message of a user, and the learnings that rested on it alone. A request without any message left
        goes, too."""
        mine = self._messages_of(user_id)
        request_ids = [item.request_id for item in mine if item.interaction_id == interaction_id]
        if not request_ids:
            return Receipt()
        if sum(item.request_id == request_ids[0] for item in mine) == 1:
            return self.delete_requests(request_ids[:1], user_id=user_id)
        body = {"user_id": wire_user(user_id), "interaction_id": interaction_id}
        self._http.call("DELETE", "/api/delete_interaction", body)
        if not user_id:
            return Receipt(interactions=1)
        return Receipt(
            interactions=1,
            profiles=self._forget_learned("profile", user_id, set(), {interaction_id}),
            user_playbooks=self._forget_learned("user_playbook", user_id, set(), {interaction_id}),
        )

    def delete_requests(self, request_ids: Sequence[str] | None, *, user_id: str | None = None) -> Receipt:
        """Delete requests (all of them, or of the user, where ``request_ids`` is None), and the learnings that rested
        on them alone (as far as they name their sources)."""
        if request_ids is None:
            self._erasures.note([digest_of("requests", user_id)])
            return self._forget(self._all_requests(user_id=user_id))

        def look_up(request_id: str) -> list[RequestData]:
            return self._all_requests(request_id=request_id, user_id=user_id)

        self._erasures.note(digest_of("request", user_id, name) for name in request_ids)
        return self._forget([data for found in self._each(look_up, dict.fromkeys(request_ids)) for data in found])

    def delete_session(self, session_id: str, *, user_id: str | None = None) -> Receipt:
        """Delete a session (of one user where one is given), and the learnings that rested on it alone."""
        self._erasures.note([digest_of("session", user_id, session_id)])
        return self._forget(self._all_requests(session_id=session_id, user_id=user_id))

    def delete_user(self, user_id: str) -> Receipt:
        """Delete everything held on one user: requests, interactions, profiles and user playbooks."""
        self._erasures.note([digest_of("user", user_id)])
        there = self._all_requests(user_id=user_id)
        profiles, playbooks = (len(self._all(KINDS[name], user_id)) for name in _PERSONAL)
        self._http.call("POST", "/api/clear_user_data", {"user_id": wire_user(user_id)})
        self._publisher.forget(data.request.request_id for data in there)
        return Receipt(
            requests=len(there),
            interactions=sum(len(data.interactions) for data in there),
            profiles=profiles,
            user_playbooks=playbooks,
        )

    def _forget(self, there: Sequence[RequestData]) -> Receipt:
        ids = [data.request.request_id for data in there]
        for start in range(0, len(ids), _AT_ONCE):
            self._http.call("DELETE", "/api/delete_requests_by_ids", {"request_ids": ids[start : start + _AT_ONCE]})
        self._publisher.forget(ids)
        messages = {item.interaction_id for data in there for item in data.interactions}
        users = {data.request.user_id for data in there} - {""}
        return Receipt(
            requests=len(there),
            interactions=len(messages),
            profiles=sum(self._forget_learned("profile", user, set(ids), messages) for user in users),
            user_playbooks=sum(self._forget_learned("user_playbook", user, set(ids), messages) for user in users),
        )

    def _forget_learned(self, name: LearningKind, user_id: str, gone: set[str], messages: set[int]) -> int:
        """Delete learnings whose named sources are all deleted; how many. What names none stays."""
        kind = KINDS[name]
        touched = [item for item in self._all(kind, user_id) if request_of(item) in gone or sources_of(item) & messages]
        if not touched:
            return 0
        left = {item.interaction_id for item in self._messages_of(user_id)}
        rootless = [item for item in touched if not sources_of(item) & left]
        self._drop(kind, rootless)
        return len(rootless)
