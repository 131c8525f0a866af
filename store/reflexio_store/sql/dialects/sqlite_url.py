"""What a SQLite URL says: which file, and how to keep it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl

from reflexio_store.errors import StoreURLError

Synchronous = Literal["normal", "full"]
_FORMS = "sqlite:///memory.db (a file), sqlite:////absolute/memory.db, or sqlite:// (in memory, gone when closed)"
_OPTIONS = "Known options are ?synchronous=full (or normal) and ?timeout=30 (seconds to wait for a lock)."


@dataclass(frozen=True, slots=True)
class SqlitePlace:
    """A SQLite database: its absolute path (None in memory) and its options.

    ``synchronous`` is ``normal`` unless asked otherwise: what was stored survives the process being killed, and a
    loss of power may take the last commits; ``full`` waits for the disk at every commit. ``timeout`` is in seconds.
    """

    path: Path | None
    synchronous: Synchronous = "normal"
    timeout: float = 30.0

    @property
    def url(self) -> str:
        """The URL that names this place from any working directory."""
        return "sqlite://" if self.path is None else f"sqlite:///{self.path}"


def parse_sqlite_url(url: str) -> SqlitePlace:
    """Read a ``sqlite:`` URL; ``~`` is the home folder, and a relative path is taken from the working directory.

    Raises:
        StoreURLError: It has a host, names no file, or has an option that is not known.
    """
    scheme, _, rest = url.partition("://")
    location, _, query = rest.partition("?")
    if scheme.lower() != "sqlite" or (location and not location.startswith("/")):
        raise StoreURLError(f"The store URL {url!r} is not understood (a path needs three slashes). Use {_FORMS}.")
    synchronous, timeout = _options(url, query)
    if not location or location == "/:memory:":
        return SqlitePlace(None, synchronous, timeout)
    name = location[1:]
    if not name or name.endswith("/") or "\x00" in name:
        raise StoreURLError(f"The store URL {url!r} names no file. Use {_FORMS}.")
    try:
        return SqlitePlace(Path(name).expanduser().absolute(), synchronous, timeout)
    except RuntimeError as error:
        raise StoreURLError(f"The store URL {url!r} names a home folder that is not known. Use {_FORMS}.") from error


def _options(url: str, query: str) -> tuple[Synchronous, float]:
    synchronous: Synchronous = "normal"
    timeout = 30.0
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "synchronous" and value.lower() in ("normal", "full"):
            synchronous = "full" if value.lower() == "full" else "normal"
        elif name == "timeout" and value.replace(".", "", 1).isdecimal():
            timeout = min(float(value), 3600.0)
        else:
            raise StoreURLError(f"The option {name}={value!r} of the store URL {url!r} is not understood. {_OPTIONS}")
    return synchronous, timeout
