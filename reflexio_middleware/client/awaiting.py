"""Awaiting what a client does in one of its own threads."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from reflexio_middleware.client.core import Core

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
        return await asyncio.wrap_future(client._call_threads().submit(context.run, call))

    functools.update_wrapper(twin, method)
    return twin
