"""Moving house to a server and from it: what it gives and takes, and what is lost on the way."""

from __future__ import annotations

import base64
import binascii
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any, Final, TypeVar

import orjson

from reflexio_store.errors import InvalidInputError, StoreUnavailableError
from reflexio_store.ids import uuid7
from reflexio_store.models import (
    AgentPlaybook,
    GetRequestsRequest,
    GetSessionOutcomesRequest,
    Learning,
    LearningKind,
    RequestData,
    SessionOutcome,
    UserPlaybook,
    UserProfile,
)
from reflexio_store.moving import Record, RecordKind, RecordPage, Stored
from reflexio_store.records import InteractionRecord, TurnRecord

from .kinds import KINDS, said
from .learnings import kind_of
from .listing import owner_of
from .requests import DEFAULT_SESSIONS
from .sharing import RemoteSharing

T = TypeVar("T")
_AT_ONCE: Final = 20
"""Turns or playbooks of one piece; a server admits 60 turns in a minute (wire fact)."""
_PATIENCE: Final = 300.0
"""Seconds for which a server that asks for pauses is asked again, for each piece."""
_INTERACTION = tuple(field.name for field in fields(InteractionRecord) if field.name != "place")
_LOSSES = (
    "A Reflexio server sets the time of a request itself, in seconds, and keeps neither its status, error and metadata "
    "nor the options it was published with.",
    "It hands out no citations and no image data, and keeps no evidence, no dismissals and no jobs.",
    "It keeps neither which users agent playbooks rest on, nor who opted out, nor digests of what was erased.",
    "It takes in no history of learnings, and no account of what models took.",
    "It numbers messages and playbooks itself, and keeps no tags and times of agent playbooks.",
    "Requests that are moved to it are kept as evaluation_only: it does not learn from them again.",
)


