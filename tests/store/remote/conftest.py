"""A server on the loopback, and a home on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from reflexio_store.contract import Store
from reflexio_store.homes import open_store
from tests.reflexio_server import ReflexioServer


@pytest.fixture
def server() -> Iterator[ReflexioServer]:
    """A server that keeps its data in memory."""
    with ReflexioServer() as made:
        yield made


@pytest.fixture
def home(server: ReflexioServer) -> Iterator[Store]:
    """A home on that server, patient for a second: a busy machine answers in that time."""
    with closing(open_store(f"{server.url}?timeout=1&search_timeout=0.3")) as made:
        yield made
