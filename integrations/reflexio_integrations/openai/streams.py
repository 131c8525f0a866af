"""Answers that are streamed: heard piece by piece while the caller reads them, unchanged and in time."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

from openai import AsyncStream, Stream

from reflexio_middleware.guard import guard

from .calls import Call
from .said import Pieces
from .turns import TURNS


class Heard:
    """What was heard of one stream. It ends with the answer, at the latest when the stream is closed or collected."""

    __slots__ = ("__weakref__", "_call", "_ended", "_pieces", "reading")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._pieces: Pieces = call.dialect.pieces()
        self._ended = False
        self.reading = False
        TURNS.reading(self)

    def piece(self, item: Any) -> None:
        """The stream gave an item."""
        if not self._ended:
            with guard("reading a streamed answer"):
                if self._pieces.add(item):
                    self._end()

    def failed(self, error: BaseException) -> None:
        """The stream raised."""
        if not self._ended:
            with guard("reading a streamed answer"):
                self._ended = True
                self._call.failed(error, self._pieces.said())

    def closed(self) -> None:
        """The stream gives no more: it is at its end, or nobody reads on."""
        if not self._ended:
            with guard("ending a streamed answer"):
                self._end()

    def _end(self) -> None:
        self._ended = True
        said = self._pieces.said()
        if not said.final:
            said.status = "partial"
        self._call.answered(said)


class _Listener:
    """In the place of a stream's iterator."""

    __slots__ = ("_heard", "_inner")

    def __init__(self, inner: Iterator[Any], heard: Heard) -> None:
        self._inner = inner
        self._heard = heard

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self._heard.reading = True
        try:
            item = next(self._inner)
        except StopIteration:
            self._heard.closed()
            raise
        except BaseException as error:
            self._heard.failed(error)
            raise
        finally:
            self._heard.reading = False
        self._heard.piece(item)
        return item

    def __del__(self) -> None:
        self._heard.closed()


class _AsyncListener:
    """In the place of an async stream's iterator."""

    __slots__ = ("_heard", "_inner")

    def __init__(self, inner: AsyncIterator[Any], heard: Heard) -> None:
        self._inner = inner
        self._heard = heard

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        self._heard.reading = True
        try:
            item = await self._inner.__anext__()
        except StopAsyncIteration:
            self._heard.closed()
            raise
        except BaseException as error:
            self._heard.failed(error)
            raise
        finally:
            self._heard.reading = False
        self._heard.piece(item)
        return item

    def __del__(self) -> None:
        self._heard.closed()


def listen(stream: Any, call: Call) -> None:
    """Hear what ``stream`` gives; the stream stays the object that it is."""
    if isinstance(stream, Stream):
        heard = Heard(call)
        stream._iterator = _Listener(stream._iterator, heard)
        _hear_close(stream.response, heard)
    elif isinstance(stream, AsyncStream):
        heard = Heard(call)
        stream._iterator = _AsyncListener(stream._iterator, heard)
        _hear_aclose(stream.response, heard)


def _hear_close(response: Any, heard: Heard) -> None:
    """The ``.stream()`` helpers close the response, not the stream. The stream itself does so at its end, too."""
    held = weakref.ref(response)  # no cycle: a dropped stream is to end at once

    def close() -> None:
        target = held()
        if target is not None:
            type(target).close(target)
        if not heard.reading:
            heard.closed()

    response.close = close


def _hear_aclose(response: Any, heard: Heard) -> None:
    held = weakref.ref(response)

    async def aclose() -> None:
        target = held()
        if target is not None:
            await type(target).aclose(target)
        if not heard.reading:
            heard.closed()

    response.aclose = aclose
