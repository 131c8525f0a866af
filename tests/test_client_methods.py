"""The rest of the public client's methods: single messages, users, the session view, and what a client is."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import reflexio_middleware as reflexio
from reflexio_middleware import AsyncReflexioClient, ReflexioClient
from reflexio_store.errors import InvalidInputError
from reflexio_store.models import GetRequestsRequest, UserPlaybook, UserProfile


def say(client: ReflexioClient, *words: str, user: str = "ann", session: str = "s1") -> str:
    messages = [{"role": "user", "content": word} for word in words]
    published = client.publish_interaction(user, messages, session_id=session, agent_version="v1")
    client.flush(10, learn_now=True)
    assert published.request_id is not None
    return published.request_id


def test_a_message_is_deleted_with_what_was_learned_from_it(client: ReflexioClient) -> None:
    """The answer says what went; an unknown id, or another user's, says so."""
    say(client, "My name is Ann.", "I prefer aisle seats.")
    seat = next(item for item in client.get_interactions("ann").interactions if "aisle" in item.content)
    assert not client.delete_interaction("bob", seat.interaction_id).success
    answer = client.delete_interaction("ann", seat.interaction_id, wait_for_response=True)
    assert answer.success and (answer.deleted_profiles_count, answer.deleted_requests_count) == (1, 0)
    assert [item.content for item in client.get_profiles("ann").user_profiles] == ["Name is Ann."]
    assert [item.content for item in client.get_interactions("ann").interactions] == ["My name is Ann."]
    again = client.delete_interaction("ann", seat.interaction_id)
    assert not again.success and "nothing was changed" in again.message


@pytest.mark.parametrize(("user", "interaction_id"), [("ann", 0), ("ann", "1"), ("ann", True), (" ", 1), (None, 1)])
def test_deleting_a_message_needs_a_user_and_an_id(client: ReflexioClient, user: str, interaction_id: int) -> None:
    """What is missing must not mean everything."""
    with pytest.raises(InvalidInputError):
        client.delete_interaction(user, interaction_id)


def test_learning_goes_on_after_a_message_was_deleted(client: ReflexioClient) -> None:
    """What is learned later from the same session names the right messages."""
    request_id = say(client, "Hello there.", "I prefer aisle seats.")
    client.delete_interaction("ann", client.get_interactions("ann").interactions[-1].interaction_id)
    say(client, "My name is Ann.")
    seat = next(item for item in client.get_profiles("ann").user_profiles if "aisle" in item.content)
    assert [(item.request_id, item.interaction_index) for item in seat.evidence] == [(request_id, 1)]


def test_all_messages_are_read_and_deleted(client: ReflexioClient) -> None:
    """Of all users, newest first; the count is real."""
    for user in ("ann", "bob"):
        say(client, f"My name is {user.title()}.", "Hello.", user=user)
    found = client.get_all_interactions(limit=3)
    assert [(item.user_id, item.content) for item in found.interactions[:2]] == [
        ("bob", "Hello."), ("bob", "My name is Bob.")]  # fmt: skip
    assert len(found.interactions) == 3
    assert client.delete_all_interactions().deleted_count == 4
    assert client.get_requests().sessions == [] and client.get_all_profiles().user_profiles == []


def test_reading_the_messages_of_a_user_needs_the_user(client: ReflexioClient) -> None:
    """A missing user must not mean everybody."""
    say(client, "hello")
    for user in (None, "", " "):
        with pytest.raises(InvalidInputError, match="user_id"):
            client.get_interactions(user)  # type: ignore[arg-type]


@pytest.mark.parametrize("missing", [None, "", " ", 7])
def test_asking_about_one_request_needs_its_id(client: ReflexioClient, missing: Any) -> None:
    """A missing id must not mean the newest request of anybody."""
    say(client, "hello")
    for ask in (client.explain, client.get_learning_status):
        with pytest.raises(InvalidInputError, match="request_id"):
            ask(missing)


def test_space_around_an_id_is_no_part_of_it(client: ReflexioClient) -> None:
    """In whatever call it stands."""
    client.publish_interaction(" ann ", [{"role": "user", "content": "Hello"}], session_id=" s ")
    client.add_user_profile([{"user_id": " ann ", "content": "Likes green tea."}])
    client.add_user_playbook([{"user_id": "ann\n", "agent_version": "v1", "content": "Be brief."}])
    assert client.get_requests(user_id=" ann ", session_id=" s ").sessions[0].user_id == "ann"
    for user in ("ann", " ann "):
        assert len(client.get_profiles(user).user_profiles) == len(client.search("tea", user_id=user).profiles) == 1
        assert len(client.get_user_playbooks(user_id=user).user_playbooks) == 1
        assert client.recall("Do I like tea?", user_id=user).learnings
        with reflexio.session(user_id=user):
            assert client.recall("Do I like tea?").learnings
    assert client.mark_session_outcome("s", "success", user_id=" ann ").recorded
    assert client.delete_session("s", user_id=" ann ").success
    client.clear_user_data(" ann ")
    assert client.get_all_profiles().user_profiles == client.get_user_playbooks().user_playbooks == []


