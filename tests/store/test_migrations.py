"""The schema: many processes at once, the host left alone, the history equal to the declared tables."""

from __future__ import annotations

import gzip
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, NullPool, create_engine, insert, inspect, text
from sqlmodel import SQLModel

import reflexio_store.sql.migrations
from reflexio_store.errors import StoreError
from reflexio_store.homes import open_store
from reflexio_store.sql import schema
from reflexio_store.sql.dialects import VERSION_TABLE
from reflexio_store.sql.dialects.sqlite_driver import driver as sqlite3
from reflexio_store.sql.jobs import AGGREGATE, PURGE
from reflexio_store.sql.tables import METADATA
from tests.store.postgres import Server

RELEASED = Path(__file__).with_name("released")
OPEN = """
import sys
from reflexio_store.homes import open_store
sys.stdin.readline()
store = open_store(sys.argv[1])
assert not [finding for finding in store.check() if finding.level == "error"], store.check()
store.close()
print("alembic" in sys.modules)
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without our tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'home.db'}"
        return
    server: Server = request.getfixturevalue("postgres")
    with server.database(template="template1") as made:
        yield made


@pytest.fixture
def engine(url: str) -> Engine:
    """The test's own way into that database; it keeps no connection."""
    if url.startswith("sqlite"):
        return create_engine(url, module=sqlite3, poolclass=NullPool)
    return create_engine(url.replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool)


@pytest.fixture
def released(url: str, engine: Engine) -> None:
    """That database has the tables, and the record, of an earlier release."""
    kind, _, path = url.partition(":///")
    if kind == "sqlite":
        Path(path).write_bytes(gzip.decompress((RELEASED / "sqlite-0005.db.gz").read_bytes()))
    else:
        with engine.begin() as connection:
            connection.exec_driver_sql(gzip.decompress((RELEASED / "postgresql-0005.sql.gz").read_bytes()).decode())


def start(url: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-W", "error", "-c", OPEN, url]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.parametrize("age", ["empty", "old"])
def test_eight_processes_may_open_an_empty_or_old_database_at_once(
    url: str, age: str, request: pytest.FixtureRequest
) -> None:
    """They wait at one line, go together, and all find sound tables."""
    if age == "old":
        request.getfixturevalue("released")
    processes = [start(url) for _ in range(8)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors


def test_a_database_that_is_current_is_opened_without_alembic(url: str) -> None:
    """Its import would cost half a second at every start."""
    open_store(url).close()
    process = start(url)
    out, errors = process.communicate("go\n", timeout=60)
    assert process.returncode == 0, errors
    assert out.strip() == "False"


def test_the_migrated_tables_are_the_declared_ones(url: str, engine: Engine) -> None:
    """Alembic sees nothing to change, apart from the tables that only one kind of database has."""
    open_store(url).close()
    own = ("_words", VERSION_TABLE, "reflexio_hold")

    def ours(_object: object, name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
        return not (kind == "table" and name is not None and any(part in name for part in own))

    with engine.connect() as connection:
        options = {"include_object": ours, "compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts={**options, "version_table": VERSION_TABLE})
        assert compare_metadata(context, METADATA) == []


def test_the_known_revisions_are_the_scripts() -> None:
    """The constant that spares the import of alembic names every revision, in order."""
    scripts = ScriptDirectory(str(Path(reflexio_store.sql.migrations.__file__ or "").parent))
    history = [script.revision for script in scripts.walk_revisions()]
    assert list(schema.REVISIONS) == history[::-1]


def test_an_upgrade_asks_for_the_work_that_earlier_releases_did_not_know(url: str, engine: Engine) -> None:
    """Ending what has expired, and looking for what users agree on."""
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        scripts = ScriptDirectory(str(Path(reflexio_store.sql.migrations.__file__ or "").parent))
        for revision in ("0001", "0002", "0003"):
            scripts.get_revision(revision).module.upgrade(Operations(context))
        context.stamp(scripts, "0003")
        connection.execute(insert(METADATA.tables["reflexio_profile"]).values(
            user_id="ada", profile_id="p", sameness="x", content="On holiday.", last_modified_timestamp=1,
            generated_from_request_id="", profile_time_to_live="one_day", expiration_timestamp=86_401,
        ))  # fmt: skip
        connection.execute(text(
            "INSERT INTO reflexio_user_playbook (user_id, user_playbook_id, sameness, agent_version, playbook_name, "
            "created_at, content, request_id) VALUES ('ada', 1, 'x', 'v1', '', 1, 'Be brief.', '')"
        ))  # fmt: skip
    store = open_store(url)
    assert [(job.kind, job.key) for kind in (AGGREGATE, PURGE) for job in store.job_states(kind)] == [
        (AGGREGATE, "v1"),
        (PURGE, ""),
    ]
    assert store.purge_expired() == 1
    store.close()


def test_the_hosts_own_migrations_are_untouched(url: str, engine: Engine) -> None:
    """A database of the host, with its ``alembic_version`` and its tables, may be shared."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num TEXT)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('host')"))
        connection.execute(text("CREATE TABLE request (mine TEXT)"))
    open_store(url).close()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).all() == [("host",)]
        tables = set(inspect(connection).get_table_names())
    assert all(name.startswith("reflexio_") for name in tables - {"alembic_version", "request"})
    assert not [name for name in SQLModel.metadata.tables if name.startswith("reflexio_")]


def test_the_hosts_loggers_are_untouched(tmp_path: Path) -> None:
    """No handler is added, no level set, none disabled."""
    host = logging.getLogger("host.application")
    root = logging.getLogger()
    before = (list(root.handlers), root.level, host.disabled, logging.getLogger("alembic").level)
    open_store(f"sqlite:///{tmp_path / 'home.db'}").close()
    assert (list(root.handlers), root.level, host.disabled, logging.getLogger("alembic").level) == before


def test_a_failed_upgrade_leaves_no_half_made_schema(url: str, engine: Engine) -> None:
    """A table in the way stops the upgrade; once it is gone, the next one succeeds."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE reflexio_evidence (in_the_way TEXT)"))
    with pytest.raises(StoreError, match=r'reflexio_evidence"? already exists'):
        open_store(url)
    with engine.begin() as connection:
        assert inspect(connection).get_table_names() == ["reflexio_evidence"]
        connection.execute(text("DROP TABLE reflexio_evidence"))
    store = open_store(url)
    assert store.counts()["requests"] == 0
    store.close()
