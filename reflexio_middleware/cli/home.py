"""Opening the store for a command, without making what is only looked at."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from reflexio_middleware.cli.failing import CommandError
from reflexio_middleware.guard import log
from reflexio_store.errors import StoreUnavailableError, StoreURLError

if TYPE_CHECKING:
    from reflexio_middleware.client import ReflexioClient

_PATIENCE = 2.0  # seconds a command waits for turns and learnings that are on their way


def sqlite_file(url: str) -> Path | None:
    """The file that a store URL names; None for another kind of home, or for a URL that cannot be understood."""
    from reflexio_store.sql.dialects.sqlite_url import parse_sqlite_url

    try:
        return parse_sqlite_url(url).path
    except StoreURLError:
        return None


@contextmanager
def stored(url: str | None, *, learned: bool = False) -> Iterator[ReflexioClient]:
    """A client on a store that is there already.

    Turns that dead processes left in the spool are let in first, so that the command sees them. The client runs no
    worker unless ``learned`` asks for it: a command must not spend money on a model.

    Args:
        url: The store; None: the setting.
        learned: Also wait for the learning that is due, where it needs no model.

    Raises:
        CommandError: There is no such file yet.
        StoreError: It cannot be opened.
    """
    from reflexio_middleware.client.core import spool_folder
    from reflexio_middleware.delivery.orphans import waiting
    from reflexio_middleware.settings import read_settings

    settings = read_settings(store=url)
    folder = spool_folder(settings)
    left = folder is not None and waiting(folder)[1] > 0
    file = sqlite_file(settings.store)
    if file is not None and not file.exists() and not left:
        raise CommandError(
            f"nothing is stored at {settings.store} yet: there is no such file. "
            "Name the store with --store or REFLEXIO_STORE, or see `reflexio-middleware demo`"
        )
    with made_if_missing(url, learned=learned) as client:
        if left or learned:
            client.flush(_PATIENCE)
        yield client


@contextmanager
def made_if_missing(url: str | None, *, learned: bool = False) -> Iterator[ReflexioClient]:
    """A client on a store that is made when it is not there."""
    from reflexio_middleware.client import ReflexioClient
    from reflexio_middleware.settings import read_settings

    settings = read_settings(store=url)
    free = settings.learning == "thread" and settings.extractors == ("statements",)
    learning = "off" if settings.learning == "off" else "thread" if learned and free else "later"
    with _no_other_word_of_a_store_that_is_away():
        client = ReflexioClient(url, learning=learning)
        try:
            client.whoami()  # a command waits for no server that is away: it says so
            yield client
        finally:
            client.close(_PATIENCE)


@contextmanager
def _no_other_word_of_a_store_that_is_away() -> Iterator[None]:
    """Keep the warnings of it back: the command ends in one line that says so."""

    def tells_more(record: logging.LogRecord) -> bool:
        return not (isinstance(record.args, tuple) and any(isinstance(it, StoreUnavailableError) for it in record.args))

    log.addFilter(tells_more)
    try:
        yield
    finally:
        log.removeFilter(tells_more)
