"""The homes that must keep the contract: each is a line in ``HOMES``, and is held to the whole suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from reflexio_store.contract import Store
from reflexio_store.homes import open_store
from tests.store.postgres import Server

Home = Callable[[pytest.FixtureRequest, Path], AbstractContextManager[Store]]
"""Opens an empty home, closed on leaving. The request reaches fixtures that it needs; the folder is for its files."""


@contextmanager
def sqlite_file(request: pytest.FixtureRequest, folder: Path) -> Iterator[Store]:
    """A file of its own."""
    with closing(open_store(f"sqlite:///{folder / 'home.db'}")) as store:
        yield store


@contextmanager
def sqlite_memory(request: pytest.FixtureRequest, folder: Path) -> Iterator[Store]:
    """A database in memory."""
    with closing(open_store("sqlite://")) as store:
        yield store


@contextmanager
def postgresql(request: pytest.FixtureRequest, folder: Path) -> Iterator[Store]:
    """A database of its own on the server of this run."""
    server: Server = request.getfixturevalue("postgres")
    with server.database() as url, closing(open_store(url)) as store:
        yield store


HOMES: dict[str, Home] = {"sqlite file": sqlite_file, "sqlite memory": sqlite_memory, "postgresql": postgresql}
