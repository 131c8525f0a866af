"""Vectors: kept beside what they are of, compared within one owner and one model, gone with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import count
from operator import mul

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reflexio_store.contract import Embeddable, Meaning, Store
from reflexio_store.errors import InvalidInputError
from reflexio_store.models import LearningQuery, SearchInteractionRequest, Status, UserPlaybook, UserProfile
from reflexio_store.records import TurnRecord

MakeTurn = Callable[..., TurnRecord]
VECTORS = {"drinks tea": [1.0, 0.1, 0.0], "rides horses": [0.0, 1.0, 0.0], "plays chess": [0.0, 0.0, 1.0]}


def embed(store: Store, model: str = "m", vectors: dict[str, list[float]] | None = None) -> int:
    """Give every text that is known its vector; how many lacked one."""
    assert isinstance(store, Embeddable)
    known = vectors or VECTORS
    lacking = store.unembedded(model, messages=True)
    store.put_vectors(model, {item.number: known[item.text] for item in lacking if item.text in known})
    return len(lacking)


def found(
    store: Store, vector: Sequence[float], *, model: str = "m", user_id: str = "ada", **query: object
) -> list[str]:
    asked = LearningQuery(user_id=user_id, query="hot beverages", **query)  # type: ignore[arg-type]
    answer = store.search({"profile": asked}, meaning=Meaning(model, vector))["profile"]
    return [hit.learning.content for hit in answer]


Step = tuple[str, int]
STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "add", "add", "delete", "embed", "other model"]), st.integers(0, 30)), max_size=12
)
USERS = count()


@pytest.mark.needs("vectors")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_what_is_kept_in_memory_finds_what_a_comparison_with_all_finds(shared_store: Store, steps: list[Step]) -> None:
    """Whatever was added, deleted and embedded anew since the last search."""
    assert isinstance(shared_store, Embeddable)
    user, there, model = f"meant-{next(USERS)}", dict[str, int](), "m"
    for number, (step, value) in enumerate(steps):
        if step == "add":
            shared_store.add_learnings([UserProfile(user_id=user, profile_id=f"p{number}", content=f"n{value}")])
            there[f"p{number}"] = value
        elif step == "delete" and there:
            gone = sorted(there)[value % len(there)]
            shared_store.delete_learnings("profile", [gone], user_id=user)
            del there[gone]
        elif step == "other model":
            model = "n" if model == "m" else "m"
        lacking = shared_store.unembedded(model, limit=200)
        shared_store.put_vectors(model, {item.number: vector_of(int(item.text[1:])) for item in lacking})
        asked = LearningQuery(user_id=user, query="", top_k=100)
        hits = shared_store.search({"profile": asked}, meaning=Meaning(model, vector_of(value)), mode="vector")
        cosines = sorted((round(hit.cosine or 0.0, 4) for hit in hits["profile"]), reverse=True)
        wanted = [sum(map(mul, vector_of(value), vector_of(other))) for other in there.values()]
        assert cosines == pytest.approx(sorted(wanted, reverse=True), abs=1e-3)


def vector_of(number: int) -> list[float]:
    """A direction in a plane."""
    return [math.cos(number / 5), math.sin(number / 5)]


@pytest.fixture
def known(store: Store) -> Store:
    """A home with three learnings of one user and one of another, all with vectors."""
    learnings = [UserProfile(user_id="ada", profile_id=str(n), content=text) for n, text in enumerate(VECTORS)]
    store.add_learnings([*learnings, UserProfile(user_id="bob", content="drinks tea")])
    assert embed(store) == 4 and embed(store) == 0
    return store


@pytest.mark.needs("vectors")
class TestMeaning:
    def test_what_means_the_same_is_found_without_a_common_word(self, known: Store) -> None:
        """The nearest first, with its cosine."""
        assert found(known, [2.0, 0.0, 0.0])[0] == "drinks tea"
        query = LearningQuery(user_id="ada", query="hot beverages")
        [hit, *_] = known.search({"profile": query}, meaning=Meaning("m", [1, 0.1, 0]))["profile"]
        assert hit.cosine == pytest.approx(1.0) and hit.coverage == 0.0

    def test_full_text_alone_ignores_the_meaning(self, known: Store) -> None:
        """And a search by meaning alone finds nothing without one."""
        query = {"profile": LearningQuery(user_id="ada", query="hot beverages")}
        assert known.search(query, meaning=Meaning("m", [1, 0, 0]), mode="fts") == {"profile": []}  # type: ignore[arg-type]
        assert known.search(query, mode="vector") == {"profile": []}  # type: ignore[arg-type]

    def test_nobody_is_found_by_anothers_meaning(self, known: Store) -> None:
        """Neither a learning nor its rank."""
        query = LearningQuery(user_id="bob", query="anything else")
        answer = known.search({"profile": query}, meaning=Meaning("m", [0, 1, 0]))["profile"]
        assert [(hit.learning.content, getattr(hit.learning, "user_id", "")) for hit in answer] == [
            ("drinks tea", "bob")
        ]
        assert found(known, [1, 0, 0], user_id="eve") == []

    def test_models_are_never_mixed(self, known: Store) -> None:
        """Another model finds nothing until the texts are embedded by it, and then the first finds nothing."""
        assert found(known, [1, 0], model="other") == []
        two = {"drinks tea": [0.0, 1.0], "rides horses": [1.0, 0.0], "plays chess": [0.5, 0.5]}
        assert embed(known, "other", two) == 4
        assert found(known, [1, 0], model="other")[0] == "rides horses"
        assert found(known, [1, 0, 0]) == []

    def test_a_vector_of_another_size_compares_with_nothing(self, known: Store) -> None:
        """No error, and no nonsense."""
        assert found(known, [1.0, 0.0]) == []
        assert isinstance(known, Embeddable)
        with pytest.raises(InvalidInputError, match="dimensions"):
            known.put_vectors("m", {1: [1.0], 2: [1.0, 2.0]})
        with pytest.raises(InvalidInputError, match="finite"):
            found(known, [float("nan"), 0.0, 0.0])

    def test_what_is_deleted_or_changed_has_no_vector_any_more(self, known: Store) -> None:
        """Also where it was looked at a moment ago."""
        assert found(known, [1, 0, 0])[0] == "drinks tea"
        known.delete_learnings("profile", ["0"], user_id="ada")
        assert "drinks tea" not in found(known, [1, 0, 0])
        known.update_learning("profile", "1", {"content": "rides camels"}, user_id="ada")
        assert found(known, [0, 1, 0])[0] == "plays chess"
        known.delete_user("ada")
        assert found(known, [0, 0, 1]) == []

    def test_filters_hold_for_what_is_near(self, known: Store) -> None:
        """What is superseded is not current, however near."""
        known.update_learning("profile", "0", {"status": Status.SUPERSEDED}, user_id="ada")
        embed(known)
        assert "drinks tea" not in found(known, [1, 0.1, 0])
        assert found(known, [1, 0.1, 0], status_filter=[Status.SUPERSEDED]) == ["drinks tea"]

    def test_messages_are_found_by_meaning_where_they_have_vectors(self, store: Store, turn: MakeTurn) -> None:
        """Learnings alone are embedded unless messages are asked for."""
        store.add_turns([turn("drinks tea", at=1), turn("plays chess", at=2, session_id="s2")])
        assert isinstance(store, Embeddable) and store.index_interactions() == 2
        assert store.unembedded("m") == []
        assert embed(store) == 2
        query = SearchInteractionRequest(user_id="ada", query="hot beverages")
        assert store.search_interactions(query, meaning=Meaning("m", [0, 0, 1]))[0].content == "plays chess"

    def test_words_count_for_nothing_where_messages_are_searched_by_meaning_alone(
        self, store: Store, turn: MakeTurn
    ) -> None:
        """In a mode of both, what has the words is found, too."""
        store.add_turns([turn("drinks tea", at=1), turn("plays chess", at=2, session_id="s2")])
        assert isinstance(store, Embeddable) and store.index_interactions() == 2
        store.put_vectors(
            "m",
            {
                item.number: VECTORS[item.text]
                for item in store.unembedded("m", messages=True)
                if item.text == "plays chess"
            },
        )
        for mode, wanted in (("hybrid", {"drinks tea", "plays chess"}), ("vector", {"plays chess"})):
            query = SearchInteractionRequest(user_id="ada", query="tea", search_mode=mode)
            assert {
                item.content for item in store.search_interactions(query, meaning=Meaning("m", [0, 0, 1]))
            } == wanted


class TestSearchingSeveralKinds:
    def test_each_kind_answers_as_if_it_had_been_asked_alone(self, store: Store) -> None:
        """In one read."""
        rule = UserPlaybook(user_id="ada", trigger="make tea", content="use leaves")
        store.add_learnings([UserProfile(user_id="ada", content="likes tea"), rule])
        query = LearningQuery(user_id="ada", query="tea")
        together = store.search(
            {"profile": query, "user_playbook": query, "agent_playbook": LearningQuery(query="tea")}
        )
        assert together["profile"] == store.search_learnings("profile", query)
        assert together["user_playbook"] == store.search_learnings("user_playbook", query)
        assert together["agent_playbook"] == []

    def test_a_filter_that_names_nothing_finds_nothing(self, store: Store) -> None:
        """An empty list of statuses is no status, not every status."""
        store.add_learnings([UserProfile(user_id="ada", content="likes tea")])
        assert store.search_learnings("profile", LearningQuery(user_id="ada", query="tea", status_filter=[])) == []
        assert store.search_learnings("profile", LearningQuery(user_id="ada", query="tea", ids=[])) == []

    def test_filters_that_leave_few_look_further(self, store: Store) -> None:
        """What is wanted may stand behind hundreds that match better."""
        others = [UserProfile(user_id="ada", content="tea", source="web") for _ in range(300)]
        store.add_learnings([UserProfile(user_id="ada", content="tea among many other things", source="app"), *others])
        query = LearningQuery(user_id="ada", query="tea", source="app")
        assert len(store.search_learnings("profile", query)) == 1

    @pytest.mark.needs("vectors")
    def test_a_long_backlog_is_searched_newest_first(self, store: Store, turn: MakeTurn) -> None:
        """A bounded piece at a time; nothing is lost."""
        store.add_turns([turn(f"zebra number{at}", at=1000 + at) for at in range(30)])
        assert isinstance(store, Embeddable)
        assert store.index_interactions(user_id="ada", limit=10) == 10
        assert [store.index_interactions(limit=15), store.index_interactions(), store.index_interactions()] == [
            15,
            5,
            0,
        ]
        assert len(store.search_interactions(SearchInteractionRequest(user_id="ada", query="zebra", top_k=50))) == 30


@pytest.mark.needs("vectors")
def test_a_word_that_only_an_archived_learning_holds_breaks_no_search_by_meaning(store: Store) -> None:
    """What is current is found by its meaning."""
    store.add_learnings(
        [
            UserProfile(user_id="ada", content="rides horses", status=Status.ARCHIVED),
            UserProfile(user_id="ada", content="plays chess"),
        ]
    )
    embed(store)
    asked = LearningQuery(user_id="ada", query="horses")
    answer = store.search({"profile": asked}, meaning=Meaning("m", [0.0, 0.9, 0.1]))
    assert [hit.learning.content for hit in answer["profile"]] == ["plays chess"]
