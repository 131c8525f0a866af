"""When what is learned from: through the client, with a scripted model where one is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

import reflexio_middleware as reflexio
from reflexio_middleware import ReflexioClient, session
from reflexio_middleware.learning.extractor import SessionView
from reflexio_middleware.learning.learn import LearnFromSession, Schedule
from reflexio_middleware.learning.reading import Reader
from reflexio_middleware.learning.statements import StatementsExtractor
from reflexio_middleware.testing import Answer, ScriptedError, ScriptedModelServer
from reflexio_store.contract import Change, Store
from reflexio_store.errors import ExtractionError, InvalidInputError
from reflexio_store.homes import open_store
from reflexio_store.records import InteractionRecord, TurnRecord

NOTHING = '{"changes": []}'


def finding(*contents: str, turn: int = 1) -> str:
    """A model's answer that adds profiles, each citing one turn."""
    base = {"action": "add", "kind": "profile", "target": "", "trigger": "", "rationale": ""}
    rest = {"standing": False, "ttl": "infinity", "turns": [turn]}
    return json.dumps({"changes": [{**base, "content": content, **rest} for content in contents]})


@contextmanager
def asking(folder: Path, answers: Any, **options: Any) -> Iterator[tuple[ReflexioClient, ScriptedModelServer]]:
    """A client that learns by a scripted model, which waits for long once its session is quiet."""
    values: dict[str, Any] = {"extractor": "llm", "learn_after": 3600.0, "llm_retries": 0, "llm_api_key": "k"}
    with ScriptedModelServer(answers) as server:
        values |= {"llm_base_url": server.base_url, "llm_timeout": 5.0} | options
        with ReflexioClient(f"sqlite:///{folder / 'm.db'}", **values) as client:
            yield client, server


def say(client: ReflexioClient, text: str, user: str = "u", name: str = "s", **options: Any) -> str:
    """One turn of two messages, learned from as far as it is time; its request id."""
    said = [{"role": "user", "content": text}, {"role": "assistant", "content": "I see."}]
    request_id = client.publish_interaction(user, said, session_id=name, **options).request_id
    assert client.flush(10).complete
    return str(request_id)


def contents(client: ReflexioClient, user: str = "u", **filters: Any) -> list[str]:
    return sorted(item.content for item in client.get_profiles(user, **filters).user_profiles)


def test_a_model_is_asked_when_a_window_is_full_and_then_at_every_stride(tmp_path: Path) -> None:
    """Ten messages first, then eight, as the public system; earlier turns are shown as such."""
    with asking(tmp_path, lambda _: NOTHING) as (client, server):
        for number in range(4):
            say(client, f"Turn {number}.")
        assert server.requests == []
        say(client, "Turn 4.")
        assert len(server.requests) == 1
        for number in range(5, 9):
            assert len(server.requests) == 1
            say(client, f"Turn {number}.")
        assert len(server.requests) == 2
    first, second = (body["messages"][1]["content"] for body in server.requests)
    assert "(earlier)" not in first
    assert "(earlier) user: Turn 4." in second
    assert "] user: Turn 5." in second
    assert "Turn 0." not in second


def test_presets_and_settings_move_the_window(tmp_path: Path) -> None:
    """What is given alone overrides the preset; a stride above the window is refused."""
    with asking(tmp_path, lambda _: NOTHING, learn_preset="quick_chat", learn_window=4) as (client, server):
        say(client, "One.")
        assert server.requests == []
        say(client, "Two.")
        assert len(server.requests) == 1
    with pytest.raises(InvalidInputError, match="learn_stride"):
        ReflexioClient(f"sqlite:///{tmp_path / 'x.db'}", learn_window=3, learn_stride=4)


@pytest.mark.parametrize("option", ["force_extraction", "session_finished"])
def test_a_forced_or_finished_session_is_learned_from_at_once(tmp_path: Path, option: str) -> None:
    """However little was said."""
    with asking(tmp_path, lambda _: finding("Likes tea.")) as (client, server):
        say(client, "I like tea.")
        assert server.requests == []
        say(client, "Bye.", **{option: True})
        assert len(server.requests) == 1
        assert contents(client) == ["Likes tea."]


def test_finalizing_and_waiting_do_not_wait_for_more(tmp_path: Path) -> None:
    """Of the session that is named alone."""
    with asking(tmp_path, lambda _: finding("Likes tea.")) as (client, server):
        say(client, "I like tea.")
        say(client, "I like tea.", name="other")
        assert client.finalize_session("s", wait_for_response=True)
        assert not client.finalize_session("s")
        assert len(server.requests) == 1
        answer = client.publish_interaction(
            "u", [{"role": "user", "content": "Hello."}], session_id="third", wait_for_response=True
        )
        assert (answer.learning_status, len(server.requests)) == ("done", 2)


