"""What a home says of itself."""

from __future__ import annotations

import pytest

from reflexio_store.contract import Store
from reflexio_store.errors import StoreUnavailableError
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
