"""What is held on one user: how much, all of it in a file, and forgetting it."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from os import PathLike
from typing import Final

from reflexio_middleware.client.core import Core, named
from reflexio_middleware.client.requests import told
from reflexio_store.models import ClearUserDataResponse, LearningQuery, StorageStats, UserProfile

_LAST: Final = 253_402_300_799  # 9999-12-31T23:59:59Z


class UsersApi(Core):
    """The part of the client that speaks of all that is held on one user."""

    def storage_stats(self, user_id: str) -> StorageStats:
        """How many current profiles and playbooks a user has, and when the oldest and the newest profile changed."""
        store = self._settled()
        query = LearningQuery(user_id=named("user_id", user_id))
        profiles = [item for item in store.get_learnings("profile", query) if isinstance(item, UserProfile)]
        times = [item.last_modified_timestamp for item in profiles]
        return StorageStats(
            profile_count=len(profiles),
            playbook_count=len(store.get_learnings("user_playbook", query)),
            oldest_profile_modified=_iso(min(times)) if times else None,
            newest_profile_modified=_iso(max(times)) if times else None,
        )

    def export_user(self, user_id: str, file: str | PathLike[str]) -> dict[str, int]:
        """Write everything held on a user to a file: requests, learnings with their evidence, dismissals, an
        opt-out, outcomes and jobs.

        The file is JSON Lines (see the command ``export``), which ``reflexio-middleware import`` reads; it appears when
        it is complete, and only its owner can read it.

        Args:
            user_id: The user.
            file: A path; one that is there is not replaced.

        Returns:
            How many records of each kind there are.

        Raises:
            FileExistsError: There is such a file.
            OSError: It cannot be written.
        """
        from reflexio_middleware import __version__
        from reflexio_middleware.exchange import export_to
        from reflexio_middleware.exchange.files import whole_file

        user = named("user_id", user_id)
        with whole_file(file) as lines:
            moved = export_to(self._settled(), lines, release=__version__, user_id=user)
        return {str(kind): count for kind, count in moved.counts.items()}

    def clear_user_data(self, user_id: str) -> ClearUserDataResponse:
        """Delete everything held on a user.

        Also what other processes took and have not stored yet is not stored any more; what users share is retired
        where too few others say the same. Nobody can undo it.
        """
        name = named("user_id", user_id)
        receipt = self._settled().delete_user(name)
        receipt = dataclasses.replace(receipt, spooled=self._delivery.forget(self.settings.flush_timeout, user_id=name))
        return ClearUserDataResponse(deleted_counts=dataclasses.asdict(receipt), message=f"Deleted {told(receipt)}")


def _iso(seconds: int) -> str:
    """A moment (epoch seconds) as ISO text ending in Z; the end of the calendar for what is beyond it."""
    return f"{datetime.fromtimestamp(min(seconds, _LAST), UTC):%Y-%m-%dT%H:%M:%S}Z"