def test_leaving_a_finished_session_lets_it_be_learned_from(tmp_path: Path) -> None:
    """Nobody waits for it there; closing sees to it, too."""
    with asking(tmp_path, lambda _: finding("Likes tea.")) as (client, server):

        @reflexio.capture
        def agent(text: str) -> str:
            return "ok"

        with session("s", user_id="u", client=client, finish=True):
            agent("I like tea.")
        assert server.asked.wait(10)
        decorated = session("t", user_id="u", client=client, finish=True)(agent)
        decorated("I like jam.")
    with ReflexioClient(f"sqlite:///{tmp_path / 'm.db'}", learning="off") as client:
        assert contents(client) == ["Likes tea."]
        assert [turn.forced for turn in client.store.unlearned("u", "t")] in ([], [True])


def test_quiet_is_enough(tmp_path: Path) -> None:
    """After ``learn_after`` seconds."""
    with asking(tmp_path, lambda _: finding("Likes tea."), learn_after=0.0) as (client, _):
        say(client, "I like tea.")
        assert contents(client) == ["Likes tea."]


def test_statements_and_a_model_learn_side_by_side(tmp_path: Path) -> None:
    """Statements after every turn; a model that fails takes nothing from them, and its turns stay its own."""
    answers: list[Answer] = [ScriptedError(500), finding("Likes long walks.")]
    with asking(tmp_path, answers, extractor=["statements", "llm"]) as (client, server):
        first = say(client, "My name is Ann.")
        assert contents(client) == ["Name is Ann."]
        assert client.get_learning_status(first) == "pending"
        client.finalize_session("s", wait_for_response=True)
        assert client.get_learning_status(first) == "pending"
        client.store.hasten_jobs("learn.llm")
        assert client.flush(10).complete
        assert contents(client) == ["Likes long walks.", "Name is Ann."]
        assert client.get_learning_status(first) == "done"
    assert len(server.requests) == 2
    assert "Name is Ann." in server.requests[1]["messages"][1]["content"]


class Failing:
    """An extractor that cannot."""

    name = "failing"

    def extract(self, _: SessionView) -> list[Change]:
        raise ExtractionError("it cannot", permanent=True)


def test_of_extractors_that_read_at_once_each_fails_alone(tmp_path: Path) -> None:
    """What the others learned stays, and the status says what went wrong."""
    extractors = [Failing(), StatementsExtractor()]
    with ReflexioClient(f"sqlite:///{tmp_path / 'm.db'}", extractor=extractors) as client:
        request_id = say(client, "My name is Ann.")
        assert contents(client) == ["Name is Ann."]
        assert client.get_learning_status(request_id) == "failed"
        [state] = client.store.job_states("learn")
        assert "it cannot" in state.last_error
        assert client.stats()["jobs_dead"] == 1


def test_a_piece_without_a_usable_answer_does_not_cost_the_others(tmp_path: Path) -> None:
    """The rest of the session is learned from, and only that piece is asked about again."""

    def answer(body: dict[str, Any]) -> Answer:
        shown = body["messages"][1]["content"]
        if "Secret 3" in shown and "(earlier) user: Secret 3" not in shown:
            return "I refuse."
        number = next(line for line in shown.splitlines() if "] user:" in line)
        return finding(f"Read {number.split()[-1]}", turn=int(number[1 : number.index("]")]))

    with asking(tmp_path, answer) as (client, server):
        for number in range(120):
            client.publish_interaction("u", [{"role": "user", "content": f"Secret {number}"}], session_id="s")
        client.publish_interaction("u", [{"role": "user", "content": "Bye"}], session_id="s", session_finished=True)
        client.flush(10)
        assert len(contents(client)) == 2
        left = client.store.unlearned("u", "s")
        assert 0 < len(left) <= 50
        asked = len(server.requests)
        client.store.hasten_jobs("learn.llm")
        client.flush(10)
        assert asked < len(server.requests) <= asked + 2 * 2
        [state] = client.store.job_states("learn.llm")
        assert "UnusableAnswerError" in state.last_error


def test_sources_and_agents_can_be_left_out(tmp_path: Path) -> None:
    """By patterns; their turns are kept, and are done with."""
    with ReflexioClient(f"sqlite:///{tmp_path / 'm.db'}", skip_sources="test-*", skip_agents=["beta*"]) as client:
        for number, (source, version) in enumerate([("test-1", "v1"), ("web", "beta2"), ("web", "v1")]):
            request_id = say(client, f"I live in City{number}x.", source=source, agent_version=version)
            assert client.get_learning_status(request_id) == "done"
        assert contents(client) == ["Lives in City2x."]


