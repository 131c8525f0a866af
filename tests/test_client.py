"""The client: publishing, reading, learning and forgetting on the embedded home, and errors that teach."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import reflexio_middleware as reflexio
from reflexio_middleware import AsyncReflexioClient, ReflexioClient, session
from reflexio_middleware.guard import raise_internal_errors
from reflexio_store.contract import Change
from reflexio_store.errors import (
    DeliveryError,
    InvalidInputError,
    SchemaTooNewError,
    StoreCorruptError,
    StoreUnavailableError,
    StoreURLError,
)
from reflexio_store.models import InteractionData
from reflexio_store.sql.dialects.sqlite_driver import driver as sqlite3

HELLO = [{"role": "user", "content": "hello"}]


def test_a_refused_publish_names_interaction_and_field_and_stores_nothing(client: ReflexioClient) -> None:
    """All problems at once, each with its place."""
    with pytest.raises(InvalidInputError) as caught:
        client.publish_interaction(
            user_id=" ",
            session_id="s",
            source="Web App",
            interactions=[
                {"content": "fine"},
                {"role": 3, "content": "x"},
                {"content": "x", "tools_used": [{"tool_data": {}}]},
                {"user_action": "click"},
                {"content": "y" * 1_000_001},
            ],
        )
    places = [place for place, _ in caught.value.problems]
    assert places == [
        "user_id", "source", "interactions[1].role", "interactions[2].tools_used[0].tool_name", "interactions[3]",
        "interactions[4].content",
    ]  # fmt: skip
    assert "y" * 100 not in str(caught.value)
    assert client.get_requests().sessions == []


@pytest.mark.parametrize("bad", [None, "", "  ", 7])
def test_a_publish_needs_a_session(client: ReflexioClient, bad: object) -> None:
    """As the public server: a session is required."""
    with pytest.raises(InvalidInputError, match="session_id"):
        client.publish_interaction(user_id="u", interactions=HELLO, session_id=bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [[], "hello", {"content": "x"}, [{}], [{"contents": "typo"}], [3]])
def test_a_publish_needs_interactions(client: ReflexioClient, bad: object) -> None:
    """An empty list, no list, or nothing but empty interactions."""
    with pytest.raises(InvalidInputError, match="interactions"):
        client.publish_interaction(user_id="u", interactions=bad, session_id="s")  # type: ignore[arg-type]


def test_what_is_dropped_is_said_in_a_bounded_list(client: ReflexioClient) -> None:
    """Unknown fields and empty interactions: a warning each, 20 at most and one that counts the rest."""
    many = [{"content": "x", **{f"field{at}": 1 for at in range(8)}} for _ in range(30)]
    answer = client.publish_interaction(
        user_id="u", session_id="s", interactions=[{"role": "user"}, *many, {"content": "x", "user_id": "silent"}]
    )
    assert len(answer.warnings) == 21
    assert answer.warnings[0] == "interactions[0] is empty and was dropped"
    assert any("field4 and 3 more" in warning for warning in answer.warnings)
    assert answer.warnings[-1] == "and 11 more warnings"
    assert not any("user_id" in warning for warning in answer.warnings)


def test_all_fields_of_an_interaction_come_back(client: ReflexioClient) -> None:
    """What was published is what is read."""
    given = InteractionData(
        role="Agent", content="c", shadow_content="s", expert_content="e", created_at=1_700_000_000,
        user_action="click", user_action_description="d", interacted_image_url="https://example.org/x.png",
        tools_used=[{"tool_name": "t", "tool_data": {"input": {"a": [1, None]}}, "status": "ok"}],
        citations=[{"kind": "profile", "real_id": "p"}],
        retrieved_learnings=[{"kind": "user_playbook", "learning_id": "7"}],
    )  # fmt: skip
    request_id = client.publish_interaction(user_id="u", session_id="s", interactions=[given]).request_id
    (item,) = client.get_interactions("u").interactions
    assert InteractionData(**item.model_dump()) == given
    assert (item.request_id, item.user_id) == (request_id, "u")
    assert item.interaction_id > 0


def test_a_known_request_id_changes_nothing(client: ReflexioClient) -> None:
    """Publishing again what was published is safe."""
    for content in ("first", "second"):
        answer = client.publish_interaction(
            user_id="u", session_id="s", request_id="r-1", interactions=[{"content": content}]
        )
        assert (answer.success, answer.request_id) == (True, "r-1")
    assert [item.content for item in client.get_interactions("u").interactions] == ["first"]
    assert "already" in answer.message


def test_waiting_for_the_response_reports_what_was_learned(client: ReflexioClient) -> None:
    """The whole circle in one call."""
    answer = client.publish_interaction(
        user_id="u",
        session_id="s",
        wait_for_response=True,
        interactions=[{"role": "user", "content": "My name is Ann and I prefer window seats."}],
    )
    assert (answer.learning_status, answer.profiles_added) == ("done", 2)
    assert client.get_learning_status(str(answer.request_id)) == "done"
    facts = [profile.content for profile in client.get_profiles("u").user_profiles]
    assert any("Ann" in fact for fact in facts)
    assert any("window seat" in fact for fact in facts)


def test_waiting_for_the_response_waits_until_it_is_stored(tmp_path: Path) -> None:
    """Also where nothing is learned; the answer says which it is."""
    with ReflexioClient(f"sqlite:///{tmp_path / 'm.db'}", learning="off") as client:
        answer = client.publish_interaction(user_id="u", session_id="s", interactions=HELLO)
        assert answer.message.startswith("Accepted")
        answer = client.publish_interaction(user_id="u", session_id="s", interactions=HELLO, wait_for_response=True)
        assert (answer.message, client.stats()["pending"]) == ("Stored", 0)


def test_what_waits_for_a_home_that_is_away_is_not_called_stored(tmp_path: Path) -> None:
    """It is accepted, and safe: publishing it again is not asked for."""
    away = "http://127.0.0.1:9"
    with ReflexioClient(url_endpoint=away, spool_dir=tmp_path, flush_timeout=0.1) as client:
        answer = client.publish_interaction(user_id="u", session_id="s", interactions=HELLO, wait_for_response=True)
        assert (answer.success, answer.learning_reason) == (True, "wait_timeout")
        assert answer.message.startswith("Accepted")


def test_evaluation_only_is_kept_and_never_learned_from(client: ReflexioClient) -> None:
    """It is in the record, and only there."""
    client.publish_interaction(
        user_id="u", session_id="s", evaluation_only=True,
        interactions=[{"role": "user", "content": "My name is Ann."}],
    )  # fmt: skip
    assert client.flush().complete
    assert client.get_requests().sessions[0].requests[0].request.evaluation_only
    assert client.get_profiles("u").user_profiles == []


def test_forgetting_a_session_forgets_what_was_learned_from_it_alone(client: ReflexioClient) -> None:
    """What another session says as well stays; so does what was added by hand."""
    for name, text in (("s1", "I am vegetarian. I live in Porto."), ("s2", "As I said, I live in Porto.")):
        client.publish_interaction(user_id="u", session_id=name, interactions=[{"role": "user", "content": text}])
    client.add_user_profile([{"user_id": "u", "content": "Speaks Portuguese."}])
    client.flush()
    assert len(client.get_profiles("u").user_profiles) == 3
    assert client.delete_session("s1").deleted_profiles_count == 1
    left = {profile.content for profile in client.get_profiles("u").user_profiles}
    assert left == {"Lives in Porto.", "Speaks Portuguese."}


def test_clearing_a_user_leaves_the_others(client: ReflexioClient) -> None:
    """Everything of one user goes, nothing of another's."""
    for user in ("ann", "bob"):
        client.publish_interaction(
            user_id=user, session_id="same", interactions=[{"role": "user", "content": "My name is Kim."}]
        )
    client.flush()
    counts = client.clear_user_data("ann").deleted_counts
    assert (counts["requests"], counts["profiles"]) == (1, 1)
    assert client.get_profiles("ann").user_profiles == []
    assert client.get_interactions("ann").interactions == []
    assert len(client.get_profiles("bob").user_profiles) == 1


