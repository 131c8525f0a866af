"""Several kinds of learnings in one search of a server."""

from __future__ import annotations

import pytest

from reflexio_store.models import AgentPlaybook, LearningQuery, PlaybookStatus, Status, UserPlaybook, UserProfile
from reflexio_store.remote.home import RemoteStore
from tests.reflexio_server import ReflexioServer

APPROVED = [PlaybookStatus.APPROVED]


@pytest.fixture
def filled(server: ReflexioServer, home: RemoteStore) -> RemoteStore:
    """A home with learnings of two users, two versions, and of every standing."""
    home.add_learnings(
        [
            *(UserProfile(user_id=user, content=f"tea of {user}") for user in ("ada", "bob")),
            *(UserPlaybook(user_id=user, agent_version="v1", content=f"tea for {user}") for user in ("ada", "bob")),
            UserPlaybook(user_id="ada", agent_version="v2", content="tea otherwise"),
            UserPlaybook(user_id="ada", agent_version="v1", content="tea once", status=Status.ARCHIVED),
            AgentPlaybook(agent_version="v1", content="tea for all", playbook_status=PlaybookStatus.APPROVED),
            AgentPlaybook(agent_version="v1", content="tea perhaps"),
        ]
    )
    server.calls.clear()
    return home


def queries(**more: object) -> dict[str, LearningQuery]:
    given = {"query": "tea", **more}
    return {
        "profile": LearningQuery(user_id="ada", **given),
        "user_playbook": LearningQuery(user_id="ada", agent_version="v1", **given),
        "agent_playbook": LearningQuery(agent_version="v1", playbook_status_filter=APPROVED, **given),
    }


def test_one_call_finds_the_three_kinds(server: ReflexioServer, filled: RemoteStore) -> None:
    """Of this user and version, current and approved: what the server adds to that is dropped."""
    found = filled.search(queries())  # type: ignore[arg-type]
    said = {kind: [hit.learning.content for hit in hits] for kind, hits in found.items()}
    assert said == {"profile": ["tea of ada"], "user_playbook": ["tea for ada"], "agent_playbook": ["tea for all"]}
    assert [path for _, path in server.calls] == ["/api/search"]
    assert all(0 < hit.coverage <= 1 for hits in found.values() for hit in hits)


def test_a_degraded_answer_says_so(server: ReflexioServer, filled: RemoteStore) -> None:
    """The server could not compare meanings, and answered by words."""
    assert not filled.search(queries()).degraded  # type: ignore[arg-type]
    server.routes.degraded = True
    assert filled.search(queries()).degraded  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("more", "expected"), [({"status_filter": [Status.ARCHIVED]}, ["tea once"]), ({"tags": ["x"]}, [])]
)
def test_what_the_one_call_cannot_ask_for_is_asked_kind_by_kind(
    server: ReflexioServer, filled: RemoteStore, more: dict[str, object], expected: list[str]
) -> None:
    """With the same answers."""
    found = filled.search(queries(**more))  # type: ignore[arg-type]
    assert [hit.learning.content for hit in found["user_playbook"]] == expected
    assert server.called("/api/search") == 0


def test_the_mode_is_asked_for_kind_by_kind_as_well(server: ReflexioServer, filled: RemoteStore) -> None:
    """By words alone, where the one call cannot ask for what is wanted."""
    asked: list[object] = []
    find = server.routes.search_profiles

    def note(body: dict[str, object]) -> dict[str, object]:
        asked.append(body.get("search_mode"))
        return find(body)

    server.routes.search_profiles = note  # type: ignore[method-assign]
    filled.search({"profile": LearningQuery(user_id="ada", query="tea", tags=["x"])}, mode="fts")
    assert asked == ["fts"]


def test_what_is_not_current_takes_no_place_of_what_is(server: ReflexioServer, filled: RemoteStore) -> None:
    """The one call hands out archived playbooks, too: where they fill it, that kind is asked for alone."""
    old = UserPlaybook(user_id="ada", agent_version="v1", content="tea, tea and tea", status=Status.ARCHIVED)
    filled.add_learnings([old] * 12)
    server.calls.clear()
    found = filled.search(queries())  # type: ignore[arg-type]
    assert [hit.learning.content for hit in found["user_playbook"]] == ["tea for ada"]
    assert [path for _, path in server.calls] == ["/api/search", "/api/search_user_playbooks"]


def test_a_user_with_a_long_name_is_searched_by_words(home: RemoteStore) -> None:
    """The server's searches refuse a name of more than 255 characters; its lists do not."""
    name = "a" * 256
    home.add_learnings(
        [UserProfile(user_id=name, content="tea"), UserPlaybook(user_id=name, agent_version="v1", content="tea")]
    )
    asked = {
        kind: query.model_copy(update={"user_id": name})
        for kind, query in queries().items()
        if kind != "agent_playbook"
    }
    found = home.search(asked)  # type: ignore[arg-type]
    assert [[hit.learning.content for hit in hits] for hits in found.values()] == [["tea"], ["tea"]]


def test_without_a_user_the_one_call_finds_nothing_personal(filled: RemoteStore) -> None:
    """The server would answer with the playbooks of all users."""
    for user_id in (None, ""):
        asked = {kind: query.model_copy(update={"user_id": user_id}) for kind, query in queries().items()}
        found = filled.search(asked)  # type: ignore[arg-type]
        assert found["profile"] == found["user_playbook"] == []
        assert [hit.learning.content for hit in found["agent_playbook"]] == ["tea for all"]
