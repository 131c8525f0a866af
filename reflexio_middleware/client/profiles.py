"""Profiles: add, get, search, rerank, update, delete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reflexio_middleware.client.core import checked, ids_in, named, values_of
from reflexio_middleware.client.learnings import LearningsCore, Moment, Statuses
from reflexio_store.errors import InvalidInputError
from reflexio_store.models import (
    AddResponse,
    BulkDeleteResponse,
    DeleteResponse,
    LearningQuery,
    ProfilesResponse,
    ProfileTimeToLive,
    SearchMode,
    UpdateResponse,
    UserProfile,
)

MANUAL = "cli-manual"
"""``generated_from_request_id`` of a profile that was added by hand (wire fact)."""


class ProfilesApi(LearningsCore):
    """The part of the client that speaks of profiles."""

    def add_user_profile(self, user_profiles: Sequence[UserProfile | Mapping[str, Any]]) -> AddResponse:
        """Add profiles. A known ``profile_id`` of the same user is replaced; without one, it is made."""
        values = [
            value if value.generated_from_request_id else value.model_copy(update={"generated_from_request_id": MANUAL})
            for value in values_of(UserProfile, user_profiles, "user_profiles")
        ]
        return self._added(values)

    def get_profiles(
        self,
        user_id: str,
        profile_id: str | None = None,
        query: str | None = None,
        start_time: Moment = None,
        end_time: Moment = None,
        top_k: int | None = 30,
        source: str | None = None,
        profile_time_to_live: ProfileTimeToLive | str | None = None,
        status_filter: Statuses = None,
        tags: Sequence[str] | None = None,
        force_refresh: bool = False,  # noqa: ARG002 - nothing is cached; accepted for compatibility
    ) -> ProfilesResponse:
        """Profiles of a user, newest first (best match first with a ``query``)."""
        return self._profiles(
            user_id=named("user_id", user_id), ids=[profile_id] if profile_id else None, query=query,
            start_time=start_time, end_time=end_time, top_k=top_k, source=source,
            profile_time_to_live=profile_time_to_live, status_filter=status_filter, tags=tags,
        )  # fmt: skip

    def get_all_profiles(
        self, limit: int = 100, status_filter: str | None = None, user_id: str | None = None
    ) -> ProfilesResponse:
        """Profiles of all users, newest first. ``status_filter`` is one of ``current``, ``pending``, ``archived``..."""
        statuses = None if status_filter is None else [None if status_filter == "current" else status_filter]
        return self._profiles(user_id=user_id, limit=limit, status_filter=statuses)

    def search_user_profiles(
        self,
        user_id: str,
        query: str | None = None,
        generated_from_request_id: str | None = None,
        start_time: Moment = None,
        end_time: Moment = None,
        top_k: int | None = 10,
        source: str | None = None,
        tags: Sequence[str] | None = None,
        search_mode: SearchMode | None = None,
        request_id: str | None = None,
        session_id: str | None = None,
        custom_feature: str | None = None,
        extractor_name: str | None = None,
        threshold: float | None = None,
        enable_reformulation: bool = False,
    ) -> ProfilesResponse:
        """Profiles of a user that match ``query``, best first; without one, the newest.

        ``threshold`` (0 to 1) and ``search_mode`` mean what they mean for :meth:`search`. ``request_id``,
        ``session_id``, ``custom_feature``, ``extractor_name`` and ``enable_reformulation`` are accepted for
        compatibility.
        """
        del request_id, session_id, custom_feature, extractor_name, enable_reformulation
        return self._profiles(
            user_id=named("user_id", user_id), query=query, source_request_id=generated_from_request_id,
            start_time=start_time, end_time=end_time, top_k=top_k, source=source, tags=tags, threshold=threshold,
            search_mode=search_mode,
        )  # fmt: skip

    search_profiles = search_user_profiles

    def update_user_profile(
        self,
        user_id: str,
        profile_id: str,
        content: str | None = None,
        custom_features: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
    ) -> UpdateResponse:
        """Change a profile's text, features or tags; what is None stays."""
        fields = {"content": content, "custom_features": custom_features, "tags": tags}
        return self._updated("profile", profile_id, fields, user_id=named("user_id", user_id))

    def delete_profile(
        self,
        user_id: str,
        profile_id: str = "",
        search_query: str = "",
        wait_for_response: bool = False,  # noqa: ARG002 - done when this returns; accepted for compatibility
    ) -> DeleteResponse:
        """Delete one profile by its id, or those in which all words of ``search_query`` occur (100 at most in one
        call); one of the two is needed."""
        user = named("user_id", user_id)
        if profile_id:
            return self._deleted("profile", [profile_id], user_id=user)
        if not search_query.strip():
            raise InvalidInputError("The call was refused", [("profile_id", "or search_query is needed")])
        found = self._settled().search_learnings("profile", LearningQuery(user_id=user, query=search_query, top_k=100))
        whole = [item.learning for item in found if item.coverage > 0.999]
        ids = [item.profile_id for item in whole if isinstance(item, UserProfile)]
        if not ids:
            return DeleteResponse(success=False, message="No profile holds all these words; nothing was changed")
        return self._deleted("profile", ids, user_id=user)

    def delete_profiles_by_ids(self, profile_ids: Sequence[str]) -> BulkDeleteResponse:
        """Delete profiles by their ids, whoever they are of."""
        return self._deleted("profile", ids_in("profile_ids", profile_ids))

    def delete_all_profiles(self) -> BulkDeleteResponse:
        """Delete all profiles of all users."""
        return self._deleted("profile", None)

    def rerank_user_profiles(
        self, user_id: str, query: str, profile_ids: Sequence[str], top_k: int = 10
    ) -> ProfilesResponse:
        """Some profiles of a user, those that fit ``query`` best first; those that do not fit at all come last, in the
        order given. Unknown ids are passed over."""
        user, ids = named("user_id", user_id), list(dict.fromkeys(ids_in("profile_ids", profile_ids)))
        wanted = checked(LearningQuery, user_id=user, query=named("query", query), ids=ids, top_k=top_k)
        store = self._settled()
        known = {item.profile_id: item for item in store.get_learnings("profile", wanted.model_copy(
            update={"top_k": None})) if isinstance(item, UserProfile)}  # fmt: skip
        scored = [item.learning for item in store.search_learnings("profile", wanted)]
        best = [item.profile_id for item in scored if isinstance(item, UserProfile)]
        order = dict.fromkeys([*best, *(name for name in ids if name in known)])
        found = [known[name] for name in order][:top_k]
        return ProfilesResponse(user_profiles=found, msg=f"Found {len(found)} profile(s)")

    def _profiles(self, **fields: Any) -> ProfilesResponse:
        found, told = self._found("profile", UserProfile, **fields)
        return ProfilesResponse(user_profiles=found, **told)
