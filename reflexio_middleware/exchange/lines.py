"""One line of an export: between bytes and the records and values of the store, checked on the way in.

The standard library's JSON is used, not a faster one: it keeps whole numbers of any size.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from itertools import pairwise
from typing import Annotated, Any, Final, Literal, NoReturn

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, ValidationError, model_validator

from reflexio_store.models import (
    AgentPlaybook,
    Citation,
    RetrievedLearning,
    SessionOutcome,
    ToolUsed,
    UserActionType,
    UserPlaybook,
    UserProfile,
    problems_of,
)
from reflexio_store.moving import (
    RECORD_KINDS,
    Dismissal,
    Erasure,
    Event,
    JobRecord,
    OptOut,
    Record,
    RecordKind,
    Support,
    record_kind,
)
from reflexio_store.records import MAX_CONTENT, MAX_INTERACTIONS, InteractionRecord, TurnRecord
from reflexio_store.terms import Supporter, Usage

FORMAT: Final = "reflexio-middleware-export"
VERSION: Final = 3
"""Versions 1 and 2 are still read. Version 2 had no events, erasures and usage, and did not tell what was unread;
version 1 had no line at the end either, and neither dismissals nor jobs."""

_LARGEST: Final = 2**63 - 1
_SHOWN: Final = 3

Id = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Name = Annotated[str, Field(max_length=1000)]
Text = Annotated[str, Field(max_length=MAX_CONTENT)]
Number = Annotated[int, Field(ge=0, le=_LARGEST)]


class BrokenLineError(Exception):
    """A line cannot be read; its text says why. ``fatal``: no line of the file can be trusted."""

    def __init__(self, reason: str, *, fatal: bool = False) -> None:
        self.fatal = fatal
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Header:
    """The first line: which release wrote the file, when (epoch seconds), of which user (None: of all), and what the
    home could not give."""

    release: str
    exported_at: int
    user_id: str | None = None
    losses: tuple[str, ...] = ()
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class End:
    """The last line: how many records of each kind the export holds."""

    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Line:
    """Any other line: the kind of its record, the record, and how many bytes the line has."""

    kind: str
    record: Record
    size: int


def _fits(model: type[BaseModel]) -> AfterValidator:
    """Checks a JSON object by a model, and keeps it as it is."""

    def check(value: dict[str, Any]) -> dict[str, Any]:
        model.model_validate(value)
        return value

    return AfterValidator(check)


class _Message(BaseModel):
    """An interaction as it was stored: bounded as on the wire, and nothing in it is put right."""

    role: Name = ""
    content: Text = ""
    created_at: Number = 0
    tools_used: list[Annotated[dict[str, Any], _fits(ToolUsed)]] = Field(default_factory=list, max_length=1000)
    retrieved_learnings: list[Annotated[dict[str, Any], _fits(RetrievedLearning)]] = Field(
        default_factory=list, max_length=1000
    )
    citations: list[Annotated[dict[str, Any], _fits(Citation)]] = Field(default_factory=list, max_length=1000)
    user_action: UserActionType = "none"
    user_action_description: str = Field(default="", max_length=10_000)
    interacted_image_url: str = Field(default="", max_length=2048)
    image_encoding: str = Field(default="", max_length=15_000_000)
    shadow_content: Text = ""
    expert_content: Text = ""
    place: int | None = Field(default=None, ge=0, lt=1024)


class _Turn(BaseModel):
    """A request with its interactions."""

    request_id: Id
    user_id: Name = ""
    session_id: Id
    agent_version: Name = ""
    source: Name = ""
    created_at_us: Number
    interactions: list[_Message] = Field(default_factory=list, max_length=MAX_INTERACTIONS)
    status: Name = "completed"
    error: Text = ""
    metadata: dict[str, Any] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)
    retrieval_experiment_id: str | None = None
    retrieval_experiment_arm: Literal["treatment", "holdout"] | None = None
    unread: dict[Name, bool] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _in_order(self) -> _Turn:
        places = [at if item.place is None else item.place for at, item in enumerate(self.interactions)]
        if any(later <= earlier for earlier, later in pairwise(places)):
            raise ValueError("the places of the interactions must rise")
        return self


class _Dismissal(BaseModel):
    user_id: Id
    kind: Literal["profile", "user_playbook"]
    sameness: Id
    request_id: Id
    interaction_index: int = Field(ge=0, le=_LARGEST)


class _Support(BaseModel):
    agent_version: Name
    agent_playbook_id: int = Field(gt=0, le=_LARGEST)
    needs: int = Field(gt=0, le=2**31 - 1)
    wording: Name
    supporters: tuple[tuple[Name, Annotated[int, Field(gt=0, le=_LARGEST)], Id], ...] = ()


class _OptOut(BaseModel):
    user_id: Id
    at_us: Number


class _Erasure(BaseModel):
    digest: Id
    at_us: Number


class _Event(BaseModel):
    user_id: Name
    entry_id: Id
    at_us: Number
    kind: Literal["profile", "user_playbook"]
    learning_id: Id
    action: Id
    content: Text = ""
    other_id: Name = ""
    request_id: Name = ""


class _Usage(BaseModel):
    user_id: Name
    day: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    extractor: Name
    model: Name
    calls: Number = 0
    prompt_tokens: Number = 0
    completion_tokens: Number = 0
    cost_micros: Number = 0


class _Job(BaseModel):
    user_id: Name = ""
    kind: Id
    key: Name
    state: Literal["ready", "done", "dead"] = "ready"
    due_us: Number = 0
    attempts: int = Field(default=0, ge=0, le=2**31 - 1)
    last_error: Text = ""
    payload: dict[str, Any] = Field(default_factory=dict)
    result: dict[str, Any] = Field(default_factory=dict)


_VALUES: Final[dict[str, type[UserProfile] | type[UserPlaybook] | type[AgentPlaybook] | type[SessionOutcome]]] = {
    "profile": UserProfile,
    "user_playbook": UserPlaybook,
    "agent_playbook": AgentPlaybook,
    "outcome": SessionOutcome,
}


def _defaults(record: Any) -> dict[str, Any]:
    made = {}
    for item in fields(record):
        if item.default_factory is not MISSING:
            made[item.name] = item.default_factory()
        elif item.default is not MISSING:
            made[item.name] = item.default
    return made


_PLAIN: Final = (Erasure, Support, Event, Dismissal, OptOut, Usage, JobRecord)
_CHECKS: Final[dict[RecordKind, tuple[type[BaseModel], Callable[..., Record]]]] = {
    "erasure": (_Erasure, Erasure),
    "event": (_Event, Event),
    "dismissal": (_Dismissal, Dismissal),
    "opt_out": (_OptOut, OptOut),
    "usage": (_Usage, Usage),
    "job": (_Job, JobRecord),
}
"""What checks the fields of plain records, and what they make."""
_DEFAULTS: Final = {kind: _defaults(kind) for kind in (TurnRecord, InteractionRecord, *_PLAIN)}
_NOTHING: Final = object()


def encode_header(header: Header) -> bytes:
    """The first line of an export."""
    values: dict[str, Any] = {"release": header.release, "exported_at": header.exported_at, "user_id": header.user_id}
    if header.losses:
        values["losses"] = header.losses
    return _line({"format": FORMAT, "version": header.version, **values})


def encode_end(counts: Mapping[Any, int]) -> bytes:
    """The last line of an export."""
    return _line({"type": "end", "counts": {kind: count for kind, count in counts.items() if count}})


def encode_record(record: Record) -> bytes:
    """The line of a record; of requests, and what is no value of the wire, defaults are left out."""
    kind = record_kind(record)
    if isinstance(record, TurnRecord):
        return _line({"type": kind, **_told(record), "interactions": [_told(item) for item in record.interactions]})
    if isinstance(record, _PLAIN):
        return _line({"type": kind, **_told(record)})
    return _line({"type": kind, **record.model_dump(mode="json", warnings=False, exclude={"support"})})


def _told(record: Any) -> dict[str, Any]:
    defaults = _DEFAULTS[type(record)]
    values = {name: getattr(record, name) for name in record.__dataclass_fields__}
    return {name: value for name, value in values.items() if value != defaults.get(name, _NOTHING)}


def _line(values: dict[str, Any]) -> bytes:
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"  # half a surrogate pair becomes its JSON escape


def read_line(line: bytes, *, first: bool) -> Header | Line | End:
    """What a line holds.

    Raises:
        BrokenLineError: It is no JSON object, of no known type, or a field of it is unusable.
    """
    values = _decoded(line.removeprefix(b"\xef\xbb\xbf") if first else line)
    if "format" in values and "type" not in values:
        return _header(values, first)
    kind = values.pop("type", None)
    if kind == "end":
        return _end(values)
    if kind not in RECORD_KINDS:
        raise BrokenLineError(f"the type {kind!r} is not known; it must be one of {', '.join(RECORD_KINDS)}")
    try:
        return Line(kind, _record(kind, values), len(line))
    except ValidationError as error:
        problems = [f"{place}: {what}" for place, what in problems_of(error)]
        more = f" (and {len(problems) - _SHOWN} more)" if len(problems) > _SHOWN else ""
        raise BrokenLineError("; ".join(problems[:_SHOWN]) + more) from error


def _record(kind: RecordKind, values: dict[str, Any]) -> Record:
    if kind == "request":
        return TurnRecord.from_json(_Turn.model_validate(values).model_dump(warnings=False))
    if kind == "support":
        values = _Support.model_validate(values).model_dump()
        return Support(**{**values, "supporters": tuple(Supporter(*who) for who in values["supporters"])})
    if kind in _CHECKS:
        check, made = _CHECKS[kind]
        return made(**check.model_validate(values).model_dump())
    return _VALUES[kind].model_validate(values)


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
    return Header(str(values.get("release", "")), values.get("exported_at", 0), values.get("user_id"), version=version)


def _end(values: dict[str, Any]) -> End:
    counts = values.get("counts")
    if not isinstance(counts, dict) or not all(type(count) is int for count in counts.values()):
        raise BrokenLineError("counts: must be an object of whole numbers")
    return End(counts)
