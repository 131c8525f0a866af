"""PostgreSQL's errors in our words: what is wrong, where, and how to mend it.

SQLSTATE codes are those of https://www.postgresql.org/docs/current/errcodes-appendix.html. While connecting, the
driver gives none, so that there the server's words must do.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import psycopg
from sqlalchemy.exc import StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from reflexio_store.errors import (
    InvalidInputError,
    ReflexioError,
    StoreAccessError,
    StoreError,
    StoreUnavailableError,
    StoreUnreachableError,
)

from . import ConflictError
from .postgresql_url import PostgresqlPlace

_CONFLICTS: Final = {"40001", "40P01", "23505"}
_TOO_LONG: Final = "54000"


class _Case(NamedTuple):
    """What the server may say, by SQLSTATE or in words; how to mend it; and which error of ours it is."""

    states: set[str]
    words: str
    advice: str
    error: type[StoreUnavailableError] = StoreUnavailableError


_CASES: Final = (
    _Case(
        {"28P01", "28000"},
        r"authentication failed|no password supplied|pg_hba|role .* does not exist",
        "check the user and the password (in the URL, in PGPASSWORD or in the pgpass file), and pg_hba.conf",
        StoreAccessError,
    ),
    _Case({"3D000"}, r"database .* does not exist", "create that database, or name another"),
    _Case(
        {"53300"},
        r"too many (clients|connections)|connection slots",
        "it has no connection left; lower ?pool_size=, close other clients, or raise max_connections",
        StoreUnreachableError,
    ),
    _Case(
        {"57P01", "57P02", "57P03"},
        r"starting up|shutting down|terminating connection|not yet accepting|in recovery mode",
        "it is starting or stopping; try again",
        StoreUnreachableError,
    ),
    _Case({"25006"}, "", "it is read-only (a replica?); name the primary, or add ?target_session_attrs=read-write"),
    _Case({"57014"}, "", "the statement took longer than its statement_timeout, or was cancelled"),
    _Case({"55P03"}, "", "another process kept a lock for too long; find it in pg_stat_activity, or try again"),
    _Case({"53100"}, "", "its disk is full; free some space"),
    _Case({"53200"}, "", "it has no memory left"),
    _Case({"42501"}, "", "the user lacks a privilege; grant CREATE and USAGE on the schema, and its tables"),
    _Case({"3F000"}, "", "no schema to put tables into; create it, or mend the search_path"),
    _Case({"42P01", "42703"}, "", "its tables are not those that were opened; open the store again"),
    _Case(set(), r"SSL|certificate|GSSAPI", "mend ?sslmode= and the certificates"),
    _Case(
        set(),
        r"resolve host|translate host|refused|timeout|unreachable|No route|No such file",
        "check host and port, and that the server runs and accepts connections from here",
        StoreUnreachableError,
    ),
)
_LOST: Final = _Case(set(), "", "the connection was lost; try again", StoreUnreachableError)


def explain(error: Exception, place: PostgresqlPlace) -> ReflexioError:
    """The error of ours for one of the driver, SQLAlchemy or the operating system."""
    where = f"The PostgreSQL database {place.url}"
    if isinstance(error, PoolTimeoutError):
        return StoreUnavailableError(
            f"{where}: all {place.pool_size} connections of this process stayed in use; use fewer threads at once, or "
            "add ?pool_size=."
        )
    original = error.orig if isinstance(error, StatementError) and error.orig is not None else error
    if isinstance(original, UnicodeError):
        return InvalidInputError("A text holds half of a surrogate pair and cannot be stored or looked up; mend it.")
    state = getattr(original, "sqlstate", None) or ""
    said = place.without_secrets(" ".join(str(original).split()))
    if isinstance(original, psycopg.DataError):
        return InvalidInputError(f"A text or number cannot be stored or looked up in PostgreSQL ({said}); mend it.")
    if state == _TOO_LONG:
        return InvalidInputError(f"An id is too long to be stored in PostgreSQL ({said}); shorten it.")
    if state in _CONFLICTS:
        return ConflictError(f"{where} gave way to another transaction ({said}); try again.")
    case = _case(state, said)
    if case is None and isinstance(original, (psycopg.OperationalError, psycopg.InternalError, OSError)):
        case = _LOST
    if case is not None:
        return case.error(f"{where} is not available ({said}): {case.advice}.")
    return StoreError(f"{where} could not do what was asked ({said}).")


def _case(state: str, said: str) -> _Case | None:
    for case in _CASES:
        if state in case.states or (not state and case.words and re.search(case.words, said)):
            return case
    return None
