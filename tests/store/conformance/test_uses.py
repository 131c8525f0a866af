"""The record of use: what was shown and cited, how sessions ended, how experiments stand."""

from __future__ import annotations

import pytest

from reflexio_store.contract import Store
from reflexio_store.errors import InvalidInputError
from reflexio_store.models import ArmResult, GetSessionOutcomesRequest, SessionOutcome, Use
from reflexio_store.records import TurnRecord
from tests.store.conftest import MakeTurn


def shown(made: TurnRecord, *ids: str, cited: tuple[str, ...] = ()) -> TurnRecord:
    """The turn, with profiles shown to its answer, some of which that cites."""
    answer = made.interactions[-1]
    answer.retrieved_learnings = [{"kind": "profile", "learning_id": name} for name in ids]
    answer.citations = [{"kind": "profile", "real_id": name, "tag": "p1", "title": ""} for name in cited]
    return made


def outcome(session_id: str, said: str, at: int = 1_700_000_000, **fields: object) -> SessionOutcome:
    return SessionOutcome.model_validate({"session_id": session_id, "outcome": said, "occurred_at": at, **fields})


@pytest.mark.needs("uses")
class TestUse:
    def test_what_was_shown_and_cited_is_counted_by_turns(self, store: Store, turn: MakeTurn) -> None:
        """Once for each turn, whatever else was shown; what was never shown is left out."""
        store.add_turns([shown(turn(), "a", "b", cited=("a",)), shown(turn(), "a"), turn()])
        assert store.uses("profile", ["a", "b", "c"]) == {"a": Use(shown=2, cited=1), "b": Use(shown=1)}
        assert store.uses("user_playbook", ["a"]) == {}

    def test_a_turn_sent_twice_counts_once(self, store: Store, turn: MakeTurn) -> None:
        """As it is stored once."""
        made = shown(turn(), "a")
        store.add_turns([made])
        store.add_turns([made])
        assert store.uses("profile", ["a"]) == {"a": Use(shown=1)}

    def test_outcomes_of_sessions_count_for_what_was_shown_in_them(self, store: Store, turn: MakeTurn) -> None:
        """For every turn that it was shown to; unknown counts as neither."""
        for name, said in (("good", "success"), ("bad", "failure"), ("odd", "unknown")):
            store.add_turns([shown(turn(session_id=name), "a")])
            assert store.mark_outcome(outcome(name, said)).recorded
        assert store.uses("profile", ["a"]) == {"a": Use(shown=3, succeeded=1, failed=1)}

    def test_use_may_be_asked_for_one_user(self, store: Store, turn: MakeTurn) -> None:
        """A shared rule is shown to many."""
        store.add_turns([shown(turn(user_id=name), "a") for name in ("ada", "bob", "bob")])
        assert store.uses("profile", ["a"], user_id="bob") == {"a": Use(shown=2)}

    def test_forgetting_a_turn_forgets_its_use(self, store: Store, turn: MakeTurn) -> None:
        """Nothing is left of it in the counts."""
        first, second = shown(turn(), "a"), shown(turn(), "a", cited=("a",))
        store.add_turns([first, second])
        store.delete_requests([second.request_id])
        assert store.uses("profile", ["a"]) == {"a": Use(shown=1)}