class RemoteMoving(RemoteSharing):
    """The part of the home that gives all it keeps, and takes in what another one gave."""

    def losses(self) -> list[str]:
        """What a server cannot give or keep of a record."""
        return list(_LOSSES)

    def read_records(
        self, kind: RecordKind, *, user_id: str | None = None, cursor: str | None = None, limit: int = 500
    ) -> RecordPage:
        """Everything of one kind, whatever its status: one page. Of what is not kept it is empty."""
        place = _read(cursor) if cursor is not None else None
        if kind == "request":
            return self._turns(user_id, place, limit)
        if kind == "outcome":
            return self._outcomes(user_id, place, limit)
        if kind == "profile" or kind == "user_playbook" or (kind == "agent_playbook" and user_id is None):
            return self._learned(kind, user_id, place, limit)
        return RecordPage([])

    def _turns(self, user_id: str | None, place: tuple[str, int] | None, limit: int) -> RecordPage:
        """Requests by session, the newest first; a place is a session's cursor and how many of the next are read."""
        before, done = place or ("", 0)
        found: list[Record] = []
        query = GetRequestsRequest(user_id=user_id, cursor=before or None)
        for item in self._sessions(query, min(limit, DEFAULT_SESSIONS)):
            requests = item.session.requests[done:]
            part = requests[: limit - len(found)]
            found += [_turn(data) for data in part]
            if len(part) < len(requests):
                return RecordPage(found, _written(before, done + len(part)))
            before, done = item.cursor, 0
            if len(found) == limit:
                return RecordPage(found, _written(before, 0))
        return RecordPage(found)

    def _learned(
        self, kind: LearningKind, user_id: str | None, place: tuple[str, int] | None, limit: int
    ) -> RecordPage:
        which = KINDS[kind]
        listed = sorted(self._all(which, user_id), key=lambda item: (owner_of(item) or "", which.id_of(item)))
        start = place[1] if place else 0
        part: list[Record] = list(listed[start : start + limit])
        more = start + limit < len(listed)
        return RecordPage(part, _written("", start + limit) if more else None)

    def _outcomes(self, user_id: str | None, place: tuple[str, int] | None, limit: int) -> RecordPage:
        start, size = (place[1] if place else 0), min(limit, 1000)
        found = self.get_outcomes(GetSessionOutcomesRequest(user_id=user_id, top_k=size, offset=start))
        part: list[Record] = list(found)
        return RecordPage(part, _written("", start + size) if len(found) == size else None)

    def put_records(self, records: Sequence[Record]) -> Stored:
        """Store records, as far as a server keeps them; see :meth:`losses`.

        A request, outcome or playbook that is there stays as it is (of playbooks, one that says the same); a profile
        that is there with another value is replaced.
        """
        turns = [record for record in records if isinstance(record, TurnRecord)]
        turns.sort(key=lambda turn: turn.created_at_us)
        stored = Stored()
        for piece in _pieces(turns):
            stored += self._patiently(self._put_turns, piece)
        playbooks: dict[tuple[LearningKind, str | None], list[Learning]] = defaultdict(list)
        for record in records:
            if isinstance(record, (UserPlaybook, AgentPlaybook)):
                playbooks[kind_of(record), owner_of(record)].append(record)
            elif isinstance(record, SessionOutcome):
                stored += self._patiently(self._put_outcome, record)
            elif isinstance(record, UserProfile):
                stored += self._patiently(self._put_profile, record)
            elif not isinstance(record, TurnRecord):
                stored += Stored(lost=1)
        for theirs in playbooks.values():
            for some in _pieces(theirs):
                stored += self._patiently(self._put_playbooks, some)
        return stored

    def _patiently(self, put: Callable[[T], Stored], what: T) -> Stored:
        """Put something, again and again as long as the server asks for a pause: it limits the calls of a minute."""
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                return put(what)
            except StoreUnavailableError as error:
                pause = error.retry_after
                if pause is None or time.monotonic() + pause > end or self._http.rest(pause):
                    raise

    def _put_turns(self, turns: Sequence[TurnRecord]) -> Stored:
        new = self.add_turns(turns, learn_after=None, restore=True)
        return Stored(new=new, same=len(turns) - new)

    def _put_outcome(self, outcome: SessionOutcome) -> Stored:
        answer = self.mark_outcome(outcome)
        if answer.reason is not None:
            return Stored(differ=1)
        return Stored(new=1) if answer.recorded else Stored(same=1)

    def _put_profile(self, profile: UserProfile) -> Stored:
        kind = KINDS["profile"]
        known, body = self._own(kind, profile), kind.body(profile)
        if known is not None and kind.body(known) == body:
            return Stored(same=1)
        body["profile_id"] = body["profile_id"] or uuid7()
        self._http.call("POST", kind.add, {kind.rows: [body]})
        return Stored(new=1) if known is None else Stored(replaced=1)

    def _put_playbooks(self, playbooks: Sequence[Learning]) -> Stored:
        """Playbooks of one kind and owner: those that nobody said yet."""
        kind = KINDS[kind_of(playbooks[0])]
        known = {_told(item) for item in self._all(kind, owner_of(playbooks[0]))}
        new = {_told(item): item.model_copy(update={kind.key: 0}) for item in playbooks if _told(item) not in known}
        self.add_learnings(list(new.values()))
        return Stored(new=len(new), same=len(playbooks) - len(new))


def _pieces(things: Sequence[T]) -> Iterator[Sequence[T]]:
    return (things[start : start + _AT_ONCE] for start in range(0, len(things), _AT_ONCE))


def _told(playbook: Learning) -> tuple[Any, ...]:
    values = playbook.model_dump()
    return values["agent_version"], *said(values)


def _turn(data: RequestData) -> TurnRecord:
    request = data.request
    return TurnRecord(
        request_id=request.request_id,
        user_id=request.user_id,
        session_id=request.session_id or "",
        agent_version=request.agent_version,
        source=request.source,
        created_at_us=request.created_at * 1_000_000,
        interactions=[
            InteractionRecord(**{name: value for name, value in item.model_dump().items() if name in _INTERACTION})
            for item in data.interactions
        ],
        options={"evaluation_only": True} if request.evaluation_only else {},
        retrieval_experiment_id=request.retrieval_experiment_id,
        retrieval_experiment_arm=request.retrieval_experiment_arm,
    )


def _written(before: str, done: int) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([before, done])).decode()


def _read(cursor: str) -> tuple[str, int]:
    try:
        before, done = orjson.loads(base64.b64decode(cursor, altchars=b"-_", validate=True))
        if not isinstance(before, str) or type(done) is not int or done < 0:
            raise ValueError("of other types")
    except (ValueError, TypeError, binascii.Error) as error:
        problem = ("cursor", "is not a next_cursor of these records; leave it out to begin at the first page")
        raise InvalidInputError("The records were not read", [problem]) from error
    return before, done
