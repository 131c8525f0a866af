"""What a model may answer: the schema it is given, and the reading of what it wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reflexio_store.models import ProfileTimeToLive

_FENCED: Final = re.compile(r"```(?:json)?\s*(\{.*?\})\s*```", re.DOTALL | re.IGNORECASE)
_MAX_OPENINGS: Final = 50


class ProposedChange(BaseModel):
    """One change as a model writes it. ``turns`` are the numbers of the turns that it cites."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    action: Literal["add", "update", "retire"]
    kind: Literal["profile", "user_playbook"]
    target: str = ""
    content: str = Field(default="", max_length=2000)
    trigger: str = Field(default="", max_length=1000)
    rationale: str = Field(default="", max_length=2000)
    standing: bool = False
    ttl: ProfileTimeToLive = ProfileTimeToLive.INFINITY
    turns: list[int] = Field(default_factory=list, max_length=100)
    definition: str = ""


class Answer(BaseModel):
    """The whole answer of a model."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    changes: list[ProposedChange]


def answer_schema(definitions: Sequence[str] = ()) -> dict[str, Any]:
    """The JSON schema of an answer in the strict form: every field required, nothing else allowed.

    With names of ``definitions``, each change has to say which of them it belongs to.
    """
    text = {"type": "string"}
    properties: dict[str, Any] = {
        "action": {"type": "string", "enum": ["add", "update", "retire"]},
        "kind": {"type": "string", "enum": ["profile", "user_playbook"]},
        "target": text,
        "content": text,
        "trigger": text,
        "rationale": text,
        "standing": {"type": "boolean"},
        "ttl": {"type": "string", "enum": [ttl.value for ttl in ProfileTimeToLive]},
        "turns": {"type": "array", "items": {"type": "integer"}},
    }
    if definitions:
        properties["definition"] = {"type": "string", "enum": list(definitions)}
    return _strict({"changes": {"type": "array", "items": _strict(properties)}})


def _strict(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def read_answer(text: str) -> Answer:
    """The answer that ``text`` holds: bare, fenced, or somewhere in prose.

    Raises:
        ValueError: There is no JSON object of the right form in it; the message says what is wrong.
    """
    problem = "there is no JSON object in it"
    for candidate in _objects(text):
        if "changes" not in candidate:
            problem = "the JSON object has no field `changes`"
            continue
        try:
            return Answer.model_validate(candidate)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    raise ValueError(problem)


def _objects(text: str) -> list[dict[str, Any]]:
    """The JSON objects in ``text``: the whole of it, else what is fenced, else the first that can be read."""
    for candidate in (text, *_FENCED.findall(text)):
        value = _loaded(candidate)
        if isinstance(value, dict):
            return [value]
    decoder = json.JSONDecoder()
    found: list[dict[str, Any]] = []
    place = -1
    for _ in range(_MAX_OPENINGS):
        place = text.find("{", place + 1)
        if place < 0:
            break
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found.append(value)
            place = end - 1
    return found


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
