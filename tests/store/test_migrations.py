"""The schema: many processes at once, the host left alone, the history equal to the declared tables."""

from __future__ import annotations

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
from sqlalchemy import Engine, create_engine, insert, text
from sqlmodel import SQLModel

import reflexio_store.sql.migrations
from reflexio_store.errors import StoreError
from reflexio_store.homes import open_store
from reflexio_store.models import LearningQuery, SearchInteractionRequest, UserProfile
from reflexio_store.records import InteractionRecord, TurnRecord
from reflexio_store.sql import schema
from reflexio_store.sql.dialects.sqlite_driver import driver as sqlite3
from reflexio_store.sql.jobs import AGGREGATE, PURGE
from reflexio_store.sql.tables import METADATA

OPEN = """
import sys
from reflexio_store.homes import open_store
sys.stdin.readline()
store = open_store(sys.argv[1])
assert not [finding for finding in store.check() if finding.level == "error"], store.check()
store.close()
print("alembic" in sys.modules)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database of this test is."""
    return tmp_path / "home.db"


@pytest.fixture
def migrated(path: Path) -> Iterator[Engine]:
    """An engine of the test's own on a database that a home has made."""
    open_store(f"sqlite:///{path}").close()
    engine = create_engine(f"sqlite:///{path}")
    yield engine
    engine.dispose()


def start(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", OPEN, f"sqlite:///{path}"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_eight_processes_may_open_an_empty_database_at_once(path: Path) -> None:
    """They wait at one line, go together, and all find sound tables."""
    processes = [start(path) for _ in range(8)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors


def test_a_database_that_is_current_is_opened_without_alembic(migrated: Engine, path: Path) -> None:
    """Its import would cost half a second at every start."""
    process = start(path)
    out, errors = process.communicate("go\n", timeout=60)
    assert process.returncode == 0, errors
    assert out.strip() == "False"


def test_the_migrated_tables_are_the_declared_ones(migrated: Engine) -> None:
    """Alembic sees nothing to change, apart from the full-text tables that only SQLite has."""

    def ours(_object: object, name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
        return not (kind == "table" and name is not None and ("_words" in name or name == schema.VERSION_TABLE))

    with migrated.connect() as connection:
        options = {"include_object": ours, "compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts={**options, "version_table": schema.VERSION_TABLE})
        assert compare_metadata(context, METADATA) == []


def test_the_known_revisions_are_the_scripts() -> None:
    """The constant that spares the import of alembic names every revision, in order."""
    scripts = ScriptDirectory(str(Path(reflexio_store.sql.migrations.__file__ or "").parent))
    history = [script.revision for script in scripts.walk_revisions()]
    assert list(schema.REVISIONS) == history[::-1]


def test_what_an_earlier_release_stored_is_found_after_the_upgrade(path: Path) -> None:
    """The full text is made anew of the record: learnings at once, messages at the first search."""
    store = open_store(f"sqlite:///{path}")
    store.add_learnings([UserProfile(user_id="ada", content="likes tea")])
    spoken = [InteractionRecord("User", "the zebra walked")]
    store.add_turns([TurnRecord("r1", "ada", "s1", "v1", "", 1_000_000, spoken)])
    asked = SearchInteractionRequest(user_id="ada", query="zebras")
    assert len(store.search_interactions(asked)) == 1
    store.close()
    _as_revision_4(path)
    store = open_store(f"sqlite:///{path}")
    assert len(store.search_learnings("profile", LearningQuery(user_id="ada", query="tea"))) == 1
    assert len(store.search_interactions(asked)) == 1
    assert not [finding for finding in store.check() if finding.level == "error"]
    store.close()


def test_an_upgrade_asks_for_the_work_that_earlier_releases_did_not_know(path: Path) -> None:
    """Ending what has expired, and looking for what users agree on."""
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE})
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
    engine.dispose()
    store = open_store(f"sqlite:///{path}")
    assert [(job.kind, job.key) for kind in (AGGREGATE, PURGE) for job in store.job_states(kind)] == [
        (AGGREGATE, "v1"),
        (PURGE, ""),
    ]
    assert store.purge_expired() == 1
    store.close()


def _as_revision_4(path: Path) -> None:
    """Take back what revisions 5 and 6 made."""
    with sqlite3.connect(path) as connection:
        connection.execute("DROP INDEX ix_reflexio_request_private")
        for name in ("document", "scope", "vector", "vectors", "learning_words", "interaction_words"):
            connection.execute(f"DROP TABLE reflexio_{name}")
        for name in ("learning", "interaction"):
            connection.execute(f"CREATE VIRTUAL TABLE reflexio_{name}_text USING fts5(scope, head, body)")
        connection.execute(f"UPDATE {schema.VERSION_TABLE} SET version_num = '0004'")
    connection.close()


def test_the_hosts_own_migrations_are_untouched(path: Path) -> None:
    """A database of the host, with its ``alembic_version`` and its tables, may be shared."""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('host')")
        connection.execute("CREATE TABLE request (mine TEXT)")
    connection.close()
    open_store(f"sqlite:///{path}").close()
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("host",)]
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    assert all(name.startswith("reflexio_") for name in tables - {"alembic_version", "request"})
    assert not [name for name in SQLModel.metadata.tables if name.startswith("reflexio_")]


def test_the_hosts_loggers_are_untouched(path: Path) -> None:
    """No handler is added, no level set, none disabled."""
    host = logging.getLogger("host.application")
    root = logging.getLogger()
    before = (list(root.handlers), root.level, host.disabled, logging.getLogger("alembic").level)
    open_store(f"sqlite:///{path}").close()
    assert (list(root.handlers), root.level, host.disabled, logging.getLogger("alembic").level) == before


def test_a_failed_upgrade_leaves_no_half_made_schema(path: Path) -> None:
    """A table in the way stops the upgrade; once it is gone, the next one succeeds."""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE reflexio_evidence (in_the_way TEXT)")
    connection.close()
    with pytest.raises(StoreError, match="reflexio_evidence already exists"):
        open_store(f"sqlite:///{path}")
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall() == [
        ("reflexio_evidence",)
    ]
    connection.execute("DROP TABLE reflexio_evidence")
    connection.close()
    store = open_store(f"sqlite:///{path}")
    assert store.counts()["requests"] == 0
    store.close()
