"""What a home says of itself."""

from __future__ import annotations

import threading

import pytest

from reflexio_store.contract import Store
from reflexio_store.errors import StoreError, StoreUnavailableError
from reflexio_store.models import LearningQuery, UserProfile
from tests.store.conformance.asking import (
    MakeTurn,
)


class TestAHome:
    def test_a_home_keeps_the_contract(self, store: Store) -> None:
        """It names itself, and its health check finds no error."""
        assert isinstance(store, Store)
        assert store.url.startswith({"remote": "http"}.get(store.kind, store.kind))
        assert [finding for finding in store.check() if finding.level == "error"] == []

    def test_a_closed_home_says_so(self, store: Store, turn: MakeTurn) -> None:
        """Closing twice is fine; using it is not."""
        store.close()
        store.close()
        for use in (store.counts, lambda: store.add_turns([turn()]), lambda: store.read_session("a", "b")):
            with pytest.raises(StoreUnavailableError, match="closed"):
                use()

    def test_what_is_read_together_is_read_as_without(self, store: Store) -> None:
        """However many reads, and reads within reads."""
        store.add_learnings([UserProfile(user_id="ada", content="drinks tea")])
        with store.reading(), store.reading():
            assert len(store.get_learnings("profile", LearningQuery(user_id="ada"))) == 1
            assert not store.opted_out("ada")

    @pytest.mark.needs("transactions")
    def test_what_is_read_together_is_of_one_state(self, store: Store) -> None:
        """Nothing is written between, neither by the same thread, nor to be seen by another."""
        with store.reading():
            assert store.get_learnings("profile", LearningQuery(user_id="ada")) == []
            with pytest.raises(StoreError, match="reading"):
                store.opt_out("ada")
            other = threading.Thread(target=lambda: store.add_learnings([UserProfile(user_id="ada", content="tea")]))
            other.start()
            other.join(0.0 if store.url == "sqlite://" else None)  # which has one connection for all
            assert store.get_learnings("profile", LearningQuery(user_id="ada")) == []
        other.join()
        assert len(store.get_learnings("profile", LearningQuery(user_id="ada"))) == 1