@pytest.mark.parametrize("call", ["delete_request", "delete_session"])
def test_an_unknown_id_says_so_and_changes_nothing(client: ReflexioClient, call: str) -> None:
    """No error, no success."""
    client.publish_interaction(user_id="u", session_id="s", interactions=HELLO)
    answer = getattr(client, call)("nope")
    assert not answer.success
    assert "nothing was changed" in answer.message
    assert len(client.get_requests().sessions) == 1


@pytest.mark.parametrize("bad", [None, "", "  ", 3])
def test_a_missing_id_is_an_error(client: ReflexioClient, bad: object) -> None:
    """A delete without an id must not mean everything."""
    with pytest.raises(InvalidInputError, match="session_id"):
        client.delete_session(bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="request_id"):
        client.delete_request(bad)  # type: ignore[arg-type]


def test_profiles_and_playbooks_can_be_kept_by_hand(client: ReflexioClient) -> None:
    """Add, get, search, update, delete; approve and reject."""
    added = client.add_user_playbook(
        [{"user_id": "u", "agent_version": "v1", "trigger": "deploying", "content": "Run the tests first."}]
    )
    playbook_id = int(added.ids[0])
    assert client.update_user_playbook(playbook_id, content="Run all tests first.").success
    (found,) = client.search_user_playbooks("tests before deploying", user_id="u").user_playbooks
    assert (found.user_playbook_id, found.content) == (playbook_id, "Run all tests first.")
    assert client.search_user_playbooks("tests").user_playbooks == []
    assert not client.update_user_playbook(1, content="x").success
    assert client.delete_user_playbook(playbook_id).success

    shared = int(client.add_agent_playbooks([{"agent_version": "v1", "content": "Greet in English."}]).ids[0])
    assert client.search("greet", agent_version="v1").agent_playbooks == []
    assert client.approve_agent_playbook(shared).success
    assert [item.agent_playbook_id for item in client.search("greet").agent_playbooks] == [shared]
    assert client.reject_agent_playbook(shared).success
    assert client.search_agent_playbooks("greet").agent_playbooks == []
    with pytest.raises(InvalidInputError, match="playbook_status"):
        client.update_agent_playbook_status(shared, "maybe")

    profile_id = client.add_user_profile([{"user_id": "u", "content": "Likes tea."}]).ids[0]
    assert client.update_user_profile("u", profile_id, content="Likes green tea.").success
    assert not client.update_user_profile("other", profile_id, content="taken over").success
    assert [item.content for item in client.search_user_profiles("u", "green").user_profiles] == ["Likes green tea."]
    assert client.delete_profile("u", search_query="tea").success
    with pytest.raises(InvalidInputError, match="search_query"):
        client.delete_profile("u")


