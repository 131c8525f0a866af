"""Searching what a server has learned: its order, checked and scored here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from reflexio_store.contract import Answers, Scored
from reflexio_store.models import Learning, LearningKind, LearningQuery, SearchMode, UserProfile
from reflexio_store.sql.words import query_words

from .forgetting import RemoteForgetting
from .kinds import KINDS, Kind, filters, matching
from .ranking import fits
from .wire import literal, wire_user

_TOP: Final = 10
_MOST: Final = 100
_LONGEST_USER: Final = 255  # of a user in a search (wire fact)


class RemoteSearch(RemoteForgetting):
    """The part of the home that finds learnings."""

    def search_learnings(self, kind: LearningKind, query: LearningQuery) -> list[Scored[Learning]]:
        """Learnings of one kind that match ``query.query``, in the server's order (``top_k`` 10 when not given).

        The server gives no scores (wire fact): ``coverage`` and ``share`` are counted here, by words, among what it
        found; ``score`` is the place in its order. For profiles and user playbooks a ``user_id`` is required: without
        one the answer is empty. What is not current is found by words, here; so is all of a user whose name is longer
        than a search of the server takes.
        """
        return self._search_one(kind, query, "hybrid")

    def _search_one(self, kind: LearningKind, query: LearningQuery, mode: SearchMode) -> list[Scored[Learning]]:
        which = KINDS[kind]
        words = (query.query or "").strip()
        sent = filters(which, query)
        nobodys = which.is_personal and not query.user_id
        if sent is None or nobodys or query.ids == [] or not query_words(words):
            return []
        limit = min(query.top_k or _TOP, _MOST)
        if (which.name == "profile" and query.status_filter not in (None, [None])) or _is_long(query.user_id):
            return _by_words(words, self.get_learnings(kind, query.model_copy(update={"top_k": None})))[:limit]
        found = matching(which, self._found(which, words, query, {**sent, "search_mode": mode}, limit), query)
        if query.source_request_id is not None:
            found = self._resting_on(query.source_request_id, found)
        return _in_order(words, found[:limit])

    def search(
        self,
        queries: Mapping[LearningKind, LearningQuery],
        *,
        meaning: object = None,
        mode: SearchMode = "hybrid",
        floors: object = None,
    ) -> Answers:
        """Several kinds in one call, where they ask for the same words: an answer for each kind asked for.

        The server embeds by itself: ``meaning`` (a vector made here) is not sent. ``mode`` is. All that it found is
        given, whatever the ``floors``.
        """
        del meaning, floors
        body = _unified(queries)
        if body is None:
            return Answers((kind, self._search_one(kind, query, mode)) for kind, query in queries.items())
        with self._searching.call():
            answer = self._http.call(
                "POST", "/api/search", {**body, "search_mode": mode}, timeout=self._search_timeout, attempts=2
            )
        found = Answers()
        for name, query in queries.items():
            kind, limit = KINDS[name], min(query.top_k or _TOP, _MOST)
            listed = kind.values({kind.rows: answer.get(f"{name}s")})
            fit = matching(kind, listed, query)
            if len(fit) < limit and len(fit) < len(listed) >= body["top_k"]:  # full of what was not asked for
                found[name] = self._search_one(name, query, mode)
            else:
                found[name] = _in_order(body["query"], fit[:limit])
        found.degraded = bool(answer.get("degraded"))
        return found

    def _found(self, kind: Kind, words: str, query: LearningQuery, sent: dict[str, Any], limit: int) -> list[Learning]:
        narrowed = query.ids or query.tags or query.source_request_id or query.profile_time_to_live
        body = {**sent, "query": literal(words), "top_k": _MOST if narrowed else limit}
        if kind.name == "profile":
            body.pop("status_filter")
            body.pop("profile_time_to_live", None)
        elif kind.is_personal:
            body |= {"source": query.source} if query.source is not None else {}
        elif query.playbook_status_filter is not None:
            body["playbook_status_filter"] = query.playbook_status_filter
        with self._searching.call():
            answer = self._http.call("POST", kind.search, body, timeout=self._search_timeout, attempts=2)
        return kind.values(answer)


def _unified(queries: Mapping[LearningKind, LearningQuery]) -> dict[str, Any] | None:
    """The body of one call for all queries; None where they differ in what the route has one field for, or ask for
    what it has none for."""
    words = {(query.query or "").strip() for query in queries.values()}
    versions = {query.agent_version for kind, query in queries.items() if kind != "profile"}
    personal = [query for kind, query in queries.items() if kind != "agent_playbook"]
    users = {query.user_id for query in personal}
    if not (len(words) == 1 and query_words(min(words)) and len(versions) <= 1 and len(users) <= 1 and users != {""}):
        return None
    if None in users or any(_asks_for_more(query) for query in queries.values()):
        return None
    shared = queries.get("agent_playbook")
    body = {
        "query": literal(min(words)),
        "entity_types": [f"{kind}s" for kind in queries],
        "top_k": min(max(query.top_k or _TOP for query in queries.values()), _MOST),
        "user_id": next((wire_user(user) for user in users if user), None),
        "agent_version": next(iter(versions), None),
        "agent_playbook_status_filter": shared.playbook_status_filter if shared else None,
    }
    return {name: value for name, value in body.items() if value is not None}


def _is_long(user_id: str | None) -> bool:
    return len(user_id or "") > _LONGEST_USER


def _asks_for_more(query: LearningQuery) -> bool:
    more = (query.ids, query.source, query.tags, query.playbook_name, query.source_request_id, query.start_time,
            query.end_time, query.profile_time_to_live)  # fmt: skip
    unusual = query.status_filter not in (None, [None]) or _is_long(query.user_id)
    return unusual or any(value is not None for value in more)


def _in_order(words: str, found: Sequence[Learning]) -> list[Scored[Learning]]:
    measured = fits(words, [_text(item) for item in found])
    return [
        Scored(item, score=float(len(found) - place), coverage=fit.coverage, share=fit.share)
        for place, (item, fit) in enumerate(zip(found, measured, strict=True))
    ]


def _by_words(words: str, candidates: Sequence[Learning]) -> list[Scored[Learning]]:
    measured = zip(candidates, fits(words, [_text(item) for item in candidates]), strict=True)
    found = [
        Scored(item, score=fit.weight, coverage=fit.coverage, share=fit.share) for item, fit in measured if fit.weight
    ]
    return sorted(found, key=lambda item: -item.score)


def _text(learning: Learning) -> tuple[str, str]:
    return "" if isinstance(learning, UserProfile) else learning.trigger or "", learning.content
