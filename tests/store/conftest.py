"""An empty home of every kind, and short ways to make what is put into them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reflexio_store import ids
from reflexio_store.contract import Store
from reflexio_store.records import InteractionRecord, TurnRecord
from tests.store.homes import HOMES, LACKS

MakeTurn = Callable[..., TurnRecord]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what a home cannot do; see :data:`tests.store.homes.LACKS`."""
    left_out = [item for item in items if _lacks(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not _lacks(item)]


def _lacks(item: pytest.Item) -> bool:
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    lacking = LACKS.get(str(parameters.get("store") or parameters.get("shared_store")), frozenset())
    return any(need in lacking for mark in item.iter_markers("needs") for need in mark.args)


@pytest.fixture(params=HOMES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty home."""
    with HOMES[request.param](request, tmp_path) as made:
        yield made


@pytest.fixture(params=HOMES, scope="module")
def shared_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A home that the examples of a property share; they keep apart by their users."""
    with HOMES[request.param](request, tmp_path_factory.mktemp("home")) as made:
        yield made


@pytest.fixture(scope="session")
def turn() -> MakeTurn:
    """Makes a turn: ``turn("words", "answer", user_id=..., at=epoch seconds)``; each is later than the one before."""
    made = 0

    def make(*contents: str, at: float | None = None, user_id: str = "ada", session_id: str = "s1", **fields: Any):
        nonlocal made
        made += 1
        seconds = 1_700_000_000 + made if at is None else at
        interactions = [
            InteractionRecord("User" if index % 2 == 0 else "Assistant", content, int(seconds))
            for index, content in enumerate(contents or ("hello", "hi"))
        ]
        values = {"agent_version": "v1", "source": "", "created_at_us": round(seconds * 1_000_000)} | fields
        values.setdefault("request_id", ids.uuid7())
        return TurnRecord(user_id=user_id, session_id=session_id, interactions=interactions, **values)

    return make


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Return as soon as the condition holds; fail after so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