def test_bad_learnings_are_refused_whole(client: ReflexioClient) -> None:
    """The error names each; nothing is stored."""
    with pytest.raises(InvalidInputError) as caught:
        client.add_user_profile(
            [{"user_id": "u", "content": "fine"}, {"user_id": "u", "content": ""}, {"content": "x"}]
        )
    assert [place for place, _ in caught.value.problems] == ["user_profiles[1].content", "user_profiles[2].user_id"]
    assert client.get_profiles("u").user_profiles == []


def test_paging_walks_every_session_once_while_turns_arrive(client: ReflexioClient) -> None:
    """By cursor: no session twice, none missed, and has_more is true to the end."""
    for number in range(25):
        client.publish_interaction(user_id="u", session_id=f"s{number:02}", interactions=HELLO)
    seen: list[str] = []
    cursor = None
    while True:
        page = client.get_requests(user_id="u", top_k=5, cursor=cursor)
        seen += [item.session_id for item in page.sessions]
        assert page.has_more == (page.next_cursor is not None)
        if not page.has_more:
            break
        cursor = page.next_cursor
        client.publish_interaction(user_id="u", session_id=f"late{len(seen)}", interactions=HELLO)
    assert seen == [f"s{number:02}" for number in reversed(range(25))]


def test_interactions_can_be_searched_at_once(client: ReflexioClient) -> None:
    """What was captured a moment ago is found, literally."""
    client.publish_interaction(user_id="u", session_id="s", interactions=[{"content": 'order "AND" #12345'}, *HELLO])
    found = client.search_interactions("u", query='12345 AND "x').interactions
    assert found[0].content == 'order "AND" #12345'
    assert client.search_interactions("other", query="order").interactions == []
    assert len(client.search_interactions("u", most_recent_k=1).interactions) == 1


