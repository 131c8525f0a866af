"""Turns to measure with: a request with four interactions of running text, one of them with a tool call."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator, Sequence

from reflexio_store.ids import uuid7
from reflexio_store.records import InteractionRecord, TurnRecord

HEAVY = "heavy"
"""The user who has a large share of the sessions."""
_TOOL = {"tool_name": "grep", "tool_data": {"input": {"q": "x"}, "output": "y"}, "status": "success"}


class Talk:
    """Makes turns: words as frequent as in running text, the same ones in every run."""

    def __init__(self) -> None:
        self._random = random.Random(1)
        letters = "abcdefghijklmnopqrstuvwxyz"
        words = ["".join(self._random.choices(letters, k=self._random.randint(3, 9))) for _ in range(30_000)]
        weights = list(itertools.accumulate(1 / rank for rank in range(1, 30_001)))
        self._texts = [
            " ".join(self._random.choices(words, cum_weights=weights, k=self._random.randint(8, 24)))
            for _ in range(20_000)
        ]
        self._now = time.time_ns() // 1000

    def text(self) -> str:
        """8 to 24 words."""
        return self._random.choice(self._texts)

    def turn(self, user_id: str, session_id: str) -> TurnRecord:
        """One turn, a second later than the one before."""
        self._now += 1_000_000
        seconds = self._now // 1_000_000
        said = [
            InteractionRecord("Assistant" if place % 2 else "User", self.text(), seconds, [_TOOL] if place == 1 else [])
            for place in range(4)
        ]
        return TurnRecord(uuid7(), user_id, session_id, "v1", "web", self._now, said)

    def turns(self, count: int, *, users: int = 50, sessions: int = 20) -> list[TurnRecord]:
        """Turns of many users, each with some sessions."""
        chosen = [f"user-{self._random.randrange(users)}" for _ in range(count)]
        return [self.turn(user, f"{user}-s{self._random.randrange(sessions)}") for user in chosen]

    def history(self, requests: int, heavy_sessions: int, users: int) -> Iterator[list[TurnRecord]]:
        """So many requests in sessions of ten, in batches of 1,000, sessions interleaved as they would be."""
        sessions = [(HEAVY, f"heavy-{number}") for number in range(heavy_sessions)]
        sessions += [(f"user-{number % users}", f"light-{number}") for number in range(requests // 10 - heavy_sessions)]
        self._random.shuffle(sessions)
        for some in _parts(sessions, 100):
            yield [self.turn(*session) for _ in range(10) for session in some]


def _parts(items: Sequence[tuple[str, str]], size: int) -> Iterator[Sequence[tuple[str, str]]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