def test_numbers_kinds_and_lists_that_make_no_sense_are_refused(client: ReflexioClient) -> None:
    """By the name of the argument."""
    wrong: list[tuple[str, Callable[[], object]]] = [
        ("learning_ids", lambda: client.get_learning_use("profile", "p1")),
        ("learning_ids", lambda: client.get_learning_use("profile", None)),  # type: ignore[arg-type]
        ("kind", lambda: client.get_learning_use("profiles", ["p1"])),  # type: ignore[arg-type]
        ("limit", lambda: client.get_profile_change_log(limit=-1)),
        ("limit", lambda: client.get_user_playbook_change_log(limit="many")),  # type: ignore[arg-type]
        ("limit", lambda: client.get_all_profiles(limit=0)),
        ("limit", lambda: client.get_all_interactions(limit=0)),
        ("limit", lambda: client.get_agent_playbooks(limit=0)),
        ("user_id", lambda: client.delete_session("s", user_id=5)),  # type: ignore[arg-type]
        ("user_id", lambda: client.finalize_session("s", user_id=5)),  # type: ignore[arg-type]
        ("user_id", lambda: client.upgrade_profiles(user_id=5)),  # type: ignore[arg-type]
        ("threshold", lambda: client.search_user_profiles("ann", "tea", threshold="high")),  # type: ignore[arg-type]
    ]
    for name, call in wrong:
        with pytest.raises(InvalidInputError, match=name):
            call()


def test_all_playbooks_of_both_kinds_are_deleted(client: ReflexioClient) -> None:
    """Counted together."""
    client.add_user_playbook([{"user_id": "ann", "agent_version": "v1", "content": "x"}])
    client.add_agent_playbooks([{"agent_version": "v1", "content": "y"}, {"agent_version": "v1", "content": "z"}])
    assert client.delete_all_playbooks().deleted_count == 3
    assert client.get_user_playbooks().user_playbooks == [] and client.get_agent_playbooks().agent_playbooks == []


def test_the_stats_of_a_user_count_what_is_current(client: ReflexioClient) -> None:
    """With the times of the oldest and the newest profile as ISO text."""
    times = [1_700_000_000, 1_700_000_600, 10**15]
    client.add_user_profile([UserProfile(user_id="ann", content=f"{at}", last_modified_timestamp=at) for at in times])
    client.add_user_playbook([UserPlaybook(user_id="ann", agent_version="v1", content="x")])
    stats = client.storage_stats("ann")
    assert (stats.profile_count, stats.playbook_count) == (3, 1)
    assert stats.oldest_profile_modified == "2023-11-14T22:13:20Z"
    assert stats.newest_profile_modified == "9999-12-31T23:59:59Z"
    assert client.storage_stats("bob").oldest_profile_modified is None


def test_profiles_are_reranked_by_a_query(client: ReflexioClient) -> None:
    """Those that fit come first, the rest as given; another user's and unknown ones are left out."""
    contents = {"a": "Likes tea.", "b": "Lives in Rome.", "c": "Drinks green tea at night."}
    client.add_user_profile(
        [UserProfile(profile_id=key, user_id="ann", content=text) for key, text in contents.items()]
    )
    client.add_user_profile([UserProfile(profile_id="z", user_id="bob", content="tea")])
    found = client.rerank_user_profiles("ann", "tea at night", ["b", "a", "z", "c", "unknown"]).user_profiles
    assert [item.profile_id for item in found] == ["c", "a", "b"]
    top = client.rerank_user_profiles("ann", "tea at night", ["b", "a", "c"], top_k=1).user_profiles
    assert [item.profile_id for item in top] == ["c"]


def test_a_client_says_what_it_is_and_shows_no_secret(tmp_path: Path) -> None:
    """Settings by name, keys and passwords masked."""
    with ReflexioClient(
        f"sqlite:///{tmp_path / 'm.db'}", llm_api_key="sk-very-secret", llm_base_url="http://me:hidden@localhost/v1"
    ) as client:
        who = client.whoami()
        assert (who.success, who.org_id, who.storage_type) == (True, "self-host-org", "sqlite")
        assert who.storage_label == client.url
        config = client.get_config()
        assert config["recall_top_k"] == 5 and config["learn_after"] is None
        text = json.dumps(config)
        assert "very-secret" not in text and "hidden" not in text


