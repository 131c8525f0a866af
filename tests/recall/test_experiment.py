"""The holdout: users without recall, and what that shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflexio_middleware import ReflexioClient, session, turn
from reflexio_middleware.recall.experiment import arm_of, report
from reflexio_store.errors import InvalidInputError
from reflexio_store.models import ArmResult

QUESTION = "Does the curry contain peanuts?"


def users_of(arm: str, count: int) -> list[str]:
    names = (f"user {number}" for number in range(10_000))
    return [name for name in names if arm_of("x", name, 0.5) == arm][:count]


def test_the_arm_of_a_user_is_always_the_same_and_the_share_is_kept() -> None:
    """By a hash, so that nothing must be stored."""
    arms = [arm_of("x", f"user {number}", 0.2) for number in range(5000)]
    assert arms == [arm_of("x", f"user {number}", 0.2) for number in range(5000)]
    assert 0.17 < arms.count("holdout") / len(arms) < 0.23
    assert arms != [arm_of("y", f"user {number}", 0.2) for number in range(5000)]


@given(st.text(min_size=1), st.text(min_size=1))
def test_no_share_and_all_shares_are_what_they_say(experiment: str, user: str) -> None:
    """0 holds nobody out, 1 everybody."""
    assert (arm_of(experiment, user, 0.0), arm_of(experiment, user, 1.0)) == ("treatment", "holdout")


def test_users_of_the_holdout_get_no_recall_and_their_turns_say_so(tmp_path: Path) -> None:
    """The others get theirs; both arms are on record, and the report compares them."""
    treated, held = users_of("treatment", 1)[0], users_of("holdout", 1)[0]
    with ReflexioClient(f"sqlite:///{tmp_path / 'home.db'}", retrieval_experiment="x", retrieval_holdout=0.5) as client:
        client.recall("warm up", user_id=treated, timeout=5)
        for name in (treated, held):
            client.add_user_profile([{"user_id": name, "content": "Is allergic to peanuts."}])
            with session(f"of {name}", user_id=name, client=client), turn() as made:
                made.user(QUESTION)
                found = client.recall(QUESTION)
                made.assistant("no")
            assert (bool(found), found.reason) == ((True, "") if name == treated else (False, "holdout"))
        arms = [
            client.get_requests(user_id=name).sessions[0].requests[0].request.retrieval_experiment_arm
            for name in (treated, held)
        ]
        assert arms == ["treatment", "holdout"]
        client.mark_session_outcome(f"of {treated}", "success")
        client.mark_session_outcome(f"of {held}", "failure")
        found_report = client.retrieval_experiment_report()
        assert (found_report.treatment.success_rate, found_report.holdout.success_rate) == (1.0, 0.0)
        assert found_report.difference is None  # one user is no sample


def test_a_report_tells_the_difference_and_its_uncertainty() -> None:
    """Each user counts once, however many sessions; an interval that holds 0 shows nothing."""
    treated = [ArmResult("treatment", 4, 3, 1), ArmResult("treatment", 1, 1, 0)] * 20
    held = [ArmResult("holdout", 2, 1, 1), ArmResult("holdout", 1, 0, 1), ArmResult("holdout", 9)] * 20
    found = report("x", treated + held)
    assert (found.treatment.users, found.holdout.users, found.holdout.sessions) == (40, 40, 240)
    assert found.treatment.success_rate == pytest.approx(0.875)
    assert found.difference == pytest.approx(0.625)
    assert found.low is not None and found.high is not None
    assert 0.5 < found.low < 0.625 < found.high < 0.75 and found.enough


def test_no_experiment_is_an_error_that_says_how_to_run_one(client: ReflexioClient) -> None:
    """There is nothing to report on."""
    with pytest.raises(InvalidInputError, match="run one with the setting retrieval_experiment"):
        client.retrieval_experiment_report()
