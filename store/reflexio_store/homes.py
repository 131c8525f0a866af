"""From a store URL to a home. A home's driver is imported only when its URL is opened."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, urlencode

from .contract import Store
from .errors import StoreURLError

_FORMS = (
    "sqlite:///memory.db (a file), sqlite:////absolute/memory.db, sqlite:// (in memory, gone when closed), or "
    "postgresql://user:password@host/database"
)
_SPELLINGS: Final = dict.fromkeys(("postgresql", "postgres", "postgresql+psycopg"), "postgresql")
_NO_PART_OF_A_NAME: Final = frozenset({"password", "sslpassword", "oauth_client_secret", "pool_size"})


def open_store(url: str) -> Store:
    """Open the home that ``url`` names, making or upgrading its tables when needed.

    Raises:
        StoreURLError: The URL is no form that is known.
        MissingExtraError: Its driver is not installed; the message gives the command.
        StoreError: The home cannot be opened (folder not writable, damaged file, newer schema, ...).
    """
    if not isinstance(url, str) or not url.strip():
        raise StoreURLError(f"The store URL is empty. Use {_FORMS}.")
    scheme = url.split(":", 1)[0].lower()
    if scheme == "sqlite" and url.startswith("sqlite://"):
        from .sql.home import SqlStore

        return SqlStore(url)
    if scheme in _SPELLINGS:
        from .sql.dialects.postgresql import PostgresqlDialect
        from .sql.dialects.postgresql_url import parse_postgresql_url
        from .sql.home import SqlStore

        return SqlStore(PostgresqlDialect(parse_postgresql_url(url)))
    if scheme in ("http", "https"):
        raise StoreURLError(f"No {scheme} home in this release. Use {_FORMS}.")
    raise StoreURLError(f"The store URL begins with {scheme!r}, which is not understood. Use {_FORMS}.")


def name_of(url: str) -> str:
    """The URL in one spelling and without any secret: it tells one home on a server from another.

    A new password does not make another home of it, so that what waits for it is not left behind.
    """
    scheme, _, rest = url.partition("://")
    location, _, query = rest.partition("?")
    user, at, place = location.rpartition("@")
    options = sorted((name, value) for name, value in parse_qsl(query) if name not in _NO_PART_OF_A_NAME)
    name = f"{_SPELLINGS.get(scheme.lower(), scheme.lower())}://{user.partition(':')[0]}{at}{place}"
    return f"{name}?{urlencode(options)}" if options else name
