"""What the parts of the client share that speak of what was learned: find, add, change, delete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from reflexio_middleware.client.core import Core, checked, named
from reflexio_store.errors import InvalidInputError
from reflexio_store.models import (
    AddResponse,
    AgentPlaybook,
    BulkDeleteResponse,
    Learning,
    LearningKind,
    LearningQuery,
    SearchMode,
    SearchOptions,
    Status,
    UpdateResponse,
)

Moment = datetime | str | None
Statuses = Sequence[Status | str | None] | None

V = TypeVar("V", bound=Learning)


class LearningsCore(Core):
    """Filters, where given, must all hold. Without a ``status_filter`` only current learnings are returned; in the
    list, None stands for current. Times are datetimes or ISO text; naive ones are local."""

    def _found(
        self,
        kind: LearningKind,
        model: type[V],
        *,
        threshold: float | None = None,
        search_mode: SearchMode | None = None,
        **fields: Any,
    ) -> tuple[list[V], dict[str, Any]]:
        """What matches, and the other fields of the answer."""
        query = checked(LearningQuery, **fields)
        how = checked(SearchOptions, threshold=threshold, search_mode=search_mode)
        if query.query and query.query.strip():
            searched, told = self._searched({kind: query}, query.query, how)
            found = searched[kind]
        else:
            found, told = self._settled().get_learnings(kind, query), {}
        told["msg"] = f"Found {len(found)} {kind.replace('_', ' ')}(s)"
        return [item for item in found if isinstance(item, model)], told

    def _searched(
        self, queries: Mapping[LearningKind, LearningQuery], text: str, how: SearchOptions
    ) -> tuple[dict[LearningKind, list[Learning]], dict[str, Any]]:
        """What matches ``text``, by kind, best first; and what the answer says of the search."""
        store = self._settled()
        meaning, mode, missed = self._meaning(store, text, how.search_mode)
        answers = store.search(queries, meaning=meaning, mode=mode)
        least = how.threshold or 0.0
        found: dict[LearningKind, list[Learning]] = {
            kind: [item.learning for item in items if max(item.coverage, item.cosine or 0.0) >= least]
            for kind, items in answers.items()
        }
        effective = "fts" if answers.degraded else mode
        return found, {"degraded": answers.degraded or missed, "search_mode_effective": effective}

    def _added(self, values: Sequence[Learning]) -> AddResponse:
        ids = self.store.add_learnings([_of_a_user(value) for value in values])
        return AddResponse(message=f"Added {len(ids)}", added_count=len(ids), ids=ids)

    def _updated(
        self, kind: LearningKind, learning_id: str, fields: Mapping[str, Any], *, user_id: str | None = None
    ) -> UpdateResponse:
        given = {name: value for name, value in fields.items() if value is not None}
        if not given:
            raise InvalidInputError("The call was refused", [("fields", f"name one of {', '.join(fields)}")])
        done = self._settled().update_learning(kind, learning_id, given, user_id=user_id)
        told = "Updated" if done else f"No {kind.replace('_', ' ')} {learning_id!r}; nothing was changed"
        return UpdateResponse(success=done, msg=told)

    def _deleted(
        self, kind: LearningKind, ids: Sequence[str] | None, *, user_id: str | None = None
    ) -> BulkDeleteResponse:
        gone = self._settled().delete_learnings(kind, ids, user_id=user_id)
        found = gone > 0 or not ids
        told = f"Deleted {gone}" if found else f"No such {kind.replace('_', ' ')}; nothing was changed"
        return BulkDeleteResponse(success=found, deleted_count=gone, message=told)


def _of_a_user(value: Learning) -> Learning:
    """It, without the space around the id of its user; an agent playbook is of none."""
    if isinstance(value, AgentPlaybook):
        return value
    return value.model_copy(update={"user_id": named("user_id", value.user_id)})
