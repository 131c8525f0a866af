"""What a server keeps to itself: how far it has read, what its models took, and what it learned anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NoReturn

from reflexio_store.contract import Fresh, Promoted, Reading, Unlearned, Usage
from reflexio_store.errors import StoreError
from reflexio_store.models import GetRequestsRequest

from .outcomes import RemoteOutcomes
from .requests import DEFAULT_SESSIONS


class RemoteReading(RemoteOutcomes):
    """The part of the home that stands for extractors, of which there are none beside a server."""

    def user_ids(self) -> list[str]:
        """Everybody who has a session, in order; not nobody (``""``). All sessions are listed for that."""
        found = {item.session.user_id for item in self._sessions(GetRequestsRequest(), DEFAULT_SESSIONS)}
        return sorted(found - {""})

    def promote(
        self,
        kind: Literal["profile", "user_playbook"],
        *,
        user_id: str | None = None,  # noqa: ARG002 - as the contract has them
        agent_version: str | None = None,  # noqa: ARG002
        playbook_name: str | None = None,  # noqa: ARG002
        only_affected: bool = True,  # noqa: ARG002
    ) -> Promoted:
        """Refused: what a server learned anew is its own to promote, and for playbooks not by user (wire fact).

        Raises:
            StoreError: Always.
        """
        self._refuse(f"promote what it learned anew ({kind})")

    def demote(
        self,
        kind: Literal["profile", "user_playbook"],
        *,
        user_id: str | None = None,  # noqa: ARG002
        agent_version: str | None = None,  # noqa: ARG002
        playbook_name: str | None = None,  # noqa: ARG002
    ) -> Promoted:
        """Refused, as :meth:`promote` is."""
        self._refuse(f"bring back what is archived ({kind})")

    def unlearned(self, user_id: str, session_id: str) -> list[Unlearned]:  # noqa: ARG002
        """Nothing: no extractor of ours reads."""
        return []

    def hand_over(self, user_id: str, session_id: str, extractors: Sequence[str]) -> None:  # noqa: ARG002
        """Refused: no extractor of ours reads.

        Raises:
            StoreError: Always.
        """
        self._refuse(f"hand a session to {', '.join(extractors)}")

    def fresh_messages(self, user_id: str, query: str, *, except_session: str, limit: int) -> list[Fresh]:  # noqa: ARG002
        """Nothing: the server does not say what it has still to read."""
        return []

    def read_unlearned(
        self,
        user_id: str,  # noqa: ARG002
        session_id: str,  # noqa: ARG002
        extractor: str,  # noqa: ARG002
        *,
        context: int,  # noqa: ARG002
        limit: int,  # noqa: ARG002
        skip: Sequence[str] = (),  # noqa: ARG002
    ) -> Reading:
        """Empty: no extractor of ours reads."""
        return Reading()

    def mark_learned(self, user_id: str, session_id: str, extractor: str, request_ids: Sequence[str]) -> None:  # noqa: ARG002
        """Refused: no extractor of ours reads.

        Raises:
            StoreError: Always.
        """
        self._refuse(f"note what {extractor} has read")

    def add_usage(self, usage: Usage) -> None:
        """Refused: no model of ours is asked.

        Raises:
            StoreError: Always.
        """
        self._refuse(f"keep what {usage.model} took")

    def spent(self, day: str, *, user_id: str | None = None) -> tuple[int, int]:  # noqa: ARG002
        """Nothing: no model of ours is asked."""
        return 0, 0

    def get_usage(self, *, since: str, user_id: str | None = None) -> list[Usage]:  # noqa: ARG002
        """Nothing: no model of ours is asked."""
        return []

    def _refuse(self, what: str) -> NoReturn:
        raise StoreError(f"{self._http.url} is a Reflexio server, which learns itself: it cannot be asked to {what}")
