"""``with_memory(model)``: a chat model that sees what was learned, wherever it is used.

The copy's class is a subclass, made once per provider class, of the model's own: it overrides the methods that every
way of calling a chat model ends in (``_generate``, ``_agenerate``, ``_stream``, ``_astream`` and their native event
twins), each only where the provider has one. So ``isinstance`` holds, and ``bind_tools``, ``with_structured_output``,
``batch``, streaming and agents keep the memory; a wrapper around the model would lose it in half of them.
"""

from __future__ import annotations

import functools
import types
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar, cast

from langchain_core.language_models import BaseChatModel
from pydantic import PrivateAttr

from .reading import is_aside
from .recalling import Placement, Recalling, question_in, with_block
from .stack import runs_asking

if TYPE_CHECKING:
    from reflexio_middleware import ReflexioClient

M = TypeVar("M", bound=BaseChatModel)
_SLOT = "_reflexio_recalling"


def with_memory(
    model: M,
    client: ReflexioClient | None = None,
    *,
    user_id: str | None = None,
    agent_version: str | None = None,
    placement: Placement = "turn",
    token_budget: int | None = None,
    timeout: float | None = None,
) -> M:
    """A copy of ``model`` that puts what fits the user's message into its prompt; ``model`` itself stays as it is.

    The block is put in after callbacks were told of the call: they, and what is captured, show the prompt without.
    It stands in a prompt once, also where the agent has a :class:`ReflexioMiddleware`. Within one captured turn the
    same question is recalled once; a summary that a middleware asks for recalls nothing. Given a model that has memory
    already, the new settings replace the old.

    The copy can be pickled; the client is not taken along (the scope's or the default one is used then). With a cache
    of LangChain, answers are cached per user and agent version.

    Args:
        model: Any chat model.
        client: Which memory. None: the scope's client, or the process's default one.
        user_id: Whose learnings, always. None: the config's ``configurable`` or ``metadata``, the turn, the scope.
        agent_version: Of which version; None: likewise.
        placement: ``"turn"``: before the text of the latest user message; ``"system"``: at the end of the system
            message.
        token_budget: Most tokens of the block; None: the setting.
        timeout: Seconds after which the model is called without; None: the setting.

    Raises:
        TypeError: ``model`` is no chat model.
        ValueError: ``placement`` is neither of the two.
    """
    if not isinstance(model, BaseChatModel):
        raise TypeError(f"with_memory() takes a chat model (a BaseChatModel), not {type(model).__name__}")
    recalling = Recalling(client, user_id, agent_version, placement, token_budget, timeout)
    return _remember(model, recalling)


def _remember(model: M, recalling: Recalling) -> M:
    made = model.model_copy()
    object.__setattr__(made, "__class__", _remembering(_provider_of(model)))  # also where the model is frozen
    private = dict(made.__pydantic_private__ or {})
    object.__setattr__(made, "__pydantic_private__", {**private, _SLOT: recalling})
    return made


def _forget(model: BaseChatModel) -> BaseChatModel:
    made = model.model_copy()
    object.__setattr__(made, "__class__", _provider_of(model))
    private = {name: value for name, value in (made.__pydantic_private__ or {}).items() if name != _SLOT}
    object.__setattr__(made, "__pydantic_private__", private or None)
    return made


def _provider_of(model: BaseChatModel) -> type[BaseChatModel]:
    kind = type(model)
    return (
        cast("type[BaseChatModel]", kind.__mro__[1]) if _SLOT in vars(kind).get("__private_attributes__", {}) else kind
    )


def _reduce(self: BaseChatModel) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    how: Recalling = getattr(self, _SLOT)
    return _restore, (
        _forget(self),
        Recalling(None, how.user_id, how.agent_version, how.placement, how.token_budget, how.timeout),
    )


def _restore(model: BaseChatModel, recalling: Recalling) -> BaseChatModel:
    return _remember(model, recalling)


@functools.cache
def _remembering(provider: type[BaseChatModel]) -> type[BaseChatModel]:
    members: dict[str, Any] = {
        "__module__": provider.__module__,
        "__qualname__": provider.__qualname__,
        "__doc__": provider.__doc__,
        _SLOT: PrivateAttr(default_factory=Recalling),
        "__reduce__": _reduce,
        "__reduce_ex__": lambda self, _protocol: _reduce(self),
        "_get_llm_string": _llm_string(provider),
        "_generate": _call(provider._generate),
    }
    ways: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
        "_agenerate": _acall,
        "_stream": _iterate,
        "_astream": _aiterate,
        "_stream_chat_model_events": _iterate,
        "_astream_chat_model_events": _aiterate,
    }
    also = () if provider._stream is BaseChatModel._stream else ("_astream",)  # LangChain's own would leave the task
    for name, way in ways.items():
        own = getattr(provider, name, None)
        if own is not None and (own is not getattr(BaseChatModel, name, None) or name in also):
            members[name] = way(own)
    made: type[BaseChatModel] = types.new_class(
        provider.__name__, (provider,), exec_body=lambda body: body.update(members)
    )
    return made


def _run_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The run of the call of a model; of ``stream()``, which does not pass it on, the stack tells."""
    given = kwargs.get("run_manager") or (args[1] if len(args) > 1 else None)
    return given or next(runs_asking(), None)


def _question(messages: Sequence[Any], run: Any) -> str:
    return "" if is_aside(getattr(run, "metadata", None)) else question_in(messages)


class _Asked(list[Any]):
    """A prompt for which the memory was asked: one way of a provider, or of LangChain, calls another with it, some in a
    thread where nothing tells whose run it is."""


def _with_recall(self: BaseChatModel, messages: Sequence[Any], run: Any) -> Sequence[Any]:
    if isinstance(messages, _Asked):
        return messages
    how: Recalling = getattr(self, _SLOT)
    return _Asked(with_block(messages, how.block(_question(messages, run), run), how.placement))


async def _awith_recall(self: BaseChatModel, messages: Sequence[Any], run: Any) -> Sequence[Any]:
    if isinstance(messages, _Asked):
        return messages
    how: Recalling = getattr(self, _SLOT)
    return _Asked(with_block(messages, await how.ablock(_question(messages, run), run), how.placement))


def _call(own: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(own)
    def method(self: BaseChatModel, messages: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        return own(self, _with_recall(self, messages, _run_of(args, kwargs)), *args, **kwargs)

    return method


def _acall(own: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(own)
    async def method(self: BaseChatModel, messages: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        return await own(self, await _awith_recall(self, messages, _run_of(args, kwargs)), *args, **kwargs)

    return method


def _iterate(own: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(own)
    def method(self: BaseChatModel, messages: Sequence[Any], *args: Any, **kwargs: Any) -> Iterator[Any]:
        yield from own(self, _with_recall(self, messages, _run_of(args, kwargs)), *args, **kwargs)

    return method


def _aiterate(own: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(own)
    async def method(self: BaseChatModel, messages: Sequence[Any], *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async with aclosing(
            own(self, await _awith_recall(self, messages, _run_of(args, kwargs)), *args, **kwargs)
        ) as items:
            async for item in items:
                yield item

    return method


def _llm_string(provider: type[BaseChatModel]) -> Callable[..., str]:
    """The model's key in a cache, with the user and version: an answer that one user's memory shaped is theirs."""

    def method(self: BaseChatModel, *args: Any, **kwargs: Any) -> str:
        how: Recalling = getattr(self, _SLOT)
        where = how.where(next(runs_asking(), None))
        own = provider._get_llm_string(self, *args, **kwargs)
        return f"{own}|reflexio:{(where.user_id, where.agent_version)!r}"

    return method
