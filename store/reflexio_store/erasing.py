"""Digests of what was deleted: a turn that still waits in some spool is known by them, and is not stored."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final, Literal

from .records import TurnRecord

Erased = Literal["user", "session", "request"]
KEPT_US: Final = 90 * 86_400 * 1_000_000
"""How long digests are kept, in microseconds."""


def digest_of(what: Erased, user_id: str, *names: str) -> str:
    """The digest of a user, of a session or of a request of theirs."""
    text = "\x1f".join((what, user_id, *names))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def digests_of(turn: TurnRecord) -> tuple[str, str, str]:
    """The digests of all that a turn is part of."""
    return (
        digest_of("user", turn.user_id),
        digest_of("session", turn.user_id, turn.session_id),
        digest_of("request", turn.user_id, turn.request_id),
    )


def is_erased(turn: TurnRecord, digests: tuple[str, ...], erased: Mapping[str, int]) -> bool:
    """Whether something that a turn is part of was erased (at epoch microseconds, by digest) after it was said."""
    return any(erased.get(digest, -1) >= turn.created_at_us for digest in digests)
