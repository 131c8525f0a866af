"""Reading, searching and deleting single messages."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from reflexio_middleware.client.core import Core, checked, named
from reflexio_middleware.client.requests import told
from reflexio_store.contract import Embeddable
from reflexio_store.errors import InvalidInputError
from reflexio_store.models import (
    BulkDeleteResponse,
    DeleteInteractionResponse,
    GetInteractionsRequest,
    Interaction,
    InteractionsResponse,
    SearchInteractionRequest,
    SearchMode,
)


class InteractionsApi(Core):
    """The part of the client that speaks of interactions."""

    def get_interactions(
        self,
        user_id: str,
        start_time: datetime | str | None = None,
        end_time: datetime | str | None = None,
        top_k: int | None = 30,
    ) -> InteractionsResponse:
        """The newest interactions of a user, newest first."""
        query = checked(
            GetInteractionsRequest,
            user_id=named("user_id", user_id),
            start_time=start_time,
            end_time=end_time,
            top_k=top_k,
        )
        return _found(self._settled().get_interactions(query))

    def get_all_interactions(self, limit: int = 100) -> InteractionsResponse:
        """The newest interactions of all users, newest request first."""
        return _found(self._settled().get_interactions(checked(GetInteractionsRequest, limit=limit)))

    def search_interactions(
        self,
        user_id: str,
        request_id: str | None = None,
        query: str | None = None,
        start_time: datetime | str | None = None,
        end_time: datetime | str | None = None,
        top_k: int | None = None,
        most_recent_k: int | None = None,
        search_mode: SearchMode | None = None,
        threshold: float | None = None,  # noqa: ARG002 - accepted for compatibility
    ) -> InteractionsResponse:
        """Interactions of a user that match ``query``, best first; without a query the ``most_recent_k`` newest.

        A message is also found by what was said just before and after it. Of a long backlog, such as an import, the
        newest 1,000 requests are found at once; ``degraded`` says that others are not indexed yet.
        ``search_mode`` means what it means for :meth:`search`, where messages are embedded (the setting
        ``embed_messages``); else full text answers.
        """
        wanted = checked(
            SearchInteractionRequest, user_id=user_id, request_id=request_id, query=query, start_time=start_time,
            end_time=end_time, top_k=top_k, most_recent_k=most_recent_k, search_mode=search_mode,
        )  # fmt: skip
        store, text, embedded = self._settled(), (wanted.query or "").strip(), self.settings.embed_messages
        if not text:
            return _found(store.search_interactions(wanted))
        meaning, mode, missed = self._meaning(store, text, wanted.search_mode, embedded=embedded)
        found = store.search_interactions(wanted.model_copy(update={"search_mode": mode}), meaning=meaning)
        partly = isinstance(store, Embeddable) and store.unindexed(user_id=wanted.user_id) > 0
        return _found(found, degraded=missed or partly, search_mode_effective=mode)

    def delete_interaction(
        self,
        user_id: str,
        interaction_id: int,
        wait_for_response: bool = False,  # noqa: ARG002 - done when this returns; accepted for compatibility
    ) -> DeleteInteractionResponse:
        """Delete one message of a user, and what was learned from it alone. A request without any message left goes,
        too. An unknown id changes nothing and says so."""
        if type(interaction_id) is not int or interaction_id <= 0:
            raise InvalidInputError("The call was refused", [("interaction_id", "must be a whole number above 0")])
        receipt = self._settled().delete_interaction(named("user_id", user_id), interaction_id)
        known = receipt.interactions > 0
        nothing = f"No interaction {interaction_id} of {user_id!r} is stored; nothing was changed"
        return DeleteInteractionResponse(
            success=known,
            message=f"Deleted {told(receipt)}" if known else nothing,
            deleted_requests_count=receipt.requests,
            deleted_profiles_count=receipt.profiles,
            deleted_playbooks_count=receipt.user_playbooks,
        )

    def delete_all_interactions(self) -> BulkDeleteResponse:
        """Delete all requests of all users with their interactions, and what was learned from them alone.

        ``deleted_count`` counts the interactions (the public server says 0).
        """
        receipt = self._settled().delete_requests(None)
        return BulkDeleteResponse(success=True, deleted_count=receipt.interactions, message=f"Deleted {told(receipt)}")


def _found(interactions: list[Interaction], **search: Any) -> InteractionsResponse:
    return InteractionsResponse(interactions=interactions, msg=f"Found {len(interactions)} interaction(s)", **search)
