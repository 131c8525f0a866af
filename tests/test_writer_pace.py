"""The writer's pace: it works when the agent rests, and at once for who waits."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from reflexio_middleware.delivery.writer import Delivery
from reflexio_store.records import InteractionRecord, TurnRecord


def a_turn(number: int) -> TurnRecord:
    return TurnRecord(f"r{number}", "ann", "s1", "v1", "", 1_700_000_000_000_000, [InteractionRecord("user", "hi", 1)])


class Shelf:
    """A store that notes the batches it is given, and tells when it holds as many turns as were asked for."""

    def __init__(self, awaited: int = 1) -> None:
        self.batches: list[int] = []
        self.turns: set[str] = set()
        self.complete = threading.Event()
        self._awaited = awaited

    def open(self) -> Shelf:
        return self

    def add_turns(self, turns: Sequence[TurnRecord], *, learn_after: float | None = 0.0) -> int:
        self.batches.append(len(turns))
        self.turns.update(turn.request_id for turn in turns)
        if len(self.turns) >= self._awaited:
            self.complete.set()
        return len(turns)


class Endless:
    """Another thread of the agent, which never stops to put turns."""

    def __init__(self, delivery: Delivery) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._put, args=(delivery,))

    def _put(self, delivery: Delivery) -> None:
        for number in itertools.count(1_000_000):
            if self._over.wait(0.0005):
                return
            delivery.put(a_turn(number))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture
def shelf() -> Shelf:
    return Shelf(200)


@pytest.fixture
def delivery(shelf: Shelf, tmp_path: Path) -> Iterator[Delivery]:
    made = Delivery(shelf.open, tmp_path / "spool")  # type: ignore[arg-type]
    yield made
    made.close(5)


def test_turns_that_follow_each_other_are_stored_together(delivery: Delivery, shelf: Shelf) -> None:
    """Nobody has to ask, and a burst does not become a transaction for each of its turns."""
    for number in range(200):
        assert delivery.put(a_turn(number))
    assert shelf.complete.wait(10)
    assert len(shelf.batches) <= 5


def test_turns_that_keep_coming_do_not_put_off_the_storing_for_ever(delivery: Delivery, shelf: Shelf) -> None:
    """There is no pause to wait for, and still they arrive."""
    with Endless(delivery):
        assert shelf.complete.wait(10)


def test_a_flush_does_not_wait_for_the_turns_of_others(delivery: Delivery, shelf: Shelf) -> None:
    """It is about what was put before it, though another thread never stops."""
    with Endless(delivery):
        delivery.put(a_turn(1))
        assert delivery.flush(10) == 0
        assert "r1" in shelf.turns
