"""Digests of what was deleted: a turn that still waits in some spool is known by them, and is not stored."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final, Literal

from .records import TurnRecord

Erased = Literal["user", "session", "request", "requests"]
"""What is deleted: everything on a user, one session, one request, or all requests."""
KEPT_US: Final = 90 * 86_400 * 1_000_000
"""How long digests are kept, in microseconds."""


def digest_of(what: Erased, user_id: str | None, *names: str) -> str:
    """The digest of a user, or of a session or requests of theirs; where None, of those of that name of anybody."""
    text = "\x1f".join((f"{what} of anybody", *names) if user_id is None else (what, user_id, *names))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def digests_of(turn: TurnRecord) -> tuple[str, ...]:
    """The digests of all that a turn is part of."""
    owners = (turn.user_id, None)
    return (
        digest_of("user", turn.user_id),
        *(digest_of("requests", owner) for owner in owners),
        *(digest_of("session", owner, turn.session_id) for owner in owners),
        *(digest_of("request", owner, turn.request_id) for owner in owners),
    )


def is_erased(turn: TurnRecord, digests: tuple[str, ...], erased: Mapping[str, int]) -> bool:
    """Whether something that a turn is part of was erased (at epoch microseconds, by digest) after it was said."""
    return any(erased.get(digest, -1) >= turn.created_at_us for digest in digests)
