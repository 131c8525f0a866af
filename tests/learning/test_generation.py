"""Learning again from what is kept: reruns, upgrades, progress, cancelling."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reflexio_middleware import ReflexioClient
from reflexio_middleware.learning.extractor import SessionView
from reflexio_middleware.learning.statements import StatementsExtractor
from reflexio_store.contract import Change
from reflexio_store.errors import ExtractionError, InvalidInputError
from reflexio_store.models import Status


class Steered(StatementsExtractor):
    """Statements, of everybody but those it ``fails`` with, as soon as it may ``go_on``."""

    def __init__(self) -> None:
        super().__init__()
        self.fails: set[str] = set()
        self.started, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def extract(self, session: SessionView) -> list[Change]:
        self.started.set()
        assert self.go_on.wait(20)
        if session.user_id in self.fails:
            raise ExtractionError("not this one")
        return super().extract(session)


@pytest.fixture
def extractor() -> Steered:
    """What learns."""
    return Steered()


@pytest.fixture
def told(tmp_path: Path, extractor: Steered) -> Iterator[ReflexioClient]:
    """A client in whose store three users told things while learning was off."""
    url = f"sqlite:///{tmp_path / 'm.db'}"
    with ReflexioClient(url, learning="off") as before:
        for user in ("ann", "bob", "cid"):
            say(before, user, f"My name is {user.title()}.")
        say(before, "ann", "Always answer in French.", agent_version="v2", source="web")
    with ReflexioClient(url, extractor=extractor) as client:
        yield client


def say(client: ReflexioClient, user: str, text: str, **options: Any) -> None:
    client.publish_interaction(user, [{"role": "user", "content": text}], session_id=f"of {user}", **options)


def contents(client: ReflexioClient, user: str, status: Status | None = None) -> list[str]:
    return sorted(item.content for item in client.get_profiles(user, status_filter=[status]).user_profiles)


def test_a_rerun_is_pending_until_it_is_upgraded_and_can_be_taken_back(told: ReflexioClient) -> None:
    """Nothing in force changes before."""
    told.add_user_profile([{"user_id": "ann", "content": "Old."}])
    answer = told.rerun_profile_generation(wait_for_response=True)
    assert (answer.success, answer.profiles_generated) == (True, 3)
    assert (contents(told, "ann"), contents(told, "ann", Status.PENDING)) == (["Old."], ["Name is Ann."])
    made = told.upgrade_profiles()
    assert (made.success, made.profiles_promoted, made.profiles_archived) == (True, 3, 1)
    assert contents(told, "ann") == ["Name is Ann."]
    assert not told.upgrade_profiles().success
    assert told.downgrade_profiles(user_id="ann").success
    assert contents(told, "ann") == ["Old."]
    assert contents(told, "bob") == ["Name is Bob."]


def test_the_same_rerun_twice_makes_nothing_twice(told: ReflexioClient) -> None:
    """Words and evidence are the same."""
    for expected in (3, 0):
        answer = told.rerun_profile_generation(wait_for_response=True)
        assert answer.profiles_generated == expected
    assert contents(told, "bob", Status.PENDING) == ["Name is Bob."]


def test_filters_choose_what_is_learned_from_again(told: ReflexioClient) -> None:
    """User, source, version, time; and each service makes its own kind alone."""
    assert told.rerun_profile_generation(user_id="bob", wait_for_response=True).profiles_generated == 1
    assert told.rerun_profile_generation(source="web", wait_for_response=True).profiles_generated == 0
    assert told.rerun_profile_generation(start_time="2100-01-01", wait_for_response=True).profiles_generated == 0
    assert told.rerun_playbook_generation(agent_version="v9", wait_for_response=True).playbooks_generated == 0
    answer = told.rerun_playbook_generation(agent_version="v2", wait_for_response=True)
    assert (answer.playbooks_generated, answer.profiles_generated) == (1, 0)
    assert told.upgrade_user_playbooks(agent_version="v2").user_playbooks_promoted == 1
    [rule] = told.get_user_playbooks(user_id="ann").user_playbooks
    assert "French" in rule.content
    assert not told.downgrade_user_playbooks().success
    with pytest.raises(InvalidInputError):
        told.rerun_profile_generation(source="No Such Source!")


def test_what_was_stored_while_learning_was_off_can_be_learned_by_hand(told: ReflexioClient) -> None:
    """Into what is current."""
    assert told.manual_profile_generation(user_id="ann").profiles_generated == 1
    assert contents(told, "ann") == ["Name is Ann."]
    assert told.manual_playbook_generation(agent_version="v2").playbooks_generated == 1
    assert contents(told, "bob") == []


def test_the_status_tells_how_far_an_operation_is_and_who_failed(told: ReflexioClient, extractor: Steered) -> None:
    """In the form of the public system; one user's failure does not cost the others."""
    assert not told.get_operation_status().success
    with pytest.raises(InvalidInputError, match="profile_generation"):
        told.get_operation_status("profiles")  # type: ignore[arg-type]
    extractor.fails = {"bob"}
    told.rerun_profile_generation(wait_for_response=True)
    found = told.get_operation_status("profile_generation").operation_status
    assert found is not None
    assert (found.status, found.total_users, found.processed_users, found.failed_users) == ("completed", 3, 2, 1)
    assert (found.processed_user_ids, found.failed_user_ids) == (["ann", "cid"], ["bob"])
    assert found.progress_percentage == 100.0 and found.completed_at is not None
    assert found.error_message == "not this one"


def test_one_runs_at_a_time_and_can_be_cancelled(told: ReflexioClient, extractor: Steered) -> None:
    """It ends after the user at hand; what it made stays, and the next one begins anew."""
    extractor.go_on.clear()
    first = told.rerun_profile_generation()
    assert extractor.started.wait(10)
    second = told.rerun_profile_generation()
    assert (second.success, second.operation_id) == (False, first.operation_id)
    running = told.get_operation_status().operation_status
    assert running is not None and (running.status, running.current_user_id) == ("in_progress", "ann")
    assert told.cancel_operation("profile_generation").success
    extractor.go_on.set()
    assert told.flush(10).complete
    ended = told.get_operation_status().operation_status
    assert ended is not None and (ended.status, ended.processed_users) == ("cancelled", 1)
    assert not told.cancel_operation().success
    assert (contents(told, "ann", Status.PENDING), contents(told, "bob", Status.PENDING)) == (["Name is Ann."], [])
    assert told.rerun_profile_generation(wait_for_response=True).profiles_generated == 2


def test_an_operation_outlives_the_process_that_began_it(told: ReflexioClient, extractor: Steered) -> None:
    """The next one goes on behind the users that are done."""
    extractor.go_on.clear()
    told.rerun_profile_generation()
    assert extractor.started.wait(10)
    told.close(0.1)
    extractor.go_on.set()
    with ReflexioClient(told.settings.store) as other:
        assert other.flush(10).complete
        found = other.get_operation_status().operation_status
        assert found is not None and (found.status, found.processed_users) == ("completed", 3)
        assert contents(other, "cid", Status.PENDING) == ["Name is Cid."]
