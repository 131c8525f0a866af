"""The async twin of the client: the same methods, awaited; the work is done in the client's own threads."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from reflexio_middleware.client import ReflexioClient
from reflexio_middleware.client.awaiting import awaited
from reflexio_middleware.client.session_view import SessionView
from reflexio_middleware.delivery.writer import Delivery
from reflexio_middleware.scope import Scope
from reflexio_middleware.settings import Settings
from reflexio_store.errors import InvalidInputError

P = ParamSpec("P")
R = TypeVar("R")


def _awaited(
    method: Callable[Concatenate[ReflexioClient, P], R],
) -> Callable[Concatenate[AsyncReflexioClient, P], Coroutine[Any, Any, R]]:
    return awaited(method, _shared)


def _shared(client: AsyncReflexioClient) -> ReflexioClient:
    return client.sync


def _on_loop(
    method: Callable[Concatenate[ReflexioClient, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[AsyncReflexioClient, P], Coroutine[Any, Any, R]]:
    """``method``, which does not block the event loop, of the client inside."""

    @functools.wraps(method)
    async def twin(self: AsyncReflexioClient, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await method(self.sync, *args, **kwargs)

    return twin


class AsyncReflexioClient:
    """:class:`ReflexioClient` for ``async`` code: same arguments, methods awaited, ``async with`` to close.

    Args:
        store: As in :class:`ReflexioClient`, like all the rest.
        client: A client to share instead of making one; then closing this leaves it open.

    Raises:
        InvalidInputError: Settings stand beside a client, which has its own.
    """

    def __init__(self, store: str | None = None, *, client: ReflexioClient | None = None, **settings: Any) -> None:
        given = settings if store is None else {"store": store, **settings}
        if client is not None and given:
            problems = [(name, "is that of the shared client: leave it out") for name in given]
            raise InvalidInputError("The client cannot be made", problems)
        self._owned = client is None
        self.sync = client or ReflexioClient(store, **settings)

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.sync.settings

    @property
    def sink(self) -> Delivery:
        """Where finished turns are put."""
        return self.sync.sink

    def finish_soon(self, scope: Scope) -> None:
        """See :meth:`ReflexioClient.finish_soon`."""
        self.sync.finish_soon(scope)

    @property
    def url(self) -> str:
        """Where the record is kept."""
        return self.sync.url

    def stats(self) -> dict[str, int]:
        """See :meth:`ReflexioClient.stats`."""
        return self.sync.stats()

    async def close(self) -> None:
        """Store what waits and release all (not of a shared client)."""
        if self._owned:
            await asyncio.to_thread(self.sync.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def for_session(self, session_id: str) -> SessionView:
        """See :meth:`ReflexioClient.for_session`."""
        return SessionView(self, session_id)

    publish_interaction = _awaited(ReflexioClient.publish_interaction)
    publish_interaction_async = publish_interaction
    get_learning_status = _awaited(ReflexioClient.get_learning_status)
    finalize_session = _awaited(ReflexioClient.finalize_session)
    get_requests = _awaited(ReflexioClient.get_requests)
    get_interactions = _awaited(ReflexioClient.get_interactions)
    get_all_interactions = _awaited(ReflexioClient.get_all_interactions)
    search_interactions = _awaited(ReflexioClient.search_interactions)
    delete_interaction = _awaited(ReflexioClient.delete_interaction)
    delete_all_interactions = _awaited(ReflexioClient.delete_all_interactions)
    delete_request = _awaited(ReflexioClient.delete_request)
    delete_session = _awaited(ReflexioClient.delete_session)
    delete_requests_by_ids = _awaited(ReflexioClient.delete_requests_by_ids)
    clear_user_data = _awaited(ReflexioClient.clear_user_data)
    export_user = _awaited(ReflexioClient.export_user)
    storage_stats = _awaited(ReflexioClient.storage_stats)
    add_user_profile = _awaited(ReflexioClient.add_user_profile)
    get_profiles = _awaited(ReflexioClient.get_profiles)
    get_all_profiles = _awaited(ReflexioClient.get_all_profiles)
    search_user_profiles = _awaited(ReflexioClient.search_user_profiles)
    search_profiles = search_user_profiles
    rerank_user_profiles = _awaited(ReflexioClient.rerank_user_profiles)
    update_user_profile = _awaited(ReflexioClient.update_user_profile)
    delete_profile = _awaited(ReflexioClient.delete_profile)
    delete_profiles_by_ids = _awaited(ReflexioClient.delete_profiles_by_ids)
    delete_all_profiles = _awaited(ReflexioClient.delete_all_profiles)
    add_user_playbook = _awaited(ReflexioClient.add_user_playbook)
    get_user_playbooks = _awaited(ReflexioClient.get_user_playbooks)
    search_user_playbooks = _awaited(ReflexioClient.search_user_playbooks)
    update_user_playbook = _awaited(ReflexioClient.update_user_playbook)
    delete_user_playbook = _awaited(ReflexioClient.delete_user_playbook)
    delete_user_playbooks_by_ids = _awaited(ReflexioClient.delete_user_playbooks_by_ids)
    delete_all_user_playbooks = _awaited(ReflexioClient.delete_all_user_playbooks)
    add_agent_playbooks = _awaited(ReflexioClient.add_agent_playbooks)
    get_agent_playbooks = _awaited(ReflexioClient.get_agent_playbooks)
    search_agent_playbooks = _awaited(ReflexioClient.search_agent_playbooks)
    update_agent_playbook = _awaited(ReflexioClient.update_agent_playbook)
    update_agent_playbook_status = _awaited(ReflexioClient.update_agent_playbook_status)
    approve_agent_playbook = _awaited(ReflexioClient.approve_agent_playbook)
    reject_agent_playbook = _awaited(ReflexioClient.reject_agent_playbook)
    delete_agent_playbook = _awaited(ReflexioClient.delete_agent_playbook)
    delete_agent_playbooks_by_ids = _awaited(ReflexioClient.delete_agent_playbooks_by_ids)
    delete_all_agent_playbooks = _awaited(ReflexioClient.delete_all_agent_playbooks)
    delete_all_playbooks = _awaited(ReflexioClient.delete_all_playbooks)
    rerun_profile_generation = _awaited(ReflexioClient.rerun_profile_generation)
    rerun_playbook_generation = _awaited(ReflexioClient.rerun_playbook_generation)
    manual_profile_generation = _awaited(ReflexioClient.manual_profile_generation)
    manual_playbook_generation = _awaited(ReflexioClient.manual_playbook_generation)
    get_operation_status = _awaited(ReflexioClient.get_operation_status)
    cancel_operation = _awaited(ReflexioClient.cancel_operation)
    upgrade_profiles = _awaited(ReflexioClient.upgrade_profiles)
    downgrade_profiles = _awaited(ReflexioClient.downgrade_profiles)
    upgrade_user_playbooks = _awaited(ReflexioClient.upgrade_user_playbooks)
    downgrade_user_playbooks = _awaited(ReflexioClient.downgrade_user_playbooks)
    get_profile_change_log = _awaited(ReflexioClient.get_profile_change_log)
    get_user_playbook_change_log = _awaited(ReflexioClient.get_user_playbook_change_log)
    run_playbook_aggregation = _awaited(ReflexioClient.run_playbook_aggregation)
    submit_playbook_aggregation = _awaited(ReflexioClient.submit_playbook_aggregation)
    get_playbook_aggregation_operation = _awaited(ReflexioClient.get_playbook_aggregation_operation)
    opt_out = _awaited(ReflexioClient.opt_out)
    opt_in = _awaited(ReflexioClient.opt_in)
    opted_out = _awaited(ReflexioClient.opted_out)
    promote_agent_playbooks = _awaited(ReflexioClient.promote_agent_playbooks)
    search = _awaited(ReflexioClient.search)
    search_async = search
    mark_session_outcome = _awaited(ReflexioClient.mark_session_outcome)
    get_session_outcomes = _awaited(ReflexioClient.get_session_outcomes)
    get_learning_use = _awaited(ReflexioClient.get_learning_use)
    experiment_of = _awaited(ReflexioClient.experiment_of)
    explain = _awaited(ReflexioClient.explain)
    retrieval_experiment_report = _awaited(ReflexioClient.retrieval_experiment_report)
    whoami = _awaited(ReflexioClient.whoami)
    get_config = _awaited(ReflexioClient.get_config)
    set_config = _awaited(ReflexioClient.set_config)
    update_config = _awaited(ReflexioClient.update_config)
    flush = _awaited(ReflexioClient.flush)

    recall = recall_async = _on_loop(ReflexioClient.recall_async)
    inject = inject_async = _on_loop(ReflexioClient.inject_async)