async def test_the_async_client_is_the_same_awaited(tmp_path: Path) -> None:
    """Publish, read, recall and delete without blocking the loop."""
    async with AsyncReflexioClient(f"sqlite:///{tmp_path / 'async.db'}", recall_timeout=5.0) as client:
        async with session("s", user_id="u"):
            await client.publish_interaction(
                user_id="u", session_id="s", wait_for_response=True,
                interactions=[{"role": "user", "content": "I prefer window seats."}],
            )  # fmt: skip
            recalled = await client.recall("Book me a window seat")
            assert "window seats" in recalled.text
            injected = await client.inject([{"role": "user", "content": "Book me a window seat"}])
            assert injected[0]["content"].startswith("<reflexio_memory>")
        assert (await client.get_requests(user_id="u")).sessions[0].session_id == "s"
        assert (await client.delete_session("s")).deleted_requests_count == 1


def test_the_async_client_has_every_method_of_the_client() -> None:
    """No method is missing in the twin."""
    ours = {name for name in dir(ReflexioClient) if not name.startswith("_")}
    only_sync = {
        "is_closed", "store", "before_fork", "after_fork",
    }  # fmt: skip
    assert ours - only_sync <= set(dir(AsyncReflexioClient))


@pytest.mark.parametrize("url", ["", "memory.db", "mysql://x/y", "sqlite:/x.db"])
def test_an_unusable_store_url_says_which_forms_there_are(url: str) -> None:
    """The error teaches."""
    with pytest.raises(StoreURLError, match="sqlite:///"):
        ReflexioClient(url)


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreUnavailableError, match="file"):
        ReflexioClient(f"sqlite:///{tmp_path / 'file' / 'memory.db'}")


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path: Path) -> None:
    """It is left as it is."""
    path = tmp_path / "notes.db"
    path.write_text("just some notes, long enough to look like something " * 20)
    before = path.read_bytes()
    with pytest.raises(StoreCorruptError, match=r"notes\.db"):
        ReflexioClient(f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    """The error says to upgrade."""
    path = tmp_path / "memory.db"
    ReflexioClient(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE reflexio_alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(SchemaTooNewError, match="Upgrade reflexio-middleware"):
        ReflexioClient(f"sqlite:///{path}")


def test_an_unusable_setting_names_itself_and_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given as argument or in the environment."""
    with pytest.raises(InvalidInputError, match="REFLEXIO_EXTRACTOR"):
        ReflexioClient(extractor="magic")
    monkeypatch.setenv("REFLEXIO_RECALL_TIMEOUT", "soon")
    with pytest.raises(InvalidInputError, match="REFLEXIO_RECALL_TIMEOUT"):
        ReflexioClient()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("recall_timeout", "inf"), ("exit_timeout", "1e300"), ("learn_after", "inf"), ("learn_stride", "99")],
)
def test_a_number_that_no_setting_can_be_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, setting: str, value: str
) -> None:
    """Before anything waits for so long."""
    monkeypatch.setenv(f"REFLEXIO_{setting.upper()}", value)
    with pytest.raises(InvalidInputError, match=rf"{setting} \(or REFLEXIO_{setting.upper()}\)"):
        ReflexioClient()


def test_an_empty_folder_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not the folder that the process happens to be in."""
    monkeypatch.setenv("REFLEXIO_SPOOL_DIR", "")
    with ReflexioClient(f"sqlite:///{tmp_path / 'memory.db'}") as client:
        assert client.settings.spool_dir is None


def test_closing_may_be_given_all_the_time_there_is(tmp_path: Path) -> None:
    """It takes as long as it needs."""
    client = ReflexioClient(f"sqlite:///{tmp_path / 'memory.db'}")
    client.publish_interaction("u", [{"role": "user", "content": "Hello"}], session_id="s")
    assert client.flush(float("inf")).complete and client.close(float("inf")).complete


@pytest.mark.parametrize("wrong", [{"extractor": 5}, {"redactors": 5}, {"redactors": [5]}])
def test_an_unusable_part_is_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    """At construction, by its name."""
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        ReflexioClient(f"sqlite:///{tmp_path / 'm.db'}", **wrong)  # type: ignore[arg-type]


def test_a_closed_client_says_so(client: ReflexioClient) -> None:
    """Publishing and reading after close are errors; closing again is not."""
    client.close()
    client.close()
    with pytest.raises(DeliveryError, match="closed"):
        client.publish_interaction(user_id="u", session_id="s", interactions=HELLO)
    with pytest.raises(StoreUnavailableError, match="closed"):
        client.get_requests()


def test_the_llm_extractor_without_a_key_falls_back_to_statements(tmp_path: Path) -> None:
    """One warning, and learning goes on."""
    with ReflexioClient(f"sqlite:///{tmp_path / 'm.db'}", extractor="llm", learn_after=0.0) as client:
        answer = client.publish_interaction(
            user_id="u", session_id="s", wait_for_response=True,
            interactions=[{"role": "user", "content": "My name is Ann."}],
        )  # fmt: skip
        assert answer.profiles_added == 1
        assert client.stats()["extractor_fallbacks"] >= 1


def test_scopes_can_name_their_client(tmp_path: Path) -> None:
    """Two homes in one process: each turn goes where its scope says."""

    @reflexio.capture
    def agent(text: str) -> str:
        return "ok"

    with ReflexioClient(f"sqlite:///{tmp_path / 'a.db'}") as a, ReflexioClient(f"sqlite:///{tmp_path / 'b.db'}") as b:
        with session("s", user_id="u", client=b):
            agent("for b")
        with session("s", user_id="u"):
            agent("for the first")
        said = [[item.content for item in client.get_interactions("u").interactions] for client in (a, b)]
    assert said == [["ok", "for the first"], ["ok", "for b"]]


def test_turns_go_to_the_first_client_that_is_still_open(tmp_path: Path) -> None:
    """Also where it was made before the first of all was closed."""

    @reflexio.capture(user_id="u")
    def agent(text: str) -> str:
        return "ok"

    first = ReflexioClient(f"sqlite:///{tmp_path / 'a.db'}")
    with ReflexioClient(f"sqlite:///{tmp_path / 'b.db'}") as second, ReflexioClient(f"sqlite:///{tmp_path / 'c.db'}"):
        first.close()
        agent("for the second")
        assert reflexio.default_client() is second
        assert [item.content for item in second.get_interactions("u").interactions] == ["ok", "for the second"]


def test_the_default_client_is_found_while_others_are_made_and_closed(tmp_path: Path) -> None:
    """Whichever thread does so, in the middle of the search."""
    ended, failed = threading.Event(), list[BaseException]()

    def search() -> None:
        while not ended.is_set() and not failed:
            reflexio.set_default_client(None)
            try:
                reflexio.default_client()
            except RuntimeError as error:
                failed.append(error)

    interval = sys.getswitchinterval()
    with ReflexioClient(f"sqlite:///{tmp_path / 'a.db'}", learning="off"):
        searching = threading.Thread(target=search)
        sys.setswitchinterval(1e-6)
        searching.start()
        try:
            for _ in range(40):
                ReflexioClient(f"sqlite:///{tmp_path / 'b.db'}", learning="off").close()
        finally:
            ended.set()
            searching.join()
            sys.setswitchinterval(interval)
    assert failed == []


HEAVY = ["sqlalchemy", "sqlmodel", "alembic", "pydantic_settings", "typer", "rich", "openai", "httpx", "langchain_core"]


def test_importing_the_package_loads_no_heavy_module() -> None:
    """Only what capture needs; no thread, no file."""
    code = (
        "import sys, threading, reflexio_middleware as r; "
        f"print([name for name in {HEAVY!r} if name in sys.modules], threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] 1"


class Slow:
    """An extractor that takes until it is told to end."""

    name = "slow"

    def __init__(self) -> None:
        self.started, self.go_on = threading.Event(), threading.Event()

    def extract(self, view: object) -> list[Change]:
        self.started.set()
        self.go_on.wait(20)
        return []


def test_a_job_whose_client_is_closed_is_free_for_the_next(tmp_path: Path) -> None:
    """It is given back at once; nobody waits for a lease to run out."""
    slow, url = Slow(), f"sqlite:///{tmp_path / 'm.db'}"
    first = ReflexioClient(url, extractor=slow)
    first.publish_interaction(
        user_id="u", session_id="s", interactions=[{"role": "user", "content": "My name is Ann."}]
    )
    assert slow.started.wait(10)
    first.close(0.3)
    with ReflexioClient(url) as second:
        assert second.flush(5.0).complete
        assert [item.content for item in second.get_profiles("u").user_profiles] == ["Name is Ann."]
    slow.go_on.set()


def test_a_recall_inside_a_turn_is_for_the_turns_own_user(client: ReflexioClient) -> None:
    """Names given to @capture and turn() count, whatever session is around."""
    client.add_user_profile(
        [
            {"user_id": "ann", "content": "Is allergic to peanuts."},
            {"user_id": "bob", "content": "Is allergic to cats."},
        ]
    )

    @reflexio.capture(user_id="bob")
    def agent(question: str) -> str:
        return client.recall(question).text

    with session("s", user_id="ann"):
        assert "cats" in agent("What am I allergic to?")
        assert "peanuts" not in agent("What am I allergic to?")
    with reflexio.turn(user_id="ann"):
        assert "peanuts" in client.recall("What am I allergic to?").text


@pytest.mark.parametrize("messages", [None, 7, [()], [{"role": "user"}], [object()], iter([]), "text"])
def test_inject_gives_back_what_it_cannot_read(client: ReflexioClient, messages: object) -> None:
    """It is in the agent's path: whatever it is handed, it does not raise."""
    with raise_internal_errors(enabled=False):
        injected = client.inject(messages, user_id="u")  # type: ignore[arg-type]
    assert injected is messages or injected == messages


def test_after_close_the_agents_path_goes_on_without_memory(client: ReflexioClient) -> None:
    """Shutting down in any order breaks no agent."""
    client.recall("warm up", user_id="u")
    client.close()
    messages = [{"role": "user", "content": "Hello, is anybody there?"}]
    assert client.inject(messages, user_id="u") == messages
    assert client.recall("anybody there?", user_id="u").reason == "closed"


def test_a_profile_is_deleted_by_all_words_of_a_query(client: ReflexioClient) -> None:
    """One word in common is not enough; no match deletes nothing and says so."""
    client.add_user_profile([{"user_id": "u", "content": text} for text in ("Likes dogs.", "Likes opera.")])
    assert client.delete_profile("u", search_query="likes dogs").success
    assert [item.content for item in client.get_profiles("u").user_profiles] == ["Likes opera."]
    assert not client.delete_profile("u", search_query="likes cats").success


@pytest.mark.parametrize(
    "data", [{"n": 2**70}, {"n": "\ud800"}, {"n": object()}, {"n": b"\xff"}, {"n": float("nan")}, {"n": {2, 3}}]
)
def test_any_tool_data_can_be_published(client: ReflexioClient, data: dict[object, object]) -> None:
    """What JSON cannot hold is kept as text or marker, as in capture."""
    tools = [{"tool_name": "t", "tool_data": data}]
    answer = client.publish_interaction(
        user_id="u", session_id="s", interactions=[{"content": "x", "tools_used": tools}]
    )
    assert answer.success
    assert client.get_interactions("u").interactions[0].tools_used[0].tool_data


@pytest.mark.parametrize("name", ["user_id", "session_id", "request_id"])
def test_ids_are_bounded(client: ReflexioClient, name: str) -> None:
    """A thousand characters are enough."""
    ids = {"user_id": "u", "session_id": "s", name: "x" * 1001}
    with pytest.raises(InvalidInputError, match=name):
        client.publish_interaction(interactions=HELLO, **ids)  # type: ignore[arg-type]


def test_an_unknown_filter_is_refused(client: ReflexioClient) -> None:
    """A misspelt filter must not mean everybody."""
    with pytest.raises(InvalidInputError, match="userid"):
        client.get_requests({"userid": "ann"})
    with pytest.raises(InvalidInputError, match="request"):
        client.get_requests("ann")  # type: ignore[arg-type]


async def test_many_recalls_at_once_are_not_held_up_by_waiting_calls(tmp_path: Path) -> None:
    """Calls that wait for learning have threads of their own."""
    slow = Slow()
    async with AsyncReflexioClient(f"sqlite:///{tmp_path / 'm.db'}", extractor=slow, recall_timeout=5.0) as client:
        await client.add_user_profile([{"user_id": "u", "content": "Prefers window seats."}])
        waiting = [
            asyncio.create_task(
                client.publish_interaction(user_id="u", session_id=f"s{n}", interactions=HELLO, wait_for_response=True)
            )
            for n in range(12)
        ]
        await asyncio.to_thread(slow.started.wait, 10)
        found = await asyncio.gather(*(client.recall("A window seat?", user_id="u") for _ in range(50)))
        assert all(found)
        slow.go_on.set()
        await asyncio.gather(*waiting)