def test_a_user_whose_tokens_are_used_up_waits_for_tomorrow_and_others_do_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, and seen in the status of the publish."""
    with asking(tmp_path, lambda _: NOTHING, llm_tokens_per_user=100, llm_price_input=2.0) as (client, server):
        say(client, "One.", force_extraction=True)
        for number in range(3):
            say(client, f"More {number}.", force_extraction=True)
        assert len(server.requests) == 1
        answer = client.publish_interaction(
            "u", [{"role": "user", "content": "Again."}], session_id="s", wait_for_response=True
        )
        assert (answer.learning_status, answer.learning_reason) == ("deferred", "input_budget_exceeded")
        say(client, "Hello.", user="other", force_extraction=True)
        assert len(server.requests) == 2
        [spent] = client.store.get_usage(since="2000-01-01", user_id="u")
        assert (spent.calls, spent.extractor, spent.cost_micros) == (1, "llm", spent.prompt_tokens * 2)
        assert client.stats()["llm_tokens_today"] > spent.tokens
        [waiting] = client.store.job_states("learn.llm", user_id="u")
        assert "llm_tokens_per_user" in waiting.result["waits_for"]
    assert len([line for line in caplog.messages if "used up" in line]) <= 1


def test_a_day_without_a_budget_asks_no_model(tmp_path: Path) -> None:
    """Nothing may be spent: nothing is sent."""
    with asking(tmp_path, [], llm_cost_per_day=0.0) as (client, server):
        say(client, "One.", force_extraction=True)
        assert server.requests == []


def test_a_wrong_key_ends_the_job_with_one_clear_line(tmp_path: Path) -> None:
    """Capture and recall go on; the job says why, and nobody is asked again."""
    with asking(tmp_path, lambda _: ScriptedError(401, "no such key")) as (client, server):
        request_id = say(client, "One.", force_extraction=True)
        assert client.get_learning_status(request_id) == "failed"
        [state] = client.store.job_states("learn.llm")
        assert state.state == "dead" and "cannot be used" in state.last_error
        assert "\n" not in state.last_error
    assert len(server.requests) == 1


def test_definitions_are_read_from_a_file(tmp_path: Path) -> None:
    """A file that cannot be used is said at once, with the place."""
    file = tmp_path / "look.toml"
    file.write_text('[profile.food]\ninstruction = "What the user eats."\n')
    with asking(tmp_path, lambda _: NOTHING, llm_definitions=file) as (client, server):
        say(client, "I like jam.", force_extraction=True)
    assert "`food` (profile): What the user eats." in server.requests[0]["messages"][0]["content"]
    for bad, place in (("[profil.food]", "profil"), ('[profile.food]\nx = "y"', "food"), ("", "empty"), ("[", "look")):
        file.write_text(bad)
        with pytest.raises(InvalidInputError, match=place), asking(tmp_path, [], llm_definitions=file):
            pass


def test_one_request_is_not_learned_from_twice_by_turns_that_come_late(tmp_path: Path) -> None:
    """The same statement again, in whatever order, leaves one learning; evidence adds up."""
    with ReflexioClient(f"sqlite:///{tmp_path / 'm.db'}") as client:
        threads = [threading.Thread(target=say, args=(client, "My name is Ann.")) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.flush(10).complete
        [profile] = client.get_profiles("u").user_profiles
        assert len(profile.evidence) == 4


class ForcedMeanwhile:
    """A store of which somebody asks to learn at once just before it is asked for a job."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put_job(self, *args: Any, **kwargs: Any) -> None:
        self._store.force_learning()
        self._store.put_job(*args, **kwargs)


def test_learning_at_once_also_reaches_the_job_that_is_just_being_asked_for() -> None:
    """It was to wait for quiet; ``flush(learn_now=True)`` would return without it."""
    with closing(open_store("sqlite://")) as store:
        store.add_turns([TurnRecord("r", "u", "s", "v1", "", 1, [InteractionRecord("User", "I like tea.", 1)])])
        job = store.claim_job("learn", lease_seconds=60)
        assert job is not None
        LearnFromSession([Reader(Patient())], Schedule())(cast(Store, ForcedMeanwhile(store)), job)
        assert store.claim_job("learn.patient", lease_seconds=60) is not None


class Patient:
    """An extractor that waits for quiet, and finds nothing."""

    name = "patient"
    waits = True

    def extract(self, session: SessionView) -> list[Change]:
        return []
