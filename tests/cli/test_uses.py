"""``explain``, ``outcome`` and ``experiment``."""

from __future__ import annotations

from pathlib import Path

import pytest

import reflexio_middleware as reflexio

from .conftest import Run


@pytest.fixture
def asked(tmp_path: Path) -> tuple[str, str]:
    """A store in which Ann was recalled an allergy, and the id of that turn."""
    url = f"sqlite:///{tmp_path / 'asked.db'}"
    with reflexio.ReflexioClient(url, retrieval_experiment="autumn", retrieval_holdout=0.0) as client:
        with reflexio.session("first", user_id="ann", client=client), reflexio.turn() as made:
            made.user("I am allergic to peanuts.")
            made.assistant("Noted.")
        client.flush(learn_now=True)
        with reflexio.session("second", user_id="ann", client=client), reflexio.turn() as made:
            made.user("Any peanuts in the curry?")
            assert client.recall("Any peanuts in the curry?", timeout=5)
            made.assistant("Yes, so not for you [p1].")
    return url, made.request_id


def test_explain_shows_the_learning_and_the_message_behind_it(run: Run, asked: tuple[str, str]) -> None:
    """With its tag, its use and the words that taught it."""
    url, request_id = asked
    ran = run("--store", url, "explain", request_id)
    assert ran.code == 0
    assert "asked  Any peanuts in the curry?" in ran.out
    said = " ".join(ran.out.split())  # it may be wrapped
    assert "[p1] profile" in said and "· cited · shown 1 time in all" in said
    assert "“I am allergic to peanuts.”" in ran.out
    [shown] = run("--store", url, "explain", request_id, "--json").json["shown"]
    assert (shown["tag"], shown["cited"], shown["use"]["shown"]) == ("p1", True, 1)
    assert shown["evidence"][0]["content"] == "I am allergic to peanuts."


def test_a_turn_that_is_not_there_is_said_so(run: Run, asked: tuple[str, str]) -> None:
    """In one line."""
    ran = run("--store", asked[0], "explain", "nope")
    assert (ran.code, ran.err) == (1, "error: no turn 'nope' is stored\n")


def test_an_outcome_is_recorded_once(run: Run, asked: tuple[str, str]) -> None:
    """Another report of the same session is refused."""
    url, _ = asked
    first = run("--store", url, "outcome", "second", "success", "--label", "sold", "--value", "9.5")
    assert (first.code, first.out) == (0, "Recorded: the outcome of session second of ann is success.\n")
    again = run("--store", url, "outcome", "second", "failure")
    assert again.code == 1 and "Another outcome was reported before" in again.err
    assert run("--store", url, "outcome", "second", "fine").code == 2
    assert run("--store", url, "outcome", "nowhere", "success").code == 1


def test_an_experiment_is_compared(run: Run, asked: tuple[str, str]) -> None:
    """As far as there is something to compare."""
    url, _ = asked
    run("--store", url, "outcome", "second", "success")
    ran = run("--store", url, "experiment", "autumn")
    assert ran.code == 0
    assert [line.split() for line in ran.out.splitlines()[1:3]] == [
        ["with", "recall", "1", "1", "1", "1.000"],
        ["without", "0", "0", "0", "-"],
    ]
    assert "Each arm needs two users" in ran.out
    assert run("--store", url, "experiment", "autumn", "--json").json["treatment"]["success_rate"] == 1.0
    assert run("--store", url, "experiment", "winter").code == 1
