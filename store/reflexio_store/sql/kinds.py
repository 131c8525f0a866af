"""The three kinds of learnings, told apart by data: one mechanism stores them all."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError
from sqlalchemy import Column, RowMapping, Table

from reflexio_store.errors import InvalidInputError
from reflexio_store.ids import new_int_id, uuid7
from reflexio_store.json_text import storable_json
from reflexio_store.models import (
    AgentPlaybook,
    BlockingIssue,
    Learning,
    LearningKind,
    PlaybookStatus,
    ProfileTimeToLive,
    Status,
    UserPlaybook,
    UserProfile,
)

from .documents import Document, DocumentKey
from .rows import trusted
from .tables import AGENT_PLAYBOOK, PROFILE, USER_PLAYBOOK
from .words import count_words, index_words, scope_token

NOT_GIVEN: Final = frozenset({"needs", "wording"})
"""Columns that a home fills by itself: no learning says them."""
_BESIDE: Final = frozenset({"evidence", "support"})
"""Fields, the last of their models, that are kept in tables of their own."""
_READ: Final[dict[str, Callable[[Any], Any]]] = {
    "status": Status,
    "playbook_status": PlaybookStatus,
    "profile_time_to_live": ProfileTimeToLive,
    "blocking_issue": BlockingIssue.model_validate,
}
_LARGEST = 2**63 - 1
_MOST_DIGITS = 19
_SPACE = re.compile(r"\s+")
_TRAILING = " \t\n.,;:!?\u3002\uff01\uff1f\u2026"
_EVERY_VERSION = "every version"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of learning: its table, and what its columns are called.

    ``owner`` is the first column of the key, ``request`` the column that names the request it came from.
    """

    name: LearningKind
    model: type[UserProfile] | type[UserPlaybook] | type[AgentPlaybook]
    table: Table
    owner: str
    key: str
    stamp: str
    request: str | None

    @property
    def personal(self) -> bool:
        """Whether each belongs to one user."""
        return self.owner == "user_id"

    def holder(self, owner: str) -> str:
        """The name by which those of an owner are held while they are changed; an agent version is no user."""
        return owner if self.personal else f"agent version {owner}"

    def column(self, name: str) -> Column[Any]:
        """A column of the table."""
        return self.table.c[name]

    def key_of(self, learning_id: str) -> str | int | None:
        """The key that an id given as text names; None if there can be none of that id."""
        if self.key == "profile_id":
            return learning_id
        is_number = learning_id.isascii() and learning_id.isdecimal() and len(learning_id) <= _MOST_DIGITS
        return int(learning_id) if is_number and learning_id[0] != "0" and int(learning_id) <= _LARGEST else None

    def new_key(self) -> str | int:
        """A key for a new one."""
        return uuid7() if self.key == "profile_id" else new_int_id()

    def row(self, learning: Learning) -> dict[str, Any]:
        """The row of a learning, without its evidence. NULs, which not every database holds, are replaced in its words.

        Raises:
            InvalidInputError: It holds a value that JSON has no form for.
        """
        try:
            values = learning.model_dump(mode="json", exclude=set(_BESIDE))
        except PydanticSerializationError as error:
            problem = (self.name, "holds a value that JSON has no form for, or text that UTF-8 has none for")
            raise InvalidInputError("The learning was not stored", [problem]) from error
        names = {self.owner, self.key, self.request}
        values = {name: value if name in names else storable_json(value) for name, value in values.items()}
        return {**values, "sameness": self.sameness(values)}

    def value(self, row: RowMapping, **beside: Any) -> Learning:
        """The learning that a row is, with what is kept ``beside`` it; unchecked, like all that is read here."""
        stored, read = _fields(self.model)
        values = {name: row[name] for name in stored}
        for name, made in read:
            if values[name] is not None:
                values[name] = made(values[name])
        return trusted(self.model, **values, **beside)

    def sameness(self, values: dict[str, Any]) -> str:
        """A digest that two learnings share when they say the same in the same words."""
        texts = [values["content"]]
        if self.name != "profile":
            texts = [values["trigger"] or "", values["content"], values["agent_version"]]
        said = "\x1f".join(_normalised(text) for text in texts)
        return hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    def document_key(self, row: RowMapping | dict[str, Any]) -> DocumentKey:
        """The name of a row's document in the full-text index."""
        return DocumentKey(self.name, row[self.owner], str(row[self.key]))

    def document(self, row: RowMapping | dict[str, Any]) -> Document:
        """What the full-text index holds of a row."""
        trigger = "" if self.name == "profile" else row["trigger"] or ""
        owners = [row[self.owner]] if self.personal else [row[self.owner], None]
        scopes = tuple(self.scope(owner, row["status"]) for owner in owners)
        size = count_words(f"{trigger}\n{row['content']}")
        return Document(self.document_key(row), scopes, index_words(trigger), index_words(row["content"]), size)

    def scope(self, owner: str | None, status: str | Status | None) -> str:
        """The scope of one owner's learnings with one status; an agent playbook's may be of every version."""
        standing = "current" if status is None else str(status)
        name = _EVERY_VERSION if owner is None else f"of {owner}"
        return scope_token("learning", self.name, standing, name)


@cache
def _fields(model: type[BaseModel]) -> tuple[tuple[str, ...], tuple[tuple[str, Callable[[Any], Any]], ...]]:
    """The fields that a row holds, in their order; and what is made of the value of some of them."""
    stored = tuple(name for name in model.model_fields if name not in _BESIDE)
    return stored, tuple((name, _READ[name]) for name in stored if name in _READ)


def _normalised(text: str) -> str:
    return _SPACE.sub(" ", text).strip().rstrip(_TRAILING).casefold()


PROFILES: Final = Kind(
    "profile", UserProfile, PROFILE, "user_id", "profile_id", "last_modified_timestamp", "generated_from_request_id"
)
USER_PLAYBOOKS: Final = Kind(
    "user_playbook", UserPlaybook, USER_PLAYBOOK, "user_id", "user_playbook_id", "created_at", "request_id"
)
AGENT_PLAYBOOKS: Final = Kind(
    "agent_playbook", AgentPlaybook, AGENT_PLAYBOOK, "agent_version", "agent_playbook_id", "created_at", None
)
KINDS: Final[dict[LearningKind, Kind]] = {kind.name: kind for kind in (PROFILES, USER_PLAYBOOKS, AGENT_PLAYBOOKS)}


def kind_named(name: str) -> Kind:
    """The kind of that name.

    Raises:
        InvalidInputError: There is none.
    """
    for kind in KINDS.values():
        if kind.name == name:
            return kind
    raise InvalidInputError("The kind of learning is not known", [("kind", f"must be one of {', '.join(KINDS)}")])


def kind_of(learning: Learning) -> Kind:
    """The kind that a learning is of."""
    return next(kind for kind in KINDS.values() if isinstance(learning, kind.model))
