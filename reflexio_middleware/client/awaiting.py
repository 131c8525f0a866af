"""Awaiting what a client does in one of its own threads."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Concatenate, ParamSpec, TypeVar

from reflexio_middleware.client.core import Core
from reflexio_store.errors import StoreUnavailableError

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
C = TypeVar("C", bound=Core)


def awaited(
    method: Callable[Concatenate[C, P], R], client_of: Callable[[S], C]
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """``method`` as a coroutine function, for objects that ``client_of`` leads from to their client."""

    async def twin(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        client = client_of(self)
        call = functools.partial(method, client, *args, **kwargs)
        context = contextvars.copy_context()
        future = client._call_threads().submit(context.run, call)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if not given_up(future):
                raise
            raise StoreUnavailableError("This client was closed before the call began: make a new one") from None

    functools.update_wrapper(twin, method)
    return twin


def given_up(future: Future[Any]) -> bool:
    """Whether what the current task awaits was cancelled by a client that closes, and not with the task itself."""
    task = asyncio.current_task()
    return future.cancelled() and not (task and task.cancelling())
