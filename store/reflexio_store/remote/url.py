"""The address of a Reflexio server, with its options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from reflexio_store.errors import StoreURLError

_FORM: Final = "https://host, http://localhost:8061, or https://host/path?timeout=30&search_timeout=5&connections=4"


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """An address. Times are in seconds.

    Attributes:
        address: Scheme, host and path, without a slash at the end.
        timeout: What one call may take, retries included.
        search_timeout: What one search may take.
        connections: Most calls at once; the server admits four publishes at once (wire fact).
    """

    address: str
    timeout: float = 30.0
    search_timeout: float = 5.0
    connections: int = 4


def parse_server_url(url: str) -> ServerUrl:
    """The address that a URL names.

    Raises:
        StoreURLError: It is none, or an option is unknown or unusable.
    """
    try:
        parts = urlsplit(url)
        named = (parts.hostname or "").encode("idna") and (parts.port is None or parts.port > 0)
    except ValueError as error:
        raise StoreURLError(f"The address of the Reflexio server cannot be read ({error}). Use {_FORM}.") from error
    if parts.scheme not in ("http", "https") or not named:
        raise StoreURLError(f"The address of the Reflexio server names no host. Use {_FORM}.")
    if parts.username or parts.password:
        raise StoreURLError("Keep the key out of the address of the server: give api_key=... or REFLEXIO_API_KEY.")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    numbers = {name: _positive(name, value) for name, value in options.items()}
    address = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
    return ServerUrl(
        address,
        timeout=numbers.get("timeout", 30.0),
        search_timeout=numbers.get("search_timeout", 5.0),
        connections=int(numbers.get("connections", 4)),
    )


def _positive(name: str, value: str) -> float:
    if name not in ("timeout", "search_timeout", "connections"):
        raise StoreURLError(f"The address of the Reflexio server has an unknown option {name!r}. Use {_FORM}.")
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < 86_400 or (name == "connections" and number != int(number)):
        raise StoreURLError(
            f"The option {name}={value} of the server's address must be a positive number. Use {_FORM}."
        )
    return number
