"""Adding, changing and deleting what a server has learned."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from pydantic import ValidationError

from reflexio_store.contract import Applied, Change
from reflexio_store.errors import InvalidInputError, StoreError, StoreUnavailableError
from reflexio_store.ids import uuid7
from reflexio_store.models import Learning, LearningKind, Status, UserProfile, problems_of

from .kinds import BY_HAND, EVERY_STATUS, KINDS, Kind, said
from .listing import RemoteListing, owner_of, refused
from .wire import wire_user

_FIXED: Final = frozenset({"user_id", "profile_id", "user_playbook_id", "agent_playbook_id", "evidence"})
_AT_ONCE: Final = 1000  # most learnings of one body (wire fact)
_FEW: Final = 10  # profiles that are looked up one by one; the server admits 30 such calls in a minute (wire fact)
_NOT_STORED: Final = "The learning was not stored"
_NOT_CHANGED: Final = "The learning was not changed"


class RemoteLearnings(RemoteListing):
    """The part of the home that changes learnings."""

    def add_learnings(self, learnings: Sequence[Learning]) -> list[str]:
        """Store learnings of any kind and return their ids (as text), in order; not in one transaction.

        A known profile of the same user is replaced. The id of another user's profile is refused: the server's ids are
        global, and it would take that profile over (wire fact). The server makes the ids of playbooks; of a known one
        of the same user, what the server can change is changed. It keeps no evidence, and of agent playbooks neither
        tags nor blocking issue nor time (wire facts).
        """
        bodies = [KINDS[kind_of(item)].body(item) for item in learnings]
        places: dict[LearningKind, list[int]] = defaultdict(list)
        for place, item in enumerate(learnings):
            places[kind_of(item)].append(place)
        ids: dict[int, str] = {}
        for name, of_kind in places.items():
            add = self._add_profiles if name == "profile" else self._add_playbooks
            for start in range(0, len(of_kind), _AT_ONCE):
                part = of_kind[start : start + _AT_ONCE]
                made = add(KINDS[name], [learnings[place] for place in part], [bodies[place] for place in part])
                ids |= dict(zip(part, made, strict=True))
        return [ids[place] for place in range(len(learnings))]

    def _add_profiles(self, kind: Kind, learnings: Sequence[Learning], bodies: list[dict[str, Any]]) -> list[str]:
        for learning, body in zip(learnings, bodies, strict=True):
            self._own(kind, learning)
            body["profile_id"] = body["profile_id"] or uuid7()
        last = {body["profile_id"]: body for body in bodies}
        self._http.call("POST", kind.add, {kind.rows: list(last.values())})  # an upsert: safe to repeat
        return [body["profile_id"] for body in bodies]

    def _own(self, kind: Kind, learning: Learning) -> Learning | None:
        """The profile of that id that is there; that of another user is refused."""
        known = self._known(kind, kind.id_of(learning))
        if known is not None and owner_of(known) != owner_of(learning):
            raise refused(_NOT_STORED, kind.key, f"{kind.id_of(learning)!r} is that of another user's profile")
        return known

    def _add_playbooks(self, kind: Kind, learnings: Sequence[Learning], bodies: list[dict[str, Any]]) -> list[str]:
        """The answer names no ids (wire fact): they are looked up by what was sent."""
        ids: dict[int, str] = {}
        marker = f"{BY_HAND}:{uuid7()}"
        for place, (learning, body) in enumerate(zip(learnings, bodies, strict=True)):
            known = self._known(kind, kind.id_of(learning), owner_of(learning)) if body.pop(kind.key) else None
            if known is not None:
                fields = {name: value for name in kind.changeable if (value := getattr(learning, name)) is not None}
                self._change(kind, known, fields)
                ids[place] = kind.id_of(known)
            elif kind.is_personal:
                body["request_id"] = body["request_id"] or marker
        new = [place for place in range(len(bodies)) if place not in ids]
        if new:
            ids |= zip(new, self._sent(kind, [bodies[place] for place in new]), strict=True)
        return [ids[place] for place in range(len(bodies))]

    def _sent(self, kind: Kind, bodies: list[dict[str, Any]]) -> list[str]:
        """Send new playbooks once, and find their ids: the newest of those that say the same."""
        before = {kind.id_of(item) for item in self._alike(kind, bodies)}
        try:
            self._http.call("POST", kind.add, {kind.rows: bodies}, repeatable=False)
        except StoreUnavailableError as error:
            if not error.in_doubt:
                raise
            made = self._made(kind, bodies, before)
            if made is None:
                raise
            return made
        made = self._made(kind, bodies, before)
        if made is None:
            raise StoreError(f"The server stored {len(bodies)} playbook(s), but does not list them; look them up again")
        return made

    def _made(self, kind: Kind, bodies: list[dict[str, Any]], before: set[str]) -> list[str] | None:
        """The ids of what was sent, if all of it is there."""
        new: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for item in self._alike(kind, bodies):
            if kind.id_of(item) not in before:
                new[said(item.model_dump())].append(int(kind.id_of(item)))
        for ids in new.values():
            ids.sort(reverse=True)
        try:
            return [str(new[said(body)].pop()) for body in bodies]
        except IndexError:
            return None

    def _alike(self, kind: Kind, bodies: list[dict[str, Any]]) -> list[Learning]:
        """The playbooks among which those that were sent must be."""
        names = ("user_id", "request_id") if kind.is_personal else ("agent_version",)
        groups = {tuple(body[name] for name in names) for body in bodies}
        route = "/api/get_user_playbooks" if kind.is_personal else "/api/get_agent_playbooks"
        found: list[Learning] = []
        for group in groups:
            body = {**dict(zip(names, group, strict=True)), "status_filter": EVERY_STATUS, "limit": 10 * _AT_ONCE}
            found += kind.values(self._http.call("POST", route, body))
        return found

    def update_learning(
        self, kind: LearningKind, learning_id: str, fields: dict[str, Any], *, user_id: str | None = None
    ) -> bool:
        """Change some fields of a learning; False if there is none of that id.

        The server may learn again what it said before. Of a playbook it changes content, trigger, rationale and name
        (and the approval of an agent playbook) only.

        Raises:
            InvalidInputError: A field is unknown, fixed or unusable, or the server cannot change it.
        """
        which = KINDS[kind]
        problems = [(name, "cannot be changed") for name in sorted(fields.keys() & _FIXED)]
        problems += [(name, f"is no field of a {kind}") for name in sorted(fields.keys() - which.model.model_fields)]
        if problems:
            raise InvalidInputError(_NOT_CHANGED, problems)
        known = self._known(which, learning_id, user_id)
        if known is None:
            return False
        self._change(which, known, fields)
        return True

    def _change(self, kind: Kind, known: Learning, fields: dict[str, Any]) -> None:
        values = {**known.model_dump(), **fields}
        if isinstance(known, UserProfile) and fields.keys() - {"custom_features", "tags"}:
            values |= {"expiration_timestamp": None} if known.profile_time_to_live != "infinity" else {}
        try:
            new = kind.model.model_validate(values)
        except ValidationError as error:
            raise InvalidInputError(_NOT_CHANGED, problems_of(error)) from error
        body = kind.body(new)
        emptied = {name for name in fields if getattr(new, name) is None and getattr(known, name) is not None}
        fixed = sorted(emptied | fields.keys() - set(kind.changeable))  # null changes nothing there (wire fact)
        if not fixed:
            sent = {name: body.get(name) for name in (*fields, kind.key)}
            if isinstance(known, UserProfile):
                sent["user_id"] = wire_user(known.user_id)
            self._http.call("PUT", kind.update, sent)
        elif isinstance(new, UserProfile):
            self._http.call("POST", kind.add, {kind.rows: [body]})
        else:
            problem = "cannot be changed so on a Reflexio server"
            raise InvalidInputError(_NOT_CHANGED, [(name, problem) for name in fixed])

    def delete_learnings(self, kind: LearningKind, ids: Sequence[str] | None, *, user_id: str | None = None) -> int:
        """Delete learnings by id (all of the kind, or of the user, where ``ids`` is None); how many were there.

        They are looked up before: the server reports as many as it was asked to delete (wire fact).
        """
        which = KINDS[kind]
        owner = user_id if which.is_personal else None
        if ids is None:
            there = self._all(which, owner)
        elif which.name == "profile" and len(ids) > _FEW:
            named = frozenset(ids)
            there = [item for item in self._all(which, owner) if which.id_of(item) in named]
        else:
            found = self._each(lambda name: self._known(which, name, owner), dict.fromkeys(ids))
            there = [item for item in found if item is not None]
        if ids is None and owner is None:
            self._http.call("DELETE", which.delete_all)
        else:
            self._drop(which, there)
        return len(there)

    def _drop(self, kind: Kind, learnings: Sequence[Learning]) -> None:
        keys = [getattr(item, kind.key) for item in learnings]
        for start in range(0, len(keys), _AT_ONCE):
            self._http.call("DELETE", kind.delete, {f"{kind.key}s": keys[start : start + _AT_ONCE]})

    def apply(self, user_id: str, changes: Sequence[Change], *, status: Status | None = None) -> Applied:  # noqa: ARG002
        """Refused: a Reflexio server learns itself.

        Raises:
            StoreError: Always.
        """
        raise StoreError(
            f"{self._http.url} is a Reflexio server, which learns itself: an extractor's changes cannot be applied to "
            "it. Use the server's own learning, or a SQLite or PostgreSQL home."
        )


def kind_of(learning: Learning) -> LearningKind:
    """The name of a learning's kind."""
    return next(kind.name for kind in KINDS.values() if isinstance(learning, kind.model))
