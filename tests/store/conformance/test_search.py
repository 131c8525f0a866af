"""Searching learnings: order, scope, any text in any script."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflexio_store import ids
from reflexio_store.contract import Floors, Store
from reflexio_store.models import (
    AgentPlaybook,
    LearningQuery,
    PlaybookStatus,
    UserPlaybook,
    UserProfile,
)
from tests.store.conformance.asking import (
    quick,
    search_profiles,
)


class TestSearch:
    def test_the_better_match_comes_first(self, store: Store) -> None:
        """More of the query's weight, and in the trigger rather than in the content."""
        rules = [
            UserPlaybook(user_id="ada", trigger="write a poem", content="deploy nothing"),
            UserPlaybook(user_id="ada", trigger="deploy the service", content="run the tests first"),
            UserPlaybook(user_id="ada", trigger="deploy", content="ask"),
        ]
        store.add_learnings(rules)
        found = store.search_learnings("user_playbook", LearningQuery(user_id="ada", query="Deploying our services!"))
        assert [hit.learning.content for hit in found] == ["run the tests first", "ask", "deploy nothing"]
        assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
        assert found[0].coverage == 1.0 and 0 < found[2].coverage < 1

    def test_an_unknown_word_lowers_the_coverage(self, store: Store) -> None:
        """What the query asks for and nobody knows counts as the rarest."""
        store.add_learnings([UserProfile(user_id="ada", content="Likes green tea")])
        query = LearningQuery(user_id="ada", query="tea")
        [alone] = store.search_learnings("profile", query)
        [beside] = store.search_learnings("profile", query.model_copy(update={"query": "tea xylophone zeppelin"}))
        assert alone.coverage == 1.0 and beside.coverage < 0.4

    @pytest.mark.parametrize(
        ("content", "words", "share"),
        [
            ("Likes green tea", "tea", 1 / 3),
            ("Tea, tea and tea", "tea", 1.0),
            ("Uses Signal with the family", "use", 1 / 6),
            ("\u4e2d\u6587\u4e66", "\u4e2d\u6587", 0.5),
        ],
    )
    def test_the_share_tells_how_much_of_a_learning_was_asked_for(
        self, store: Store, content: str, words: str, share: float
    ) -> None:
        """Different words, without stop words, counted alike on both sides; common ones count half."""
        store.add_learnings([UserProfile(user_id="ada", content=content)])
        [found] = store.search_learnings("profile", LearningQuery(user_id="ada", query=words))
        assert found.share == pytest.approx(share)

    @pytest.mark.parametrize(
        "words", ["", "   ", "the of and", "!!! ???", "\U0001f600\U0001f680", "\u0301", "\x00", "_"]
    )
    def test_a_query_that_says_nothing_finds_nothing(self, store: Store, words: str) -> None:
        """Stop words, signs and emoji are no words."""
        store.add_learnings([UserProfile(user_id="ada", content="the of and !!! \U0001f600 tea")])
        assert search_profiles(store, "ada", words) == []

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("Uses NOT gates AND gates", "NOT"),
            ('Says "quoted" things', '"quoted"'),
            ("Runs build* daily", "build*"),
            ("NEAR the sea", "NEAR(sea, 2)"),
            ("\u6211\u559c\u6b22\u4e2d\u6587\u4e66", "\u4e2d\u6587"),
            ("\u6771\u4eac\u306b\u4f4f\u3080", "\u6771"),
            ("Caf\u00e9 in Z\u00fcrich", "cafe zurich"),
            ("\u043f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440", "\u041c\u0418\u0420"),
            ("\u0627\u0644\u0639\u0631\u0628\u064a\u0629", "\u0627\u0644\u0639\u0631\u0628\u064a\u0629"),
            ("Owner's deploy_key v2.0", "deploy_key"),
        ],
    )
    def test_text_is_literal_in_any_script(self, store: Store, content: str, words: str) -> None:
        """Operators are words, and scripts without spaces are found by their parts."""
        store.add_learnings([UserProfile(user_id="ada", content=content)])
        assert search_profiles(store, "ada", words) == [content]

    @quick
    @given(content=st.text(min_size=1, max_size=60), words=st.text(max_size=60))
    @pytest.mark.needs("scores")
    def test_no_text_breaks_a_search(self, shared_store: Store, content: str, words: str) -> None:
        """Whatever is stored and asked for, the answer is a list within bounds."""
        user = ids.uuid7()
        shared_store.add_learnings([UserProfile(user_id=user, content=content)])
        found = shared_store.search_learnings("profile", LearningQuery(user_id=user, query=words))
        assert all(0 < hit.coverage <= 1 and hit.score > 0 for hit in found)

    @quick
    @given(content=st.text(alphabet=st.characters(categories=["L", "Nd"]), min_size=4, max_size=12))
    def test_a_word_finds_the_text_that_it_came_from(self, shared_store: Store, content: str) -> None:
        """In every script, whole and without loss."""
        user = ids.uuid7()
        content += "zq"  # no stop word ends so
        shared_store.add_learnings([UserProfile(user_id=user, content=f"x {content} y")])
        [hit] = shared_store.search_learnings("profile", LearningQuery(user_id=user, query=content)) or [None]
        assert hit is not None and hit.coverage == 1.0

    @quick
    @given(data=st.data())
    def test_no_user_is_ever_seen_by_another(self, shared_store: Store, data: st.DataObject) -> None:
        """Neither a learning nor a number: what others store changes nothing in one's own answers."""
        word = st.sampled_from(["tea", "coffee", "paris", "rome", "green", "AND", "u\x1fv"])
        text = st.lists(word, min_size=1, max_size=5).map(" ".join)
        ada, bob = (ids.uuid7() for _ in range(2))
        mine = data.draw(st.lists(text, min_size=1, max_size=5))
        query = LearningQuery(user_id=ada, query=data.draw(text))
        shared_store.add_learnings([UserProfile(user_id=ada, content=content) for content in mine])
        before = shared_store.search_learnings("profile", query)
        others = data.draw(st.lists(text, min_size=1, max_size=5))
        shared_store.add_learnings([UserProfile(user_id=bob, content=content) for content in others])
        assert shared_store.search_learnings("profile", query) == before
        assert all(hit.learning.user_id == ada for hit in before if isinstance(hit.learning, UserProfile))

    def test_without_a_user_nothing_personal_is_found(self, store: Store) -> None:
        """Not the learnings of all, and not those of nobody."""
        store.add_learnings([UserProfile(user_id="ada", content="tea"), UserPlaybook(user_id="", content="tea")])
        assert search_profiles(store, None, "tea") == []
        assert store.search_learnings("user_playbook", LearningQuery(user_id="", query="tea")) == []
        assert store.search_learnings("user_playbook", LearningQuery(query="tea")) == []

    def test_agent_playbooks_are_found_by_version(self, store: Store) -> None:
        """Within one version, or in all where none is named; approval is a filter."""
        store.add_learnings(
            [AgentPlaybook(agent_version=version, content=f"tea {version}") for version in ("v1", "v2")]
        )

        def found(**query: Any) -> list[str]:
            hits = store.search_learnings("agent_playbook", LearningQuery(query="tea", **query))
            return sorted(hit.learning.content for hit in hits)

        assert found() == ["tea v1", "tea v2"] and found(agent_version="v1") == ["tea v1"]
        assert found(playbook_status_filter=[PlaybookStatus.APPROVED]) == []

    @pytest.mark.needs("scores")
    def test_what_reaches_no_floor_is_left_out(self, store: Store) -> None:
        """By its share of the question, or the question's share of it; what others match better crowds nothing out."""
        facts = [f"tea tea{number} and many more words that nobody asks for at all" for number in range(9)]
        store.add_learnings([UserProfile(user_id="ada", content=text) for text in ["tea", "zebra horse", *facts]])
        query = LearningQuery(user_id="ada", query="tea zebra horse", top_k=5)
        found = store.search({"profile": query}, floors=lambda _: Floors(0.5, share=0.9, trigger_share=0.9))
        assert {hit.learning.content for hit in found["profile"]} == {"tea", "zebra horse"}

    @pytest.mark.needs("scores")
    def test_the_best_comes_first_where_a_filter_leaves_few_of_many(self, store: Store) -> None:
        """Also where it holds fewer of the words, and so is looked at after hundreds of others."""
        long = " ".join(f"word{number}" for number in range(200))
        rules = [
            UserPlaybook(user_id="ada", content=f"tea with milk and honey {long}", tags=["new"] if number > 515 else [])
            for number in range(520)
        ]
        rules.append(UserPlaybook(user_id="ada", trigger="tea with milk", content="warm the pot", tags=["new"]))
        store.add_learnings(rules)
        query = LearningQuery(user_id="ada", query="tea, milk, honey", tags=["new"])
        scores = [hit.score for hit in store.search_learnings("user_playbook", query)]
        assert len(scores) == 5 and scores == sorted(scores, reverse=True)

    def test_a_search_is_bounded(self, store: Store) -> None:
        """Ten without a size, and never more than a hundred."""
        store.add_learnings([UserProfile(user_id="ada", content=f"tea number {number}") for number in range(130)])
        assert len(search_profiles(store, "ada", "tea")) == 10
        assert len(search_profiles(store, "ada", "tea", top_k=1000)) == 100
