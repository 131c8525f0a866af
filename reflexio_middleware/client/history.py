"""What happened to learnings."""

from __future__ import annotations

from reflexio_middleware.client.core import Core
from reflexio_store.models import ProfileChangeLogResponse


class HistoryApi(Core):
    """The part of the client that tells what happened to learnings.

    It forgets with you: entries go with the learning, and with the messages that they came from.
    """

    def get_profile_change_log(
        self, limit: int = 100, user_id: str | None = None, profile_id: str | None = None
    ) -> ProfileChangeLogResponse:
        """What happened to profiles (of all users, of one, or to one), the latest first."""
        found = self._settled().history("profile", user_id=user_id, learning_id=profile_id, limit=limit)
        return ProfileChangeLogResponse(profile_change_logs=found)

    def get_user_playbook_change_log(
        self, limit: int = 100, user_id: str | None = None, user_playbook_id: int | None = None
    ) -> ProfileChangeLogResponse:
        """The same of user playbooks."""
        named = None if user_playbook_id is None else str(user_playbook_id)
        found = self._settled().history("user_playbook", user_id=user_id, learning_id=named, limit=limit)
        return ProfileChangeLogResponse(profile_change_logs=found)
