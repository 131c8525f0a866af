"""JSON as it is stored. Whatever an agent's tools produced must not stop a turn from being stored."""

from __future__ import annotations

import json
from typing import Any

import orjson

_OPTIONS = orjson.OPT_NON_STR_KEYS
_LEAST, _BEYOND = -(2**63), 2**64
_MOST_BITS = 4000
_ESCAPED_NUL = "\\u0000"


def dumps(value: Any) -> str:
    """JSON text of a value; half surrogate pairs become U+FFFD, and what JSON has no form for becomes its ``str``."""
    try:
        return orjson.dumps(value, option=_OPTIONS).decode()
    except TypeError:
        return json.dumps(storable_json(value), default=str, ensure_ascii=False)


def dumps_for_jsonb(value: Any) -> str:
    """JSON text that PostgreSQL takes: NUL characters, too, become U+FFFD."""
    text = dumps(value)
    return dumps(storable_json(value)) if _ESCAPED_NUL in text else text


def storable_text(text: str) -> str:
    """The text with surrogate pairs joined, and halves of them and NUL characters replaced: any database holds it."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\x00", "\ufffd")


def storable_json(value: Any) -> Any:
    """The value with every text and whole number in it made storable, and of others what JSON has no form for as
    None."""
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, dict):
        return {storable_text(str(key)): storable_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [storable_json(item) for item in value]
    if (isinstance(value, float) and value != value) or value in (float("inf"), float("-inf")):
        return None
    return storable_whole(value) if isinstance(value, int) else value


def storable_whole(value: int) -> int | str:
    """A whole number; beyond 64 bits as text, as it would be read back as a rounded one, and of 1,200 digits or more as
    a marker, as Python may refuse to write it."""
    if _LEAST <= value < _BEYOND:
        return value
    return str(value) if value.bit_length() < _MOST_BITS else f"<int of {value.bit_length()} bits>"