class TestOutcomes:
    def test_an_outcome_comes_back_as_it_was_reported(self, store: Store, turn: MakeTurn) -> None:
        """With the user and the source of the session's first turn."""
        store.add_turns([turn(source="web", at=5), turn(source="app", at=6)])
        said = outcome("s1", "success", 42, label=" sold ", value=9.5, metadata={"a": [1]})
        answer = store.mark_outcome(said)
        assert (answer.success, answer.recorded, answer.user_id, answer.source) == (True, True, "ada", "web")
        [found] = store.get_outcomes(GetSessionOutcomesRequest())
        assert found.model_dump(exclude={"created_at"}) == said.model_dump(exclude={"created_at"}) | {
            "user_id": "ada",
            "source": "web",
        }

    def test_the_first_report_stands(self, store: Store, turn: MakeTurn) -> None:
        """The same again is fine and changes nothing; another is refused."""
        store.add_turns([turn()])
        store.mark_outcome(outcome("s1", "success"))
        again = store.mark_outcome(outcome("s1", "success"))
        assert (again.success, again.recorded) == (True, False)
        other = store.mark_outcome(outcome("s1", "failure"))
        assert (other.success, other.reason) == (False, "conflicting_outcome")
        [found] = store.get_outcomes(GetSessionOutcomesRequest())
        assert found.outcome == "success"

    def test_a_session_that_is_not_known_has_no_outcome(self, store: Store, turn: MakeTurn) -> None:
        """Nor has another user's."""
        store.add_turns([turn(user_id="bob")])
        assert store.mark_outcome(outcome("s9", "success")).reason == "unknown_session"
        assert store.mark_outcome(outcome("s1", "success", user_id="ada")).reason == "unknown_session"
        assert store.get_outcomes(GetSessionOutcomesRequest()) == []

    @pytest.mark.needs("ids of each user")
    def test_a_session_of_several_users_must_be_told_apart(self, store: Store, turn: MakeTurn) -> None:
        """By the user."""
        store.add_turns([turn(user_id="ada"), turn(user_id="bob")])
        with pytest.raises(InvalidInputError, match="several users have a session 's1'"):
            store.mark_outcome(outcome("s1", "success"))
        assert store.mark_outcome(outcome("s1", "success", user_id="bob")).user_id == "bob"

    def test_outcomes_are_listed_the_latest_first_by_filters(self, store: Store, turn: MakeTurn) -> None:
        """Both ends of a window are part of it."""
        for at, name in enumerate(("a", "b", "c", "d")):
            store.add_turns([turn(session_id=name, source="web" if name < "c" else "app")])
            store.mark_outcome(outcome(name, "success" if at % 2 else "failure", at))

        def listed(**query: object) -> str:
            found = store.get_outcomes(GetSessionOutcomesRequest.model_validate(query))
            return "".join(item.session_id for item in found)

        assert listed() == "dcba"
        assert listed(start_time=1, end_time=2) == "cb"
        assert listed(outcome="success") == "db"
        assert listed(source="web", session_ids=["b", "c"]) == "b"
        assert listed(top_k=2, offset=1) == "cb"
        assert listed(user_id="bob") == ""

    @pytest.mark.needs("uses")
    def test_a_forgotten_session_has_no_outcome(self, store: Store, turn: MakeTurn) -> None:
        """Whether it was deleted by itself or with its user."""
        store.add_turns([turn(session_id="a"), turn(session_id="b")])
        store.mark_outcome(outcome("a", "success"))
        store.mark_outcome(outcome("b", "success"))
        store.delete_session("a")
        assert [item.session_id for item in store.get_outcomes(GetSessionOutcomesRequest())] == ["b"]
        store.delete_user("ada")
        assert store.get_outcomes(GetSessionOutcomesRequest()) == []


@pytest.mark.needs("uses")
def test_an_experiment_counts_the_sessions_of_each_user_and_arm(store: Store, turn: MakeTurn) -> None:
    """A session counts once however many turns it has; one without report counts as such."""

    def played(user_id: str, session_id: str, arm: str) -> TurnRecord:
        return turn(user_id=user_id, session_id=session_id, retrieval_experiment_id="x", retrieval_experiment_arm=arm)

    store.add_turns([played("ada", "a1", "treatment"), played("ada", "a1", "treatment")])
    store.add_turns([played("ada", "a2", "treatment"), played("bob", "b1", "holdout"), turn(user_id="eve")])
    store.mark_outcome(outcome("a1", "success"))
    store.mark_outcome(outcome("b1", "failure"))
    found = store.experiment_results("x")
    assert sorted(found, key=lambda item: item.arm) == [
        ArmResult("holdout", sessions=1, failed=1),
        ArmResult("treatment", sessions=2, succeeded=1),
    ]
    assert store.experiment_results("y") == []
