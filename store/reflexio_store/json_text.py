"""JSON as it is stored. Whatever an agent's tools produced must not stop a turn from being stored."""

from __future__ import annotations

import json
from typing import Any

import orjson

_OPTIONS = orjson.OPT_NON_STR_KEYS
_LEAST, _BEYOND = -(2**63), 2**64
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
    """The value with every text in it made storable, and of numbers what JSON has no form for as None; whole numbers
    beyond 64 bits as text, as they would be read back as rounded ones."""
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, dict):
        return {storable_text(str(key)): storable_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [storable_json(item) for item in value]
    if (isinstance(value, float) and value != value) or value in (float("inf"), float("-inf")):
        return None
    if isinstance(value, int) and not _LEAST <= value < _BEYOND:
        return str(value)
    return value
