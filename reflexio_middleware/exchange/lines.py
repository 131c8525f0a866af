"""One line of an export: between bytes and the records and values of the store, checked on the way in.

The standard library's JSON is used, not a faster one: it keeps whole numbers of any size.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, Final, Literal, NoReturn

from pydantic import BaseModel, Field, StringConstraints, ValidationError

from reflexio_middleware.recall.render import kind_of
from reflexio_store.models import (
    AgentPlaybook,
    Citation,
    Learning,
    RequestData,
    RetrievedLearning,
    ToolUsed,
    UserActionType,
    UserPlaybook,
    UserProfile,
    problems_of,
)
from reflexio_store.records import MAX_CONTENT, MAX_INTERACTIONS, InteractionRecord, TurnRecord

FORMAT: Final = "reflexio-middleware-export"
VERSION: Final = 1

_LEARNINGS: Final[dict[str, type[Learning]]] = {
    "profile": UserProfile,
    "user_playbook": UserPlaybook,
    "agent_playbook": AgentPlaybook,
}
_LARGEST: Final = 2**63 - 1
_SHOWN: Final = 3

Id = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Text = Annotated[str, Field(max_length=MAX_CONTENT)]
Time = Annotated[int, Field(ge=0, le=_LARGEST)]


class BrokenLineError(Exception):
    """A line cannot be read; its text says why. ``fatal``: no line of the file can be trusted."""

    def __init__(self, reason: str, *, fatal: bool = False) -> None:
        self.fatal = fatal
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Header:
    """The first line: which release wrote the file, when (epoch seconds), and of which user (None: of all)."""

    release: str
    exported_at: int
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """Any other line: its type, what it holds, and how many bytes it has."""

    kind: str
    value: TurnRecord | Learning
    size: int


class _Message(BaseModel):
    """An interaction as it was stored: bounded as on the wire, and nothing in it is put right."""

    role: str = Field(default="", max_length=1000)
    content: Text = ""
    created_at: Time = 0
    tools_used: list[ToolUsed] = Field(default_factory=list, max_length=1000)
    retrieved_learnings: list[RetrievedLearning] = Field(default_factory=list, max_length=1000)
    citations: list[Citation] = Field(default_factory=list, max_length=1000)
    user_action: UserActionType = "none"
    user_action_description: str = Field(default="", max_length=10_000)
    interacted_image_url: str = Field(default="", max_length=2048)
    image_encoding: str = Field(default="", max_length=15_000_000)
    shadow_content: Text = ""
    expert_content: Text = ""


class _Turn(BaseModel):
    """A request with its interactions."""

    request_id: Id
    user_id: str = Field(default="", max_length=1000)
    session_id: Id
    agent_version: str = Field(default="", max_length=1000)
    source: str = Field(default="", max_length=1000)
    created_at_us: Time
    interactions: list[_Message] = Field(default_factory=list, max_length=MAX_INTERACTIONS)
    status: str = Field(default="completed", max_length=1000)
    error: Text = ""
    metadata: dict[str, Any] = Field(default_factory=dict)
    options: dict[str, bool] = Field(default_factory=dict)
    retrieval_experiment_id: str | None = None
    retrieval_experiment_arm: Literal["treatment", "holdout"] | None = None


def _defaults(record: type[TurnRecord] | type[InteractionRecord]) -> dict[str, Any]:
    made = {}
    for item in fields(record):
        if item.default_factory is not MISSING:
            made[item.name] = item.default_factory()
        elif item.default is not MISSING:
            made[item.name] = item.default
    return made


_TURN: Final = _defaults(TurnRecord)
_MESSAGE: Final = _defaults(InteractionRecord)
_MESSAGE_FIELDS: Final = {item.name for item in fields(InteractionRecord)}
_NOTHING: Final = object()


def encode_header(header: Header) -> bytes:
    """The first line of an export."""
    values = {"release": header.release, "exported_at": header.exported_at, "user_id": header.user_id}
    return _line({"format": FORMAT, "version": VERSION, **values})


def encode_request(data: RequestData, created_at_us: int) -> bytes:
    """The line of a request; what has its default value is left out."""
    values = data.request.model_dump(mode="json", exclude={"created_at", "evaluation_only"}, warnings=False)
    values["created_at_us"] = created_at_us
    values["options"] = {"evaluation_only": True} if data.request.evaluation_only else {}
    kept = {name: value for name, value in values.items() if value != _TURN.get(name, _NOTHING)}
    messages = [
        {name: value for name, value in item.items() if value != _MESSAGE.get(name, _NOTHING)}
        for item in (
            message.model_dump(mode="json", include=_MESSAGE_FIELDS, warnings=False) for message in data.interactions
        )
    ]
    return _line({"type": "request", **kept, "interactions": messages})


def encode_learning(learning: Learning) -> bytes:
    """The line of a learning."""
    return _line({"type": kind_of(learning), **learning.model_dump(mode="json", warnings=False)})


def _line(values: dict[str, Any]) -> bytes:
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"  # half a surrogate pair becomes its JSON escape


def read_line(line: bytes, *, first: bool) -> Header | Record:
    """What a line holds.

    Raises:
        BrokenLineError: It is no JSON object, of no known type, or a field of it is unusable.
    """
    values = _decoded(line.removeprefix(b"\xef\xbb\xbf") if first else line)
    if "format" in values and "type" not in values:
        return _header(values, first)
    kind = values.pop("type", None)
    try:
        if kind == "request":
            return Record(kind, _turn(values), len(line))
        if isinstance(kind, str) and kind in _LEARNINGS:
            return Record(kind, _LEARNINGS[kind].model_validate(values), len(line))
    except ValidationError as error:
        problems = [f"{place}: {what}" for place, what in problems_of(error)]
        more = f" (and {len(problems) - _SHOWN} more)" if len(problems) > _SHOWN else ""
        raise BrokenLineError("; ".join(problems[:_SHOWN]) + more) from error
    known = ", ".join(("request", *_LEARNINGS))
    raise BrokenLineError(f"the type {kind!r} is not known; it must be one of {known}")


def _decoded(line: bytes) -> dict[str, Any]:
    try:
        values = json.loads(line.decode("utf-8"), parse_constant=_refuse)
    except UnicodeDecodeError as error:
        raise BrokenLineError(f"is no UTF-8 text (byte {error.start + 1})") from error
    except json.JSONDecodeError as error:
        raise BrokenLineError(f"is no JSON ({error.msg} at character {error.pos + 1})") from error
    except RecursionError as error:
        raise BrokenLineError("is nested too deeply") from error
    except ValueError as error:  # a constant of no JSON, or a number with thousands of digits
        raise BrokenLineError(f"is no JSON that can be kept ({error})") from error
    if not isinstance(values, dict):
        raise BrokenLineError("is no JSON object")
    return values


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def _header(values: dict[str, Any], first: bool) -> Header:
    version = values.get("version")
    if values["format"] != FORMAT:
        raise BrokenLineError(f"the format is not {FORMAT!r}", fatal=True)
    if not isinstance(version, int) or version < 1:
        raise BrokenLineError("the header has no version", fatal=True)
    if version > VERSION:
        written = f"written by a newer release (format version {version}, this one reads {VERSION})"
        raise BrokenLineError(f"{written}: upgrade reflexio-middleware", fatal=True)
    if not first:
        raise BrokenLineError("a second header; import each export by itself")
    return Header(str(values.get("release", "")), values.get("exported_at", 0), values.get("user_id"))


def _turn(values: dict[str, Any]) -> TurnRecord:
    turn = _Turn.model_validate(values)
    return TurnRecord.from_json(turn.model_dump(mode="json", warnings=False))
