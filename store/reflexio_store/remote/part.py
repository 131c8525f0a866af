"""What the parts of the home share: the server, the circuits that guard it, and threads for calls at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeVar

from reflexio_store.errors import StoreUnavailableError

from .circuit import Circuit
from .erasures import Erasures
from .http import Http
from .publish import Publisher

T = TypeVar("T")
R = TypeVar("R")


class Part:
    """A part of the home: some methods of the contract over a shared server.

    Args:
        make_http: Makes the connections; called again in a forked child.
        connections: Most calls at once.
        search_timeout: Seconds that one search may take.
        folder: Where it is noted what was deleted, and is not to be published afterwards; None: in memory.
    """

    def __init__(
        self, make_http: Callable[[], Http], *, connections: int, search_timeout: float, folder: Path | None
    ) -> None:
        self._make_http = make_http
        self._folder = folder
        self._connections = connections
        self._search_timeout = search_timeout
        self._begin()

    def reading(self) -> AbstractContextManager[None]:
        """Nothing: a server is asked for each thing by itself."""
        return nullcontext()

    def _begin(self) -> None:
        self._http = self._make_http()
        self._erasures = Erasures(self._folder)
        self._pool = ThreadPoolExecutor(self._connections, thread_name_prefix="reflexio-remote")
        self._searching = Circuit("Searching the server", failures=3, pause=5.0)
        self._publishing = Circuit("Sending turns to the server", failures=5, pause=1.0)
        self._publisher = Publisher(self._http, self._publishing, self._each, self._connections)

    def _each(self, work: Callable[[T], R], things: Iterable[T]) -> list[R]:
        """What ``work`` makes of each thing, in order; several at once where there are several."""
        listed = list(things)
        if len(listed) < 2 or self._connections < 2:
            return [work(thing) for thing in listed]
        try:
            made = [self._pool.submit(work, thing) for thing in listed]
        except RuntimeError as error:
            if self._http.is_closed:
                raise StoreUnavailableError(
                    f"The store {self._http.url} is closed. Open it again to use it."
                ) from error
            return [work(thing) for thing in listed]  # the interpreter is ending, and starts no thread any more
        return [one.result() for one in made]
