"""What a PostgreSQL URL says: which server and database, and how to reach it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict

from reflexio_store.errors import StoreURLError

_FORMS = (
    "postgresql://user:password@host:5432/database, with options of libpq such as ?sslmode=require, and "
    "?pool_size=10 (connections of one process)"
)
_SCHEMES: Final = ("postgresql", "postgres", "postgresql+psycopg")
_SECRETS: Final = ("password", "sslpassword", "oauth_client_secret")
_POOL: Final = "pool_size"
_POOL_SIZE: Final = 10
_PLACES: Final = ("user", "host", "port", "dbname")
_PORT = re.compile(r"(?:\[[^\]]*\]|[^:,\[\]]*)(?::\d*)?(?:,|$)")

_DEFAULTS: Final[Mapping[str, str]] = {
    "application_name": "reflexio",
    "client_encoding": "utf8",
    "connect_timeout": "10",
    # a server that vanished is noticed within a minute, not after the quarter of an hour of TCP's own
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}


@dataclass(frozen=True, slots=True)
class PostgresqlPlace:
    """A PostgreSQL database. ``url`` names it without any secret; ``parameters`` are those of libpq, secrets included.

    ``pool_size`` is the largest number of connections of one process.
    """

    url: str
    parameters: Mapping[str, str] = field(repr=False)
    pool_size: int = _POOL_SIZE

    def without_secrets(self, text: str) -> str:
        """The text with every secret of this place struck out."""
        for name in _SECRETS:
            if secret := self.parameters.get(name):
                text = text.replace(secret, "***")
        return text


def parse_postgresql_url(url: str) -> PostgresqlPlace:
    """Read a ``postgresql:`` URL. What it leaves out is found as libpq does: ``PGPASSWORD``, the pgpass file, ...

    Raises:
        StoreURLError: It is not understood. The message repeats nothing of it, because a password may be in any part.
    """
    scheme, _, rest = url.partition("://")
    location, _, query = rest.partition("?")
    if scheme.lower() not in _SCHEMES or not _is_clear(location, query):
        raise _not_understood()
    options = parse_qsl(query, keep_blank_values=True)
    pool_size = _pool_size([value for name, value in options if name == _POOL])
    kept = urlencode([(name, value) for name, value in options if name != _POOL], quote_via=quote)
    try:
        given = {name: str(value) for name, value in conninfo_to_dict(f"postgresql://{location}?{kept}").items()}
    except psycopg.Error:  # its message may repeat a password that is not written as it should be
        raise _not_understood() from None
    return PostgresqlPlace(_shown(given), {**_DEFAULTS, **given}, pool_size)


def _is_clear(location: str, query: str) -> bool:
    """Whether no part of a password can be taken for something else: its signs are written as ``%40`` and the like."""
    authority, _, path = location.partition("/")
    hosts = authority.rpartition("@")[2]
    whole = _PORT.sub("", hosts) == ""
    return whole and authority.count("@") <= 1 and "@" not in path and "@" not in query and "#" not in location


def _pool_size(values: list[str]) -> int:
    if not values:
        return _POOL_SIZE
    if not (values[-1].isascii() and values[-1].isdecimal() and 1 <= int(values[-1]) <= 1000):
        raise StoreURLError("The option pool_size of the store URL must be a number from 1 to 1000.")
    return int(values[-1])


def _shown(given: Mapping[str, str]) -> str:
    """The URL of a place, without its secrets and in one spelling, so that it may name a spool."""
    user = quote(given.get("user", ""), safe="")
    hosts, ports = given.get("host", "").split(","), given.get("port", "").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    shown = dict(sorted((name, value) for name, value in given.items() if name not in (*_SECRETS, *_PLACES)))
    if any("/" in host for host in hosts) or len(ports) != len(hosts):
        where = ""
        shown |= {name: given[name] for name in ("host", "port") if name in given}
    else:
        where = ",".join(
            (f"[{host}]" if ":" in host else quote(host, safe="")) + (f":{port}" if port else "")
            for host, port in zip(hosts, ports, strict=True)
        )
    url = f"postgresql://{user}{'@' if user else ''}{where}/{quote(given.get('dbname', ''), safe='')}"
    return f"{url}?{urlencode(shown, quote_via=quote)}" if shown else url


def _not_understood() -> StoreURLError:
    return StoreURLError(
        f"The store URL is not understood. Use {_FORMS}. Write the signs @ : / ? # % of a user or password as %40 %3A "
        "%2F %3F %23 %25."
    )
