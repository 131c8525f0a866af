"""Listing what a server has learned, checked row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from reflexio_store.errors import InvalidInputError
from reflexio_store.models import AgentPlaybook, Learning, LearningKind, LearningQuery, UserPlaybook, UserProfile

from .kinds import EVERY_STATUS, KINDS, MOST, Kind, filters, matching
from .requests import RemoteRequests

_STATUSES_OF_ALL: Final = {None: "current", "pending": "pending", "archived": "archived"}


class RemoteListing(RemoteRequests):
    """The part of the home that lists learnings."""

    def get_learnings(self, kind: LearningKind, query: LearningQuery) -> list[Learning]:
        """Learnings of one kind, newest first (all of them where ``top_k`` is None); ``query.query`` is ignored.

        Profiles of all users are had only as current, pending and archived. A server keeps no evidence:
        ``source_request_id`` finds what names the request, or one of its interactions, as its source.
        """
        which = KINDS[kind]
        sent = filters(which, query)
        if sent is None or query.ids == []:
            return []
        found = matching(which, self._rows(which, query, sent), query)
        if query.source_request_id is not None:
            found = self._resting_on(query.source_request_id, found)
        found.sort(key=lambda item: (getattr(item, which.stamp), getattr(item, which.key)), reverse=True)
        return found[: query.top_k]

    def _rows(self, kind: Kind, query: LearningQuery, sent: dict[str, Any]) -> list[Learning]:
        """What the server lists: as much as is wanted, or all where the rest of the filters hold only here."""
        here = (query.ids, query.tags, query.playbook_status_filter, query.source_request_id)
        narrowed = any(here) or (query.source is not None and kind.name != "profile")
        limit = MOST if narrowed or query.top_k is None else query.top_k
        if query.ids is not None and len(query.ids) == 1:
            key = kind.key_of(query.ids[0])
            if key is None:
                return []
            sent = {**sent, kind.key: key}
        if kind.name == "profile":
            if query.user_id is None:
                return self._profiles_of_all(kind, query, limit)
            return kind.values(self._http.call("POST", "/api/get_profiles", {**sent, "top_k": limit}))
        route = "/api/get_user_playbooks" if kind.is_personal else "/api/get_agent_playbooks"
        return kind.values(self._http.call("POST", route, {**sent, "limit": limit}))

    def _profiles_of_all(self, kind: Kind, query: LearningQuery, limit: int) -> list[Learning]:
        """Profiles of all users: the route takes one status, as a word, and times as epoch seconds (wire facts)."""
        here = (query.start_time, query.end_time, query.source, query.profile_time_to_live)
        size = MOST if any(one is not None for one in here) else limit
        found: list[Learning] = []
        for status in query.status_filter or [None]:
            word = _STATUSES_OF_ALL.get(status)
            if word is not None:
                params = {"status_filter": word, "limit": str(size)}
                found += kind.values(self._http.call("GET", "/api/get_all_profiles", params=params))
        return found

    def _resting_on(self, request_id: str, learnings: Sequence[Learning]) -> list[Learning]:
        messages = {
            item.interaction_id for data in self._all_requests(request_id=request_id) for item in data.interactions
        }
        return [item for item in learnings if request_of(item) == request_id or messages & sources_of(item)]

    def _known(self, kind: Kind, learning_id: str, user_id: str | None = None) -> Learning | None:
        """The learning of that id, of that user where one is named, whatever its status."""
        key = kind.key_of(learning_id)
        if key is None:
            return None
        if kind.name == "profile":
            params = {"profile_id": str(key), "include_tombstones": "true"}
            found = kind.values(self._http.call("GET", "/api/get_all_profiles", params=params))
        else:
            route = "/api/get_user_playbooks" if kind.is_personal else "/api/get_agent_playbooks"
            found = kind.values(self._http.call("POST", route, {kind.key: key, "status_filter": EVERY_STATUS}))
        mine = (item for item in found if kind.id_of(item) == learning_id and user_id in (None, owner_of(item)))
        return next(mine, None)

    def _all(self, kind: Kind, user_id: str | None) -> list[Learning]:
        """Everything of a kind (of a user), whatever its status."""
        return self.get_learnings(kind.name, LearningQuery(user_id=user_id, status_filter=EVERY_STATUS))


def owner_of(learning: Learning) -> str | None:
    """Whose it is; None for what belongs to all."""
    return None if isinstance(learning, AgentPlaybook) else learning.user_id


def request_of(learning: Learning) -> str:
    """The request that it names as its source."""
    if isinstance(learning, UserProfile):
        return learning.generated_from_request_id
    return learning.request_id if isinstance(learning, UserPlaybook) else ""


def sources_of(learning: Learning) -> set[int]:
    """The interactions that it names as its sources."""
    return set() if isinstance(learning, AgentPlaybook) else set(learning.source_interaction_ids)


def refused(what: str, name: str, problem: str) -> InvalidInputError:
    """An error with one problem."""
    return InvalidInputError(what, [(name, problem)])
