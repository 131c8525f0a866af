"""What happened to learnings."""

from __future__ import annotations

from reflexio_middleware.client.core import Core, checked
from reflexio_store.models import LearningKind, LearningQuery, ProfileChangeLogResponse


class HistoryApi(Core):
    """The part of the client that tells what happened to learnings.

    It forgets with you: entries go with the learning, and with the messages that they came from.
    """

    def get_profile_change_log(
        self, limit: int = 100, user_id: str | None = None, profile_id: str | None = None
    ) -> ProfileChangeLogResponse:
        """What happened to profiles (of all users, of one, or to one), the latest first."""
        return self._history("profile", user_id, profile_id, limit)

    def get_user_playbook_change_log(
        self, limit: int = 100, user_id: str | None = None, user_playbook_id: int | None = None
    ) -> ProfileChangeLogResponse:
        """The same of user playbooks."""
        return self._history("user_playbook", user_id, user_playbook_id, limit)

    def _history(
        self, kind: LearningKind, user_id: str | None, learning_id: str | int | None, limit: int
    ) -> ProfileChangeLogResponse:
        query = checked(LearningQuery, user_id=user_id, limit=limit)
        one = None if learning_id is None else str(learning_id)
        found = self._settled().history(kind, user_id=query.user_id, learning_id=one, limit=query.top_k)
        return ProfileChangeLogResponse(profile_change_logs=found)
