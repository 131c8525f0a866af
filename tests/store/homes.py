"""The homes that must keep the contract: each is a line in ``HOMES``, and is held to the whole suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from reflexio_store.contract import Store
from reflexio_store.homes import open_store
from tests.reflexio_server import ReflexioServer
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


@contextmanager
def remote(request: pytest.FixtureRequest, folder: Path) -> Iterator[Store]:
    """A server on the loopback, whose clock gives each request a second of its own, so that they have an order."""
    with ReflexioServer(ticking=True) as server, closing(open_store(f"{server.url}?connections=1")) as store:
        yield store


LACKS: dict[str, frozenset[str]] = {
    "remote": frozenset(
        {
            "jobs",
            "evidence",
            "times",
            "status",
            "ids of each user",
            "scores",
            "uses",
            "whole records",
            "ids of messages",
            "extractors",
            "vectors",
            "neighbours",
            "sharing",
            "opting out",
            "history",
            "transactions",
        }
    ),
}
"""What a home cannot do: tests marked ``needs`` with it are not run there.

A Reflexio server learns itself, so it keeps no jobs, no evidence of ours, and nothing for extractors; it sets the time
of a request, keeps neither its status nor its metadata, makes the ids of messages, has one space of ids for all users,
ranks without scores and messages without their neighbours, embeds by itself, does not hand out how a learning fared or
what happened to those of one user, looks for what users agree on itself, knows nobody who opted out and no
transactions, and loses parts of what is moved to it (its ``losses`` say which).
"""

HOMES: dict[str, Home] = {
    "sqlite file": sqlite_file,
    "sqlite memory": sqlite_memory,
    "postgresql": postgresql,
    "remote": remote,
}
