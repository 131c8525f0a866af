"""From a store URL to a home. A home's driver is imported only when its URL is opened."""

from __future__ import annotations

from .contract import Store
from .errors import StoreURLError

_FORMS = "sqlite:///memory.db (a file), sqlite:////absolute/memory.db, or sqlite:// (in memory, gone when closed)"


def open_store(url: str) -> Store:
    """Open the home that ``url`` names, making or upgrading its tables when needed.

    Raises:
        StoreURLError: The URL is no form that is known.
        StoreError: The home cannot be opened (folder not writable, damaged file, newer schema, ...).
    """
    if not isinstance(url, str) or not url.strip():
        raise StoreURLError(f"The store URL is empty. Use {_FORMS}.")
    scheme = url.split(":", 1)[0].lower()
    if scheme == "sqlite" and url.startswith("sqlite://"):
        from .sql.home import SqlStore

        return SqlStore(url)
    if scheme in ("postgresql", "postgres", "http", "https"):
        raise StoreURLError(f"No {scheme} home in this release. Use {_FORMS}.")
    raise StoreURLError(f"The store URL {url!r} is not understood. Use {_FORMS}.")
