"""From a store URL to a home. A home's driver is imported only when its URL is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlencode

from .contract import Store
from .errors import StoreURLError

_FORMS = (
    "sqlite:///memory.db (a file), sqlite:////absolute/memory.db, sqlite:// (in memory, gone when closed), "
    "postgresql://user:password@host/database, or the address of a Reflexio server (https://host)"
)
_SPELLINGS: Final[dict[str, str]] = dict.fromkeys(("postgresql", "postgres", "postgresql+psycopg"), "postgresql")
_NO_PART_OF_A_NAME: Final = frozenset(
    {"password", "sslpassword", "oauth_client_secret", "pool_size", "timeout", "search_timeout", "connections"}
)


def is_server(url: str) -> bool:
    """Whether a URL is the address of a Reflexio server, which learns itself."""
    return url.split(":", 1)[0].lower() in ("http", "https")


def open_store(url: str, *, api_key: str | None = None, folder: Path | None = None) -> Store:
    """Open the home that ``url`` names, making or upgrading its tables when needed.

    Args:
        url: Where the record is.
        api_key: The key of a Reflexio server; other homes need none.
        folder: Where it is noted what was deleted on a server, which keeps no such note itself: that of the spool.

    Raises:
        StoreURLError: The URL is no form that is known.
        MissingExtraError: Its driver is not installed; the message gives the command.
        StoreError: The home cannot be opened (folder not writable, damaged file, newer schema, ...).
    """
    if not isinstance(url, str) or not url.strip():
        raise StoreURLError(f"The store URL is {repr(url) if url else 'empty'}. Use {_FORMS}.")
    scheme = url.split(":", 1)[0].lower()
    if scheme == "sqlite" and url.startswith("sqlite://"):
        from .sql.home import SqlStore

        return SqlStore(url)
    if scheme in _SPELLINGS:
        from .sql.dialects.postgresql import PostgresqlDialect
        from .sql.dialects.postgresql_url import parse_postgresql_url
        from .sql.home import SqlStore

        return SqlStore(PostgresqlDialect(parse_postgresql_url(url)))
    if is_server(url):
        from .remote.home import RemoteStore

        return RemoteStore(url, api_key=api_key, folder=folder)
    if scheme == "sqlite":
        raise StoreURLError(f"The store URL {url!r} is not written as sqlite:// in small letters. Use {_FORMS}.")
    raise StoreURLError(f"The store URL begins with {scheme!r}, which is not understood. Use {_FORMS}.")


def name_of(url: str) -> str:
    """The URL in one spelling and without any secret: it tells one home on a server from another.

    A new password does not make another home of it, so that what waits for it is not left behind.
    """
    scheme, _, rest = url.partition("://")
    location, _, query = rest.partition("?")
    user, at, place = location.rpartition("@")
    options = sorted((name, value) for name, value in parse_qsl(query) if name not in _NO_PART_OF_A_NAME)
    name = f"{_SPELLINGS.get(scheme.lower(), scheme.lower())}://{user.partition(':')[0]}{at}{place.rstrip('/')}"
    return f"{name}?{urlencode(options)}" if options else name
