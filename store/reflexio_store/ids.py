"""Identifiers: all are made by the client, so that inserts are idempotent and no home needs a sequence."""

from __future__ import annotations

import os
import threading
import time

_EPOCH_2024 = 1_704_067_200
_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
_lock = threading.Lock()
_last_int = 0
_last_number = 0


def uuid7() -> str:
    """A new UUID version 7 (RFC 9562, section 5.7) as text: 48 bits of milliseconds, then random bits."""
    random, moment = os.urandom(10).hex(), f"{time.time_ns() // 1_000_000:012x}"
    return f"{moment[:8]}-{moment[8:]}-7{random[:3]}-{_VARIANT[random[3]]}{random[4:7]}-{random[7:19]}"


def new_int_id() -> int:
    """A new integer id below 2**53 (safe in JSON): seconds since 2024, then 22 random bits; rising in a process."""
    global _last_int
    with _lock:
        made = (int(time.time()) - _EPOCH_2024) << 22 | int.from_bytes(os.urandom(3), "big") >> 2
        _last_int = made if made > _last_int else _last_int + 1
        return _last_int


def new_document_number() -> int:
    """A new number for the full-text index, below 2**62: microseconds since 2024, then 14 random bits; rising in a
    process, one by one within a batch, and in the order of time among processes."""
    global _last_number
    with _lock:
        since = time.time_ns() // 1000 - _EPOCH_2024 * 1_000_000
        made = since << 14 | int.from_bytes(os.urandom(2), "big") >> 2
        _last_number = made if made >> 14 > _last_number >> 14 else _last_number + 1
        return _last_number


def interaction_id(request_id: str, index: int) -> int:
    """The integer id of interaction ``index`` (0 to 1023) of a request: the same on every home and every retry.

    53 bits of a hash of the request id, then 10 bits of index: positive, below 2**63.
    """
    import hashlib  # not needed for capture, which is to import quickly

    digest = hashlib.blake2b(request_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) << 10 | (index & 0x3FF)


def place_of(interaction_id_: int, request_id: str) -> int | None:
    """The place of an interaction in its request, from its id; None where the id is not made so."""
    place = interaction_id_ & 0x3FF
    return place if interaction_id(request_id, place) == interaction_id_ else None
