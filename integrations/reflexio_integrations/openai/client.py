"""``wrap(client)``: a client of the same type, of which every call is captured and sees what was learned.

The copy's class is a subclass, made once per class of client, of the client's own. It overrides ``request``, in which
every way of calling ends once per call (retries are inside): ``create``, ``parse``, streams, the ``.stream()`` helpers
and raw responses, of the resources and of the copies that ``with_options()`` makes.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from openai import AsyncOpenAI, OpenAI

from reflexio_middleware.guard import guard

from .calls import Call, call_of
from .recalling import Memory
from .said import Placement
from .streams import listen
from .turns import finish_at_exit

if TYPE_CHECKING:
    from reflexio_middleware import AsyncReflexioClient, ReflexioClient

C = TypeVar("C", bound="OpenAI | AsyncOpenAI")
_SLOT = "_reflexio_memory"
_MARK = "_reflexio_provider"


def wrap(
    client: C,
    *,
    reflexio: ReflexioClient | AsyncReflexioClient | None = None,
    recall: bool = True,
    placement: Placement = "turn",
    session_id: str | None = None,
    user_id: str | None = None,
    agent_version: str | None = None,
    source: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    token_budget: int | None = None,
    timeout: float | None = None,
) -> C:
    """A copy of ``client`` whose chat completions and responses are captured, and see what was learned.

    The copy is a client of the same type and shares the connections; ``client`` itself stays as it is. So do results,
    streams and exceptions: they are what the client gives. Given a wrapped client, the new settings replace the old.

    Inside a turn (``@capture``, ``turn()``) the calls belong to it. Outside, each call is a turn; a call that brings
    the results of tools goes on with the turn of the call that asked for them.

    Args:
        client: ``OpenAI``, ``AsyncOpenAI``, ``AzureOpenAI`` or ``AsyncAzureOpenAI``, or of a class made from these.
        reflexio: Which memory. None: the scope's client, or the process's default one.
        recall: Whether to put into prompts what fits them.
        placement: Where to: ``"turn"``: before the text of the latest user message; ``"system"``: at the end of the
            system message, or of the ``instructions``.
        session_id: The conversation. None: the request's ``metadata``, the scope, the response that it goes on from.
        user_id: Whose calls these are. None: the request's ``metadata``, the scope.
        agent_version: Which version of the agent; None: likewise.
        source: Where the turns come from; None: the scope's.
        metadata: Free data kept with each request.
        token_budget: Most tokens of the block; None: the setting.
        timeout: Seconds after which the model is called without it; None: the setting.

    Raises:
        MissingExtraError: The ``openai`` package is missing (on import of this function).
        TypeError: ``client`` is none of these clients.
        ValueError: ``placement`` is neither of the two.
    """
    if not isinstance(client, (OpenAI, AsyncOpenAI)):
        raise TypeError(f"wrap() takes a client of the openai package, not {type(client).__name__}")
    memory = Memory(
        reflexio, recall, placement, session_id, user_id, agent_version, source, metadata, token_budget, timeout
    )
    finish_at_exit()
    return _remember(client, memory)


def _remember(client: C, memory: Memory) -> C:
    provider = vars(type(client)).get(_MARK, type(client))
    made: Any = object.__new__(_remembering(provider))
    held = {name: value for name, value in vars(client).items() if not _is_resource(provider, name)}
    made.__dict__.update(held, **{_SLOT: memory})
    return cast("C", made)


def _is_resource(provider: type, name: str) -> bool:
    """Whether an attribute was made from the client when first asked for, and so calls that very client."""
    return isinstance(inspect.getattr_static(provider, name, None), functools.cached_property)


@functools.cache
def _remembering(provider: type) -> type:
    def copied(self: Any, *args: Any, **kwargs: Any) -> Any:
        made = provider.copy(self, *args, **kwargs)  # type: ignore[attr-defined]
        made.__dict__[_SLOT] = self.__dict__[_SLOT]
        return made

    is_async = issubclass(provider, AsyncOpenAI)
    members: dict[str, Any] = {
        "__module__": provider.__module__,
        "__qualname__": provider.__qualname__,
        "__doc__": provider.__doc__,
        _MARK: provider,
        "request": (_async_request if is_async else _request)(provider),
        "copy": copied,
        "with_options": copied,
    }
    return types.new_class(provider.__name__, (provider,), exec_body=lambda body: body.update(members))


def _request(provider: Any) -> Any:
    @functools.wraps(provider.request)
    def request(self: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        call = call_of(self.__dict__[_SLOT], options)
        if call is None:
            return provider.request(self, cast_to, options, *args, **kwargs)
        try:
            options = _with_recall(call, options)
            result = provider.request(self, cast_to, options, *args, **kwargs)
        except BaseException as error:
            with guard("noting a failed call"):
                call.failed(error)
            raise
        _listen(call, result, is_stream=bool(kwargs.get("stream")))
        return result

    return request


def _async_request(provider: Any) -> Any:
    @functools.wraps(provider.request)
    async def request(self: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        call = call_of(self.__dict__[_SLOT], options)
        if call is None:
            return await provider.request(self, cast_to, options, *args, **kwargs)
        try:
            options = await _with_recall_async(call, options)
            result = await provider.request(self, cast_to, options, *args, **kwargs)
        except BaseException as error:
            with guard("noting a failed call"):
                call.failed(error)
            raise
        _listen(call, result, is_stream=bool(kwargs.get("stream")))
        return result

    return request


def _with_recall(call: Call, options: Any) -> Any:
    with guard("recalling for a model"):
        found = call.question and (call.question.known() or call.question.ask())
        return _with_block(call, options, found.text if found else "")
    return options


async def _with_recall_async(call: Call, options: Any) -> Any:
    with guard("recalling for a model"):
        found = call.question and (call.question.known() or await call.question.ask_async())
        return _with_block(call, options, found.text if found else "")
    return options


def _with_block(call: Call, options: Any, block: str) -> Any:
    return options.model_copy(update={"json_data": call.body_with(block)}) if block else options


def _listen(call: Call, result: Any, *, is_stream: bool) -> None:
    """Hear the answer: at once, or while a stream is read."""
    with guard("reading an answer"):
        raw = getattr(result, "http_response", result if hasattr(result, "status_code") else None)
        if is_stream:
            listen(result if raw is None else result.parse(), call)  # parsed once: the caller is given the same
        else:
            call.answered(call.dialect.answer(result if raw is None else raw.json()))
