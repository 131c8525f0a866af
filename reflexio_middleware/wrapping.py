"""Wrap a callable of any kind (function, coroutine function, generator, async generator) in the same kind.

What happens around the call is told by a :class:`Call`, made anew each time. ``enter`` and ``exit`` surround each
stretch in which the wrapped body runs: once for a function, once per step for a generator, so that nothing stays
set in the consumer's context between two steps (PEP 380 forwarding; async twin per PEP 525).
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, Final, ParamSpec, Protocol, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")


class Call(Protocol):
    """What goes on around one call. No method may raise."""

    def enter(self) -> None:
        """The body is about to run, or to go on."""
        ...

    def exit(self) -> None:
        """The body has stopped running: it returned, raised or yielded."""
        ...

    def yielded(self, item: Any) -> None:
        """A generator gave an item."""
        ...

    def returned(self, result: Any) -> None:
        """A generator ended with its return value."""
        ...

    def gave(self, result: Any) -> Any:
        """A function or coroutine ended with a result; what the caller gets for it. That is the result itself, unless
        it is a stream that is watched from here on (then the call ends with the stream)."""
        ...

    def failed(self, error: BaseException) -> None:
        """The call ended with an exception; GeneratorExit means that the consumer closed the generator."""
        ...


class _Unwatched:
    """Around a call of which nobody wants to know."""

    __slots__ = ()

    def enter(self) -> None: ...
    def exit(self) -> None: ...
    def yielded(self, item: Any) -> None: ...
    def returned(self, result: Any) -> None: ...
    def gave(self, result: Any) -> Any:
        return result

    def failed(self, error: BaseException) -> None: ...


UNWATCHED: Final[Call] = _Unwatched()

Begin = Callable[[tuple[Any, ...], dict[str, Any]], Call]


Arguments = dict[str, Any]
Supply = Callable[[tuple[Any, ...], Arguments], Arguments]
SupplyLater = Callable[[tuple[Any, ...], Arguments], Coroutine[Any, Any, Arguments]]


def wrap(fn: Callable[P, R], begin: Begin) -> Callable[P, R]:
    """A callable of the same kind as ``fn``, with its signature and results, that tells ``begin(args, kwargs)``'s
    :class:`Call` what happens.

    ``staticmethod`` and ``classmethod`` objects are wrapped inside; callable objects become functions.
    """
    if isinstance(fn, (staticmethod, classmethod)):
        return cast("Callable[P, R]", type(fn)(wrap(fn.__func__, begin)))
    target = _routine(fn)
    if inspect.isasyncgenfunction(target):
        wrapper: Callable[..., Any] = _async_generator(fn, begin)
    elif inspect.isgeneratorfunction(target):
        wrapper = _generator(fn, begin)
    elif inspect.iscoroutinefunction(target):
        wrapper = _coroutine(fn, begin)
    else:
        wrapper = _function(fn, begin)
    return cast("Callable[P, R]", functools.update_wrapper(wrapper, cast("Callable[..., Any]", fn)))


def supplied(fn: Callable[P, R], supply: Supply, supply_later: SupplyLater) -> Callable[P, R]:
    """A callable of the same kind as ``fn`` that passes it further keyword arguments: those that ``supply(args,
    kwargs)`` gives, or in asynchronous code ``await supply_later(args, kwargs)``. Neither may raise."""
    if isinstance(fn, (staticmethod, classmethod)):
        return cast("Callable[P, R]", type(fn)(supplied(fn.__func__, supply, supply_later)))
    target = _routine(fn)
    call: Callable[..., Any] = fn

    def function(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **{**kwargs, **supply(args, kwargs)})

    def generator(*args: Any, **kwargs: Any) -> Any:
        return (yield from call(*args, **{**kwargs, **supply(args, kwargs)}))

    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        return await call(*args, **{**kwargs, **(await supply_later(args, kwargs))})

    async def later(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **{**kwargs, **(await supply_later(args, kwargs))})

    made: Callable[..., Any] = function
    if inspect.isasyncgenfunction(target):
        made = _async_generator(later, lambda _args, _kwargs: UNWATCHED)
    elif inspect.isgeneratorfunction(target):
        made = generator
    elif inspect.iscoroutinefunction(target):
        made = coroutine
    return cast("Callable[P, R]", functools.update_wrapper(made, call))


def _routine(fn: Any) -> Any:
    """What tells of which kind a callable is."""
    if not callable(fn) or isinstance(fn, type):
        raise TypeError(f"expected a function, method or callable object, not {fn!r}")
    return fn if inspect.isroutine(fn) or isinstance(fn, functools.partial) else type(fn).__call__


def _function(fn: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = begin(args, kwargs)
        call.enter()
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            call.exit()
            call.failed(error)
            raise
        call.exit()
        return call.gave(result)

    return wrapper


def _coroutine(fn: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = begin(args, kwargs)
        call.enter()
        try:
            result = await fn(*args, **kwargs)
        except BaseException as error:
            call.exit()
            call.failed(error)
            raise
        call.exit()
        return call.gave(result)

    return wrapper


def _generator(fn: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        call = begin(args, kwargs)
        inner = _made(fn, args, kwargs, call)
        sent: Any = None
        thrown: BaseException | None = None
        while True:
            call.enter()
            try:
                item = inner.send(sent) if thrown is None else inner.throw(thrown)
            except StopIteration as stop:
                call.exit()
                call.returned(stop.value)
                return stop.value
            except BaseException as error:
                call.exit()
                call.failed(error)
                thrown = None  # its traceback holds this frame: a circle that only the garbage collector would end
                raise
            call.exit()
            call.yielded(item)
            sent = thrown = None
            try:
                sent = yield item
            except BaseException as error:  # noqa: BLE001 - close() and throw() are the body's to answer
                thrown = error

    return wrapper


def _async_generator(fn: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call = begin(args, kwargs)
        inner = _made(fn, args, kwargs, call)
        if inspect.iscoroutine(inner):  # it is made by asynchronous work (see supplied())
            inner = await inner
        sent: Any = None
        thrown: BaseException | None = None
        while True:
            call.enter()
            try:
                item = await (inner.asend(sent) if thrown is None else inner.athrow(thrown))
            except StopAsyncIteration:
                call.exit()
                call.returned(None)
                return
            except BaseException as error:
                call.exit()
                call.failed(GeneratorExit() if error is thrown and _is_cancelled(error) else error)
                thrown = None  # its traceback holds this frame: a circle that only the garbage collector would end
                raise
            call.exit()
            call.yielded(item)
            sent = thrown = None
            try:
                sent = yield item
            except BaseException as error:  # noqa: BLE001 - aclose() and athrow() are the body's to answer
                thrown = error

    return wrapper


def _is_cancelled(error: BaseException) -> bool:
    """Whether a task was cancelled. Thrown into a stream between two steps, it means no more than that the stream was
    closed: an event loop that ends cancels the task that it made for closing."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and isinstance(error, asyncio.CancelledError)


def _made(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], call: Call) -> Any:
    try:
        return fn(*args, **kwargs)
    except BaseException as error:
        call.failed(error)
        raise


def watched(value: R, call: Call) -> R | None:
    """A generator, async generator or coroutine in the place of one, which tells ``call`` what happens to it; None for
    any other value."""
    made: Any = None
    if inspect.isgenerator(value):
        made = _generator(lambda: value, lambda _args, _kwargs: call)()
    elif inspect.isasyncgen(value):
        made = _async_generator(lambda: value, lambda _args, _kwargs: call)()
    elif inspect.iscoroutine(value):
        made = _coroutine(lambda: value, lambda _args, _kwargs: call)()
    if made is not None:
        for name in ("__name__", "__qualname__"):
            setattr(made, name, getattr(value, name))
    return cast("R | None", made)
