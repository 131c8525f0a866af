"""The schema on PostgreSQL: many processes at once, the host left alone, the history equal to the declared tables."""

from __future__ import annotations

import gzip
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, create_engine

from reflexio_store.errors import SchemaTooNewError, StoreError, StoreUnavailableError
from reflexio_store.homes import open_store
from reflexio_store.sql.dialects import VERSION_TABLE
from reflexio_store.sql.tables import METADATA
from tests.store.conftest import wait_until
from tests.store.postgres import Server
from tests.store.test_migrations import OPEN

FOLDER = Path(__file__).with_name("released")
_OWN = ("_words", VERSION_TABLE, "reflexio_hold")  # tables that only PostgreSQL has


@pytest.fixture
def url(postgres: Server) -> Iterator[str]:
    """A database without our tables."""
    with postgres.database(template="template1") as made:
        yield made


@pytest.fixture
def migrated(url: str) -> Iterator[Engine]:
    """An engine of the test's own on a database that a home has made."""
    open_store(url).close()
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    yield engine
    engine.dispose()


def start(url: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", OPEN, url], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )


@pytest.fixture
def released(url: str) -> str:
    """A database with the tables, and the record, of an earlier release."""
    with psycopg.connect(url) as connection:
        connection.execute(gzip.decompress((FOLDER / "postgresql-0005.sql.gz").read_bytes()))
    return url


@pytest.mark.parametrize("database", ["url", "released"])
def test_eight_processes_may_open_an_empty_or_old_database_at_once(
    database: str, request: pytest.FixtureRequest
) -> None:
    """They wait at one line, go together, and all find sound tables."""
    processes = [start(request.getfixturevalue(database)) for _ in range(8)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors


def test_a_database_that_is_current_is_opened_without_alembic(migrated: Engine, url: str) -> None:
    """Its import would cost half a second at every start."""
    process = start(url)
    out, errors = process.communicate("go\n", timeout=60)
    assert process.returncode == 0, errors
    assert out.strip() == "False"


def test_the_migrated_tables_are_the_declared_ones(migrated: Engine) -> None:
    """Alembic sees nothing to change, apart from the tables that only PostgreSQL has."""

    def ours(_object: object, name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
        return not (kind == "table" and name is not None and any(own in name for own in _OWN))

    with migrated.connect() as connection:
        options = {"include_object": ours, "compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts={**options, "version_table": VERSION_TABLE})
        assert compare_metadata(context, METADATA) == []


def test_a_newer_schema_is_refused_untouched(migrated: Engine, url: str) -> None:
    """The error says which release to get, and not the password."""
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE reflexio_alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaTooNewError, match=r"Upgrade reflexio-middleware") as caught:
        open_store(url)
    assert "s3cret" not in str(caught.value)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT version_num FROM reflexio_alembic_version").fetchall() == [("9999",)]


def test_the_hosts_own_migrations_are_untouched(url: str) -> None:
    """A database of the host, with its ``alembic_version`` and its tables, may be shared."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('host')")
        connection.execute("CREATE TABLE request (mine TEXT)")
    open_store(url).close()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("host",)]
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert all(name.startswith("reflexio_") for (name,) in found if name not in ("alembic_version", "request"))


def test_a_failed_upgrade_leaves_no_half_made_schema(url: str) -> None:
    """A table in the way stops the upgrade; once it is gone, the next one succeeds."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE reflexio_evidence (in_the_way TEXT)")
    with pytest.raises(StoreError, match='"reflexio_evidence" already exists'):
        open_store(url)
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        assert found == [("reflexio_evidence",)]
        connection.execute("DROP TABLE reflexio_evidence")
    store = open_store(url)
    assert store.counts()["requests"] == 0
    store.close()


def test_tables_may_lie_in_a_schema_of_their_own(url: str) -> None:
    """Named by the search_path of the URL; a database without a place for them is told apart."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE SCHEMA memory")
    open_store(f"{url}?options=-c%20search_path%3Dmemory").close()
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT DISTINCT schemaname FROM pg_tables WHERE tablename LIKE 'reflexio_%'")
        assert found.fetchall() == [("memory",)]
    with pytest.raises(StoreUnavailableError, match="search_path"):
        open_store(f"{url}?options=-c%20search_path%3Dnowhere")


@pytest.mark.parametrize("database", ["url", "released"])
@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
def test_whoever_comes_while_another_upgrades_waits(
    postgres: Server, database: str, isolation: str, request: pytest.FixtureRequest
) -> None:
    """And finds the tables as the other left them, or upgrades where it failed; in any number, however the database
    keeps transactions apart."""
    url: str = request.getfixturevalue(database)
    postgres.sql(f"ALTER DATABASE {url.rpartition('/')[2]} SET default_transaction_isolation = '{isolation}'")
    opened: list[dict[str, int]] = []

    def open_it() -> None:
        store = open_store(url)
        opened.append(store.counts())
        store.close()

    threads = [threading.Thread(target=open_it) for _ in range(3)]
    with psycopg.connect(url) as upgrading, psycopg.connect(url, autocommit=True) as watcher:
        upgrading.execute(f"CREATE TABLE IF NOT EXISTS {VERSION_TABLE} (version_num VARCHAR(32) PRIMARY KEY)".encode())
        upgrading.execute(f"LOCK TABLE {VERSION_TABLE} IN EXCLUSIVE MODE".encode())
        for thread in threads:
            thread.start()
        wait_until(lambda: bool(watcher.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall()))
        assert opened == []
        upgrading.rollback()
        for thread in threads:
            thread.join()
    assert len(opened) == 3 and len({str(counts) for counts in opened}) == 1
