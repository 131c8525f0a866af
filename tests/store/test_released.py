"""A database of every schema that was ever in use, as the code of its day left it, is upgraded with all that it holds.

``released/`` has one of each: SQLite files, and dumps of PostgreSQL. Two users said in three sessions where they live,
what they like and how they want to be answered; one rule was added for all.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from reflexio_middleware import ReflexioClient
from reflexio_store.sql import schema
from tests.store.postgres import Server

_RELEASED = sorted(Path(__file__).with_name("released").glob("*.gz"))


@pytest.fixture(params=_RELEASED, ids=[path.name.partition(".")[0] for path in _RELEASED])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A home with that database in it."""
    path: Path = request.param
    if path.name.startswith("sqlite"):
        (tmp_path / "home.db").write_bytes(gzip.decompress(path.read_bytes()))
        yield f"sqlite:///{tmp_path / 'home.db'}"
        return
    server: Server = request.getfixturevalue("postgres")
    with server.database(template="template1") as made:
        with psycopg.connect(made) as connection:
            connection.execute(gzip.decompress(path.read_bytes()))
        yield made


@pytest.fixture
def client(url: str) -> Iterator[ReflexioClient]:
    """A client of today on it, which first finishes what the upgrade asked for."""
    with closing(ReflexioClient(url, recall_timeout=10.0)) as made:
        made.flush(60)
        yield made


def test_every_schema_before_the_current_one_is_here() -> None:
    """Whoever adds a migration adds a database of the schema before it."""
    assert [f"sqlite-{revision}" for revision in schema.REVISIONS[:-1]] == [
        path.name.partition(".")[0] for path in _RELEASED if path.name.startswith("sqlite")
    ][: len(schema.REVISIONS) - 1]


def test_the_record_is_whole(client: ReflexioClient) -> None:
    """Sessions, messages and tools are as they were said."""
    sessions = client.get_requests(user_id="ada").sessions
    assert {session.session_id: len(session.requests) for session in sessions} == {"monday": 2, "tuesday": 2}
    for session in sessions:
        for request in session.requests:
            assert (request.request.source, request.request.agent_version) == ("web", "v1")
            asked, answered = request.interactions
            assert (asked.role, answered.content) == ("user", "Noted.")
            assert answered.tools_used[0].tool_data == {"input": {"row": 12}, "output": "free"}
    assert not [finding for finding in client.store.check() if finding.level == "error"]


def test_what_was_learned_is_found_with_its_evidence(client: ReflexioClient) -> None:
    """By listing and by words; the address that was corrected is not current."""
    current = {profile.content: profile for profile in client.get_profiles("ada").user_profiles}
    assert set(current) == {"Lives in Porto.", "Prefers aisle seats.", "Name is Ada."}
    assert all(profile.evidence for profile in current.values())
    assert "aisle" in str(client.recall("Aisle or window?", user_id="ada", agent_version="v1"))
    assert "booking code" in str(client.recall("I want a refund", user_id="bob", agent_version="v1"))
    found = client.search_interactions(user_id="ada", query="Porto").interactions
    assert found[0].content == "I live in Porto now."


def test_children_and_triggers_survive(client: ReflexioClient) -> None:
    """A session takes along its messages and what was learned from it alone; a user, everything."""
    client.delete_session(session_id="tuesday", user_id="ada")
    assert {profile.content for profile in client.get_profiles("ada").user_profiles} == {
        "Lives in Rome.",
        "Prefers aisle seats.",
        "Name is Ada.",
    }
    for user_id in ("ada", "bob"):
        client.clear_user_data(user_id)
    left = {name: number for name, number in client.store.counts().items() if number and not name.startswith("jobs")}
    assert left == {"agent_playbooks": 1, "erasures": 3}


def test_learning_goes_on(client: ReflexioClient) -> None:
    """What is said now joins what was learned then."""
    said = [{"role": "user", "content": "I live in Turin now."}]
    client.publish_interaction(user_id="ada", session_id="today", interactions=said, wait_for_response=True)
    assert "Lives in Turin." in {profile.content for profile in client.get_profiles("ada").user_profiles}
