"""A stream that a captured function returns: the turn lasts until the stream is read to its end, closed or dropped.

Generators, async generators and coroutines are passed on by one of the same type. A response with a ``body_iterator``
(Starlette, FastAPI) keeps its identity; its body is watched. So does any other iterator that is an instance of a
Python class: its class becomes a subclass of the same name, which listens. What cannot be watched without changing what
it is (``map``, ``zip``, file objects, iterators with slots) is left alone: the turn ends when it is returned.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Hashable, Iterator
from typing import Any, Final, Generic, Protocol, cast

from reflexio_middleware import wrapping
from reflexio_middleware.wrapping import Call

_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: only classes made at run time let their instances change class
_PLACE: Final = "_reflexio_watch"


def watched(value: Any, call: Call) -> Any:
    """``value`` with ``call`` told of what happens to it, if it is a stream (or a coroutine); else None."""
    if isinstance(value, (str, bytes, list, dict, tuple)) or value is None:
        return None
    made = wrapping.watched(value, call)
    if made is not None:
        return made
    body = inspect.getattr_static(value, "body_iterator", None)
    if body is not None and hasattr(type(body), "__aiter__"):
        value.body_iterator = wrapping.watched(body if inspect.isasyncgen(body) else _each(body), call)
        return value
    return value if _listens(value, call) else None


async def _each(body: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    async for item in body:
        yield item


class _Watch:
    """What is told of one watched iterator: each item once, though its methods call each other; its end once."""

    __slots__ = ("_busy", "_call", "_ended")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._busy = self._ended = False

    def begin(self) -> bool:
        """A step begins; False inside of another step, which tells by itself."""
        if self._busy or self._ended:
            return False
        self._busy = True
        self._call.enter()
        return True

    def item(self, item: Any) -> None:
        """The step gave an item."""
        self._leave()
        self._call.yielded(item)

    def end(self, error: BaseException | None) -> None:
        """The step was the last: the stream is at its end (None), failed, or was closed (GeneratorExit)."""
        self._leave()
        self.close(error)

    def close(self, error: BaseException | None) -> None:
        """The stream ended outside of any step."""
        if not self._ended:
            self._ended = True
            self._call.returned(None) if error is None else self._call.failed(error)

    def _leave(self) -> None:
        self._busy = False
        self._call.exit()


class _Watched(Protocol):
    """An iterator that carries its watch."""

    _reflexio_watch: _Watch


def _listens(value: Any, call: Call) -> bool:
    """Make an iterator listen by giving it a subclass of its class; False if it is none, or cannot be changed."""
    cls = type(value)
    if not (hasattr(cls, "__next__") or hasattr(cls, "__anext__")) or not _can_change(cls, value):
        return False
    value.__dict__[_PLACE] = _Watch(call)
    try:
        object.__setattr__(value, "__class__", _listening(cast("Hashable", cls)))
    except TypeError:
        del value.__dict__[_PLACE]
        return False
    return True


def _can_change(cls: type, value: Any) -> bool:
    has_hook = any("__init_subclass__" in vars(base) for base in cls.__mro__ if base not in (object, Generic, Protocol))
    return bool(cls.__flags__ & _HEAP_TYPE) and isinstance(getattr(value, "__dict__", None), dict) and not has_hook


@functools.lru_cache(maxsize=64)
def _listening(cls: Any) -> Any:
    """A subclass of ``cls`` of the same name whose iteration and closing is told to the watch of each instance."""
    made: dict[str, Any] = {"__slots__": (), "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    made["__doc__"] = cls.__doc__
    for name, listener in _LISTENERS.items():
        original = getattr(cls, name, None)
        if callable(original):
            made[name] = listener(original)
    return type(cls)(cls.__name__, (cls,), made)


def _next(original: Any) -> Any:
    def __next__(self: _Watched) -> Any:  # noqa: N807
        watch = self._reflexio_watch
        if not watch.begin():
            return original(self)
        try:
            item = original(self)
        except BaseException as error:
            watch.end(None if isinstance(error, StopIteration) else error)
            raise
        watch.item(item)
        return item

    return __next__


def _anext(original: Any) -> Any:
    async def __anext__(self: _Watched) -> Any:  # noqa: N807
        watch = self._reflexio_watch
        if not watch.begin():
            return await original(self)
        try:
            item = await original(self)
        except BaseException as error:
            watch.end(None if isinstance(error, StopAsyncIteration) else error)
            raise
        watch.item(item)
        return item

    return __anext__


def _iter(original: Any) -> Any:
    def __iter__(self: _Watched) -> Iterator[Any]:  # noqa: N807
        inner: Iterator[Any] = original(self)
        return inner if cast("object", inner) is self else _steps(inner, self._reflexio_watch)

    return __iter__


def _steps(inner: Iterator[Any], watch: _Watch) -> Iterator[Any]:
    """The items of an iterator that is read in the place of the stream."""
    while True:
        first = watch.begin()
        try:
            item = next(inner)
        except BaseException as error:
            if first:
                watch.end(None if isinstance(error, StopIteration) else error)
            if isinstance(error, StopIteration):
                return
            raise
        if first:
            watch.item(item)
        try:
            yield item
        except GeneratorExit as error:
            getattr(inner, "close", int)()
            watch.close(error)
            raise


def _aiter(original: Any) -> Any:
    def __aiter__(self: _Watched) -> AsyncIterator[Any]:  # noqa: N807
        inner: AsyncIterator[Any] = original(self)
        return inner if cast("object", inner) is self else _async_steps(inner, self._reflexio_watch)

    return __aiter__


async def _async_steps(inner: AsyncIterator[Any], watch: _Watch) -> AsyncIterator[Any]:
    while True:
        first = watch.begin()
        try:
            item = await anext(inner)
        except BaseException as error:
            if first:
                watch.end(None if isinstance(error, StopAsyncIteration) else error)
            if isinstance(error, StopAsyncIteration):
                return
            raise
        if first:
            watch.item(item)
        yield item


def _close(original: Any) -> Any:
    if inspect.iscoroutinefunction(original):

        async def aclose(self: _Watched, *args: Any, **kwargs: Any) -> Any:
            try:
                return await original(self, *args, **kwargs)
            finally:
                self._reflexio_watch.close(GeneratorExit())

        return aclose

    def close(self: _Watched, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        finally:
            self._reflexio_watch.close(GeneratorExit())

    return close


_LISTENERS: Final = {
    "__next__": _next, "__anext__": _anext, "__iter__": _iter, "__aiter__": _aiter,
    "close": _close, "aclose": _close, "__exit__": _close, "__aexit__": _close,
}  # fmt: skip
