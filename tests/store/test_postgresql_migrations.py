"""The schema on PostgreSQL: what only it can get wrong."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator

import psycopg
import pytest

from reflexio_store.errors import SchemaTooNewError, StoreUnavailableError
from reflexio_store.homes import open_store
from reflexio_store.sql.dialects import VERSION_TABLE
from tests.store.conftest import wait_until
from tests.store.postgres import Server
from tests.store.test_migrations import RELEASED


@pytest.fixture
def url(postgres: Server) -> Iterator[str]:
    """A database without our tables."""
    with postgres.database(template="template1") as made:
        yield made


@pytest.fixture
def released(url: str) -> str:
    """A database with the tables, and the record, of an earlier release."""
    with psycopg.connect(url) as connection:
        connection.execute(gzip.decompress((RELEASED / "postgresql-0005.sql.gz").read_bytes()))
    return url


def test_a_newer_schema_is_refused_untouched(url: str) -> None:
    """The error says which release to get, and not the password."""
    open_store(url).close()
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE reflexio_alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaTooNewError, match=r"Upgrade reflexio-middleware") as caught:
        open_store(url)
    assert "s3cret" not in str(caught.value)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT version_num FROM reflexio_alembic_version").fetchall() == [("9999",)]


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
