"""What a server does by its own rules: sharing among users, its history, whom it leaves alone."""

from __future__ import annotations

from collections.abc import Sequence

from reflexio_store.contract import Shared, Sharing, Voice
from reflexio_store.models import HistoryEntry, LearningKind

from .reading import RemoteReading


class RemoteSharing(RemoteReading):
    """The part of the home that stands for agreement, history and opting out."""

    def history(
        self,
        kind: LearningKind,
        *,
        user_id: str | None = None,  # noqa: ARG002 - as the contract has them
        learning_id: str | None = None,  # noqa: ARG002
        limit: int | None = 100,  # noqa: ARG002
    ) -> list[HistoryEntry]:
        """Refused: a server's change log is that of all users at once (wire fact).

        Raises:
            StoreError: Always.
        """
        self._refuse(f"tell what happened to one user's learnings ({kind})")

    def purge_expired(self) -> int:
        """0: a server hides what has expired, and keeps no time for us to purge it."""
        return 0

    def voices(self, agent_version: str, *, most: int = 20_000, model: str | None = None) -> list[Voice]:  # noqa: ARG002
        """Nothing: a server looks for agreement itself."""
        return []

    def told_by(self, user_ids: Sequence[str]) -> dict[str, list[str]]:  # noqa: ARG002
        """Nothing: nobody here asks on a server's behalf."""
        return {}

    def shared(self, agent_version: str) -> list[Shared]:  # noqa: ARG002
        """Nothing: what an agent playbook rests on stays with the server."""
        return []

    def share(self, agent_version: str, rules: Sequence[Shared], *, least: int, approve: bool) -> Sharing:  # noqa: ARG002
        """Refused: a server makes agent playbooks itself.

        Raises:
            StoreError: Always.
        """
        self._refuse(f"be told what users of {agent_version!r} agree on")

    def promote_shared(self, from_version: str, to_version: str) -> int:
        """Refused: agent playbooks keep to their version there.

        Raises:
            StoreError: Always.
        """
        self._refuse(f"copy agent playbooks from {from_version!r} to {to_version!r}")

    def opt_out(self, user_id: str) -> bool:  # noqa: ARG002
        """Refused: a server knows no such wish.

        Raises:
            StoreError: Always.
        """
        self._refuse("leave a user alone; publish that user's turns with evaluation_only=True, or not at all")

    def opt_in(self, user_id: str) -> bool:  # noqa: ARG002
        """False: nobody opted out there."""
        return False

    def opted_out(self, user_id: str) -> bool:  # noqa: ARG002
        """False: nobody can opt out there."""
        return False
