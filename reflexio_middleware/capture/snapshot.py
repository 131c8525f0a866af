"""A JSON-ready copy of whatever an agent hands over: never consumed, never deep-copied, never an exception."""

from __future__ import annotations

import binascii
import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from reflexio_store.json_text import storable_whole

MAX_DEPTH: Final = 20
MAX_ITEMS: Final = 10_000
_MAX_HASHED: Final = 10_000_000
_DATA_URI_MARK: Final = ";base64,"
_DATA_URI: Final = re.compile(r"data:([\w.+/-]{0,100})(?:;[\w=.+-]{1,100}){0,4};base64,([A-Za-z0-9+/=_-]*)")
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
    data = _encoded(value)
    if data is None:
        return _walk(value, 0, [MAX_ITEMS], ())
    return orjson.loads(data) if _DATA_URI_MARK.encode() not in data else _without_media(orjson.loads(data))


def _encoded(value: Any) -> bytes | None:
    """``value`` as JSON by the fast way; None if that cannot represent it."""
    try:
        return orjson.dumps(value, default=_known, option=orjson.OPT_NON_STR_KEYS)
    except Exception:  # noqa: BLE001 - a cycle, a depth, or the value's own code: the slow way leaves markers
        return None


def cut(text: str, limit: int = MAX_TEXT) -> str:
    """``text``, cut to ``limit`` characters with a marker that gives its length and hash.

    Lone surrogates become ``?``, and media in it (``data:`` URIs) are named by type, size and hash.
    The hash is left out of texts of more than ten million characters: it would hold up the agent.
    """
    if _DATA_URI_MARK in text:
        text = _without_media(text)
    if len(text) > limit:
        what = f", {digest(text.encode('utf-8', 'replace'))}" if len(text) <= _MAX_HASHED else ""
        text = mark_cut(text, len(text), limit, what)
    return text if text.isascii() or _encodable(text) else text.encode("utf-8", "replace").decode("utf-8")


def mark_cut(text: str, length: int, limit: int = MAX_TEXT, more: str = "") -> str:
    """The beginning of a text of ``length`` characters, with a marker if that is beyond ``limit``."""
    if length <= limit:
        return text
    mark = f"… [cut: {length} characters{more}]"
    return text[: limit - len(mark)] + mark


def digest(data: bytes) -> str:
    """``data``, named by the beginning of its SHA-256."""
    import hashlib  # here, so that importing the package stays quick

    return f"sha256 {hashlib.sha256(data).hexdigest()[:16]}"


def field_of(value: Any, name: str, default: Any = None) -> Any:
    """A key of a mapping or an attribute of an object; ``default`` where there is none, or its own code raises."""
    try:
        return value.get(name, default) if isinstance(value, Mapping) else getattr(value, name, default)
    except Exception:  # noqa: BLE001 - the value's own code ran and failed; it must not reach the agent
        return default


def held_in(value: Any) -> Mapping[str, Any]:
    """What a mapping, or a data object (a dataclass, a Pydantic model, a named tuple), holds by name; of any other
    value nothing. Only declared fields are read, where they are kept: no property runs, and no record is loaded."""
    if isinstance(value, Mapping):
        return value
    kind = type(value)
    declared = "_fields" if isinstance(value, tuple) else "__dataclass_fields__"
    names = field_of(kind, declared) or field_of(kind, "model_fields")
    if not isinstance(names, (Mapping, tuple)):
        return {}
    kept = None if isinstance(value, tuple) else field_of(value, "__dict__")
    return {name: field_of(value, name) if not kept else kept[name] for name in names if not kept or name in kept}


def as_text(value: Any) -> str:
    """``value`` as the text of a message: a string as it is, anything else as JSON."""
    if isinstance(value, str):
        return cut(str.__str__(value))
    encoded = _encoded(value) if isinstance(value, (dict, list)) else None
    if encoded is not None:
        return cut(encoded.decode())
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
    return storable_whole(value) if isinstance(value, int) else value


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
        return f"<{describe_bytes(bytes(value))}>"
    return f"<{type(value).__name__}>"


def describe_bytes(data: bytes) -> str:
    """Size and hash of ``data``, which is not kept itself."""
    return f"{len(data)} bytes" + (f", {digest(data)}" if len(data) <= _MAX_HASHED else "")


def describe_base64(text: str) -> str:
    """Size and hash of the bytes that ``text`` encodes; its length if it is no base64."""
    if len(text) > _MAX_HASHED:
        return f"{len(text)} characters"
    try:
        return describe_bytes(binascii.a2b_base64(text))
    except ValueError:
        return f"{len(text)} characters"


def _without_media(value: Any) -> Any:
    if isinstance(value, str):
        return _DATA_URI.sub(lambda found: f"[{found[1] or 'data'}: {describe_base64(found[2])}]", value)
    if isinstance(value, dict):
        return {key: _without_media(item) for key, item in value.items()}
    return [_without_media(item) for item in value] if isinstance(value, list) else value


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