def test_changing_the_settings_is_refused_with_the_way_to_set_them(client: ReflexioClient) -> None:
    """The settings asked for, or where there is none of that name, all of them."""
    with pytest.raises(InvalidInputError, match="REFLEXIO_RECALL_TOP_K"):
        client.update_config({"recall_top_k": 9})
    with pytest.raises(InvalidInputError, match="recall_tokens"):
        client.set_config({"window_size": 5})


def test_a_session_view_fills_in_its_session(client: ReflexioClient) -> None:
    """Where a method takes one; the others are the client's own."""
    view = client.for_session(" s1 ")
    view.publish_interaction("ann", [{"content": "hello"}])
    client.publish_interaction("ann", [{"content": "other"}], session_id="s2")
    assert [session.session_id for session in view.get_requests().sessions] == ["s1"]
    assert len(view.get_interactions("ann").interactions) == 2
    assert view.delete_session().deleted_requests_count == 1
    assert [session.session_id for session in client.get_requests().sessions] == ["s2"]
    assert "publish_interaction" in dir(view)


def test_a_session_view_refuses_another_session(client: ReflexioClient) -> None:
    """By keyword, by position, in a whole request; a blank one makes no view; nothing unknown is made up."""
    view = client.for_session("s1")
    for call in (
        lambda: view.delete_session("s2"),
        lambda: view.get_requests(session_id="s2"),
        lambda: view.get_requests({"session_id": "s2"}),
        lambda: view.get_requests(GetRequestsRequest(session_id="s2")),
        lambda: client.for_session(" "),
    ):
        with pytest.raises(ValueError, match="session_id"):
            call()
    assert view.get_requests({"session_id": "s1"}).sessions == []
    with pytest.raises(AttributeError):
        view.no_such_method()


async def test_methods_of_the_sync_client_that_end_in_async_are_awaited(client: ReflexioClient) -> None:
    """Also through a session view, and in the async twin, where all are."""
    answer = await client.publish_interaction_async("ann", [{"content": "hello"}], session_id="s1")
    assert answer.success
    await client.for_session("s2").publish_interaction_async("ann", [{"content": "hello"}])
    assert (await client.search_async("hello", user_id="ann")).success
    twin = AsyncReflexioClient(client=client)
    found = await twin.for_session("s2").get_requests()
    assert [session.session_id for session in found.sessions] == ["s2"]
    assert (await twin.whoami()).storage_type == "sqlite"


def test_a_user_is_given_all_that_is_held_on_them(client: ReflexioClient, tmp_path: Path) -> None:
    """A file that only its owner reads, with no word of another user; it is not written over."""
    say(client, "My name is Ann.")
    say(client, "My name is Bob.", user="bob")
    file = tmp_path / "ann.jsonl"
    counts = client.export_user("ann", file)
    assert {name: count for name, count in counts.items() if count} == {
        "request": 1,
        "profile": 1,
        "event": 1,
        "job": 1,
    }
    assert "Ann" in file.read_text() and "Bob" not in file.read_text() and '"bob"' not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        client.export_user("ann", file)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        client.export_user("ann", tmp_path / "missing" / "ann.jsonl")
    with pytest.raises(InvalidInputError, match="user_id"):
        client.export_user(" ", tmp_path / "x")


def test_a_shared_client_takes_no_settings(client: ReflexioClient) -> None:
    """It has its own; what would go to another home than was named must not."""
    for given in ({"store": "sqlite://"}, {"agent_version": "v2"}):
        with pytest.raises(InvalidInputError, match=next(iter(given))):
            AsyncReflexioClient(client=client, **given)


def test_every_name_of_the_public_client_is_there(client: ReflexioClient) -> None:
    """Those of the facts on the wire that this work is to have."""
    names = """publish_interaction publish_interaction_async for_session get_requests delete_request delete_session
        delete_requests_by_ids delete_all_interactions delete_interaction clear_user_data get_interactions
        get_all_interactions search_interactions search search_async search_user_profiles search_profiles get_profiles
        get_all_profiles add_user_profile delete_profile delete_profiles_by_ids delete_all_profiles
        rerank_user_profiles storage_stats add_user_playbook get_user_playbooks search_user_playbooks
        update_user_playbook delete_user_playbook delete_user_playbooks_by_ids delete_all_user_playbooks
        add_agent_playbooks get_agent_playbooks search_agent_playbooks update_agent_playbook
        update_agent_playbook_status delete_agent_playbook delete_agent_playbooks_by_ids delete_all_agent_playbooks
        delete_all_playbooks get_config set_config update_config whoami get_learning_status"""
    for name in names.split():
        assert callable(getattr(client, name)) and callable(getattr(AsyncReflexioClient, name)), name
