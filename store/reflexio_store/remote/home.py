"""A Reflexio server as a home: the parts put together over one address."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from reflexio_store.contract import Finding
from reflexio_store.errors import ReflexioError, StoreAccessError
from reflexio_store.forking import protect
from reflexio_store.models import GetRequestsRequest

from .http import Http
from .kinds import KINDS
from .moving import RemoteMoving
from .requests import DEFAULT_SESSIONS
from .url import parse_server_url

_MOST_COUNTED = 10_000
_LOCAL = ("localhost", "127.0.0.1", "::1")
_NOT_KEPT = (
    *("supports", "events", "dismissals", "opt_outs", "erasures", "usages"),
    *("jobs_ready", "jobs_running", "jobs_done", "jobs_dead"),
)
_INHERITED: list[Http] = []  # a forked child must not even finalise its parent's connections


class RemoteStore(RemoteMoving):
    """A home of the record on a Reflexio server; it keeps :class:`~reflexio_store.contract.Store`.

    What differs from the SQL homes: the server learns itself (there are no jobs here, and :meth:`apply` is refused), it
    keeps no evidence, sets the time of a request, and writes are not transactions over several things. Opening it
    calls nobody: a server that is away is no reason for an agent not to start.

    Args:
        url: ``http://localhost:8061`` or ``https://host``; options ``?timeout=30`` (seconds of a call),
            ``search_timeout=5``, ``connections=4``.
        api_key: The server's key. Without one a server answers only callers on its own machine (wire fact).
        folder: Where it is noted what was deleted, for all processes that share the spool there; None: for this one.

    Raises:
        StoreURLError: The URL is not understood.
        InvalidInputError: The key has signs that no header can hold.
        StoreError: Proxies or certificates that the environment names are unusable.
    """

    def __init__(self, url: str, *, api_key: str | None = None, folder: Path | None = None) -> None:
        server = parse_server_url(url)
        self._url = server.address
        self._has_key = bool(api_key)
        super().__init__(
            lambda: Http(server.address, api_key, timeout=server.timeout, connections=server.connections),
            connections=server.connections,
            search_timeout=server.search_timeout,
            folder=folder,
        )
        protect(self, last=True)

    @property
    def url(self) -> str:
        """The address of the server."""
        return self._url

    @property
    def kind(self) -> str:
        """``remote``."""
        return "remote"

    @property
    def learns_itself(self) -> bool:
        """True: no worker is needed."""
        return True

    def counts(self) -> dict[str, int]:
        """Rows by what they are, counted one by one: a server tells no totals.

        Requests, interactions and sessions are left out where there are more than 10,000 sessions.
        """
        counted = dict.fromkeys(("sessions", "requests", "interactions"), 0)
        for item in self._sessions(GetRequestsRequest(), DEFAULT_SESSIONS):
            counted["sessions"] += 1
            counted["requests"] += len(item.session.requests)
            counted["interactions"] += sum(len(data.interactions) for data in item.session.requests)
            if counted["sessions"] > _MOST_COUNTED:
                counted = {}
                break
        learned = {f"{name}s": len(self._all(kind, None)) for name, kind in KINDS.items()}
        return {**counted, **learned, "outcomes": self._count_outcomes(), **dict.fromkeys(_NOT_KEPT, 0)}

    def _count_outcomes(self) -> int:
        counted, cursor = 0, None
        while True:
            page = self.read_records("outcome", cursor=cursor, limit=1000)
            counted, cursor = counted + len(page.records), page.next_cursor
            if cursor is None:
                return counted

    def check(self) -> list[Finding]:
        """Whether the server is there, lets us in, and keeps what it is sent."""
        found: list[Finding] = []
        address = urlsplit(self._url)
        if self._has_key and address.scheme == "http" and address.hostname not in _LOCAL:
            found.append(Finding("warning", "server", f"the key goes to {self._url} unencrypted: use https"))
        try:
            who = self._http.call("GET", "/api/whoami", attempts=1, timeout=5.0)
        except StoreAccessError as error:
            return [*found, Finding("error", "server", str(error))]
        except ReflexioError as error:
            return [*found, Finding("error", "server", f"captured turns wait in the spool: {error}")]
        kept = f"{who.get('storage_type') or 'unknown'} storage"
        if who.get("storage_configured") is False:
            return [*found, Finding("error", "server", f"{self._url} has no storage configured: it keeps nothing")]
        return [*found, Finding("ok", "server", f"{self._url} answers ({kept})")]

    def close(self) -> None:
        """End what is going on, and release every connection. Closing twice is fine."""
        self._http.close()
        self._pool.shutdown(wait=True)

    def before_fork(self) -> None:
        """Nothing to do: a child makes connections and threads of its own."""

    def after_fork(self, *, child: bool) -> None:
        """In a child: leave the parent's connections alone, and begin anew."""
        if child and not self._http.is_closed:
            _INHERITED.append(self._http)
            self._begin()
