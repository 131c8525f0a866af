"""A JSON-ready copy of whatever an agent hands over: never consumed, never deep-copied, never an exception."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Final

import orjson

MAX_DEPTH: Final = 20
MAX_ITEMS: Final = 10_000
MAX_TEXT: Final = 1_000_000
"""Most characters kept of one text (wire fact: ``content`` holds 1,000,000)."""


def snapshot(value: Any) -> Any:
    """``value`` as JSON-like data that later changes to it cannot reach.

    Plain JSON data goes the fast way; of the rest, what cannot be represented becomes a marker such as ``<socket>``.
    """
    if value is None or isinstance(value, (bool, int, float)):
        return _number(value)
    if isinstance(value, str):
        return cut(value)
    try:
        return orjson.loads(orjson.dumps(value, default=_known, option=orjson.OPT_NON_STR_KEYS))
    except (TypeError, ValueError, RecursionError):
        return _walk(value, 0, [MAX_ITEMS], ())


def cut(text: str, limit: int = MAX_TEXT) -> str:
    """``text``, cut to ``limit`` characters with a marker that gives its length; lone surrogates become ``?``."""
    if len(text) > limit:
        mark = f"… [cut: {len(text)} characters]"
        text = text[: limit - len(mark)] + mark
    return text if text.isascii() or _encodable(text) else text.encode("utf-8", "replace").decode("utf-8")


def as_text(value: Any) -> str:
    """``value`` as the text of a message: a string as it is, anything else as JSON."""
    if isinstance(value, str):
        return cut(str.__str__(value))
    data = snapshot(value)
    return data if isinstance(data, str) else cut(orjson.dumps(data).decode())


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _number(value: float | None) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        return str(value) if value.bit_length() < 4000 else f"<int of {value.bit_length()} bits>"
    return value


def _known(value: Any) -> Any:
    dump = getattr(type(value), "model_dump", None)
    if dump is not None:
        return dump(value, mode="json", warnings=False)
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    return _marker(value)


def _marker(value: Any) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    return f"<{type(value).__name__}>"


def _walk(value: Any, depth: int, budget: list[int], path: tuple[int, ...]) -> Any:
    budget[0] -= 1
    if budget[0] < 0 or depth > MAX_DEPTH:
        return "<too much to keep>"
    if id(value) in path:
        return "<cycle>"
    if value is None or isinstance(value, (bool, int, float)):
        return _number(value)
    if isinstance(value, str):
        return cut(str.__str__(value))
    path = (*path, id(value))
    try:
        if isinstance(value, Mapping):
            return {cut(str(key), 1000): _walk(item, depth + 1, budget, path) for key, item in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [_walk(item, depth + 1, budget, path) for item in value]
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = [field.name for field in dataclasses.fields(value)]
            return {name: _walk(getattr(value, name, None), depth + 1, budget, path) for name in names}
        known = _known(value)
        return known if isinstance(known, str) else _walk(known, depth + 1, budget, path)
    except Exception as error:  # noqa: BLE001 - the value's own code ran and failed; it must not reach the agent
        return f"<{type(value).__name__}: {type(error).__name__}>"
