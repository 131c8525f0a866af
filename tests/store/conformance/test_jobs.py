"""Durable work with leases."""

from __future__ import annotations

import threading

import pytest

from reflexio_store.contract import Store
from tests.store.conformance.asking import (
    MakeTurn,
)


@pytest.mark.needs("jobs")
class TestJobs:
    def test_a_turn_asks_for_the_learning_of_its_session(self, store: Store, turn: MakeTurn) -> None:
        """Once for each session, with the number of turns; not for nobody, not for evaluations."""
        silent = [turn(user_id=""), turn(session_id="eval", options={"evaluation_only": True})]
        store.add_turns([turn(), turn(), *silent])
        store.add_turns([turn(session_id="quiet")], learn_after=None)
        job = store.claim_job("learn", lease_seconds=60)
        assert job is not None
        assert (job.user_id, job.key, job.generation, job.attempts) == ("ada", "s1", 2, 1)
        assert store.claim_job("learn", lease_seconds=60) is None
        assert store.finish_job(job, {"profiles_added": 1})
        [state] = store.job_states("learn")
        assert (state.state, state.result) == ("done", {"profiles_added": 1})

    def test_a_waiting_job_is_put_off_by_each_turn_until_it_is_hastened(self, store: Store, turn: MakeTurn) -> None:
        """Debounce; ``hasten_jobs`` makes it due now."""
        store.add_turns([turn()], learn_after=60)
        [first] = store.job_states("learn", states=["ready"])
        store.add_turns([turn()], learn_after=120)
        [second] = store.job_states("learn", user_id="ada", key="s1")
        assert second.due_us > first.due_us + 50_000_000
        assert store.claim_job("learn", lease_seconds=60) is None
        assert store.hasten_jobs("learn", user_id="bob") == 0
        assert store.hasten_jobs("learn", user_id="ada", key="s1") == 1
        assert store.claim_job("learn", lease_seconds=60) is not None

    @pytest.mark.parametrize("option", ["force_extraction", "session_finished"])
    def test_a_forced_job_is_due_at_once_and_stays_so(self, store: Store, turn: MakeTurn, option: str) -> None:
        """A later turn does not put it off."""
        store.add_turns([turn(options={option: True})], learn_after=3600)
        store.add_turns([turn()], learn_after=3600)
        assert store.claim_job("learn", lease_seconds=60) is not None

    def test_a_job_asked_for_while_it_runs_is_ready_again(self, store: Store, turn: MakeTurn) -> None:
        """With the due time of the newer turn."""
        store.add_turns([turn()])
        job = store.claim_job("learn", lease_seconds=60)
        assert job is not None
        store.add_turns([turn()], learn_after=3600)
        assert store.claim_job("learn", lease_seconds=60) is None
        assert store.finish_job(job, {})
        [state] = store.job_states("learn")
        assert state.state == "ready"
        assert store.claim_job("learn", lease_seconds=60) is None
        assert store.hasten_jobs("learn") == 1

    def test_a_job_whose_lease_ran_out_is_taken_over(self, store: Store, turn: MakeTurn) -> None:
        """The first holder has lost it: nothing that it notes counts."""
        store.add_turns([turn()])
        lost = store.claim_job("learn", lease_seconds=0)
        taken = store.claim_job("learn", lease_seconds=60)
        assert lost is not None and taken is not None
        assert (taken.key, taken.attempts) == (lost.key, 2)
        assert not store.extend_job(lost, lease_seconds=60)
        assert not store.finish_job(lost, {})
        assert not store.fail_job(lost, "late", retry_after=None)
        assert store.extend_job(taken, lease_seconds=60) and store.finish_job(taken, {})

    def test_an_extended_lease_is_not_taken_over(self, store: Store, turn: MakeTurn) -> None:
        """Also when it had run out, as long as nobody took the job."""
        store.add_turns([turn()])
        job = store.claim_job("learn", lease_seconds=0)
        assert job is not None and store.extend_job(job, lease_seconds=60)
        assert store.claim_job("learn", lease_seconds=60) is None

    def test_a_failed_job_is_tried_again_or_dead(self, store: Store, turn: MakeTurn) -> None:
        """Dead ones wait for ``retry_dead_jobs``."""
        store.add_turns([turn()])
        job = store.claim_job("learn", lease_seconds=60)
        assert job is not None and store.fail_job(job, "try later", retry_after=0)
        again = store.claim_job("learn", lease_seconds=60)
        assert again is not None and again.attempts == 2
        assert store.fail_job(again, "never", retry_after=None)
        [state] = store.job_states("learn", states=["dead"])
        assert (state.last_error, store.counts()["jobs_dead"]) == ("never", 1)
        assert store.claim_job("learn", lease_seconds=60) is None
        assert any(finding.level == "warning" and "dead" in finding.message for finding in store.check())
        assert store.retry_dead_jobs("learn") == 1
        retried = store.claim_job("learn", lease_seconds=60)
        assert retried is not None and retried.attempts == 1

    def test_a_new_turn_wakes_a_dead_job(self, store: Store, turn: MakeTurn) -> None:
        """What is new may succeed."""
        store.add_turns([turn()])
        job = store.claim_job("learn", lease_seconds=60)
        assert job is not None and store.fail_job(job, "never", retry_after=None)
        store.add_turns([turn()])
        assert store.claim_job("learn", lease_seconds=60) is not None

    def test_workers_never_hold_the_same_job(self, store: Store, turn: MakeTurn) -> None:
        """Six threads claim thirty jobs until none is left."""
        store.add_turns([turn(session_id=f"s{number}") for number in range(30)])
        held: list[str] = []

        def work() -> None:
            while (job := store.claim_job("learn", lease_seconds=60)) is not None:
                held.append(job.key)
                store.finish_job(job, {})

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(held) == sorted(f"s{number}" for number in range(30))

    def test_jobs_come_in_the_order_in_which_they_fell_due(self, store: Store, turn: MakeTurn) -> None:
        """The one that has waited longest first."""
        for name in ("first", "second", "third"):
            store.add_turns([turn(session_id=name)])
        keys = [job.key for _ in range(3) if (job := store.claim_job("learn", lease_seconds=60)) is not None]
        assert keys == ["first", "second", "third"]

    def test_work_of_any_kind_can_be_asked_for(self, store: Store) -> None:
        """With what it needs to know; kinds and users do not mix."""
        store.put_job("tidy", "k", user_id="ada", payload={"a": [1]})
        store.put_job("tidy", "k", user_id="bob")
        assert store.claim_job("learn", lease_seconds=60) is None
        job = store.claim_job("tidy", lease_seconds=60)
        assert job is not None
        assert (job.user_id, job.key, job.payload, job.generation) == ("ada", "k", {"a": [1]}, 1)
        assert store.finish_job(job, {})
        [state] = store.job_states("tidy", user_id="ada")
        assert (state.state, state.payload) == ("done", {"a": [1]})

    def test_asking_again_puts_waiting_work_off_and_keeps_what_it_needs_to_know(self, store: Store) -> None:
        """Unless it is due; a new payload takes the place of the old one."""
        store.put_job("tidy", "k", due_after=60, payload={"a": 1})
        store.put_job("tidy", "k", due_after=3600)
        [state] = store.job_states("tidy")
        assert state.payload == {"a": 1}
        assert store.claim_job("tidy", lease_seconds=60) is None
        store.put_job("tidy", "k", payload={"a": 2})
        store.put_job("tidy", "k", due_after=3600)
        job = store.claim_job("tidy", lease_seconds=60)
        assert job is not None and job.payload == {"a": 2}

    def test_running_work_that_is_asked_for_again_runs_again_when_it_was_asked_for(self, store: Store) -> None:
        """So a step can have itself called later."""
        store.put_job("tidy", "k")
        job = store.claim_job("tidy", lease_seconds=60)
        assert job is not None
        store.put_job("tidy", "k", due_after=3600)
        assert store.finish_job(job, {"waits": True})
        [state] = store.job_states("tidy")
        assert (state.state, state.attempts, state.result) == ("ready", 0, {"waits": True})
        assert store.claim_job("tidy", lease_seconds=60) is None

    def test_a_job_that_is_given_back_is_due_and_has_lost_nothing(self, store: Store) -> None:
        """The attempt does not count."""
        store.put_job("tidy", "k")
        job = store.claim_job("tidy", lease_seconds=60)
        assert job is not None and store.release_job(job)
        assert not store.finish_job(job, {})
        again = store.claim_job("tidy", lease_seconds=60)
        assert again is not None and again.attempts == 1

    def test_a_running_job_tells_how_far_it_is(self, store: Store) -> None:
        """With its lease; the result at its end takes the place of that so far."""
        store.put_job("tidy", "k")
        job = store.claim_job("tidy", lease_seconds=60)
        assert job is not None and store.extend_job(job, lease_seconds=60, result={"done": 1})
        assert store.extend_job(job, lease_seconds=60)
        [state] = store.job_states("tidy")
        assert (state.state, state.result) == ("running", {"done": 1})
        assert store.finish_job(job, {})
        assert store.job_states("tidy")[0].result == {}

    def test_the_backlog_counts_what_is_open(self, store: Store) -> None:
        """Not what is done."""
        for key in "abcd":
            store.put_job("tidy", key)
        for _ in range(2):
            job = store.claim_job("tidy", lease_seconds=60)
            assert job is not None
            store.finish_job(job, {})
        job = store.claim_job("tidy", lease_seconds=60)
        assert job is not None and store.fail_job(job, "no", retry_after=None)
        assert store.claim_job("tidy", lease_seconds=60) is not None
        assert store.backlog() == {"jobs_ready": 0, "jobs_running": 1, "jobs_dead": 1}
        assert store.retry_dead_jobs() == 1
        assert store.backlog() == {"jobs_ready": 1, "jobs_running": 1, "jobs_dead": 0}
