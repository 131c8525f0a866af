"""Publishing: the request body, its check, and the answer.

``check_publish`` refuses what is wrong as a whole, and says of what it dropped in a bounded list of warnings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError, model_validator

from reflexio_store.errors import InvalidInputError
from reflexio_store.records import MAX_INTERACTIONS

from .interactions import InteractionData, Value

SOURCE_PATTERN: Final = r"^[a-z0-9][a-z0-9._:-]{0,127}$"
"""What a ``source`` looks like when it is not empty (wire fact)."""

NonBlank = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]
Source = Literal[""] | Annotated[str, StringConstraints(pattern=SOURCE_PATTERN)]

_MAX_NAMES, _MAX_WARNINGS = 5, 20
_SILENT = frozenset({"user_id", "session_id"})  # inside an interaction: dropped without a word (wire fact)


class PublishUserInteractionRequest(Value):
    """The body of a publish. Build it with :func:`check_publish`, which names what is wrong where."""

    request_id: NonBlank | None = None
    user_id: NonBlank
    interaction_data_list: list[InteractionData] = Field(min_length=1, max_length=MAX_INTERACTIONS)
    source: Source = ""
    agent_version: str = Field(default="", max_length=1000)
    session_id: NonBlank
    session_finished: bool = False
    skip_aggregation: bool = False
    force_extraction: bool = False
    evaluation_only: bool = False
    override_learning_stall: bool = False
    retrieval_experiment_id: str | None = None
    retrieval_experiment_arm: Literal["treatment", "holdout"] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> PublishUserInteractionRequest:
        if self.evaluation_only and self.force_extraction:
            raise ValueError("evaluation_only and force_extraction exclude each other")
        if (self.retrieval_experiment_id is None) != (self.retrieval_experiment_arm is None):
            raise ValueError("retrieval_experiment_id and retrieval_experiment_arm go together")
        if sum(len(item.retrieved_learnings) for item in self.interaction_data_list) > 1000:
            raise ValueError("more than 1000 retrieved_learnings in one publish")
        return self


class PublishUserInteractionResponse(Value):
    """What became of a publish. The counts are those of the learning that had finished when the call returned."""

    success: bool
    message: str = ""
    warnings: list[str] = Field(default_factory=list)
    request_id: str | None = None
    endpoint_url: str | None = None
    storage_type: str | None = None
    storage_label: str | None = None
    profiles_added: int | None = None
    profiles_updated: int | None = None
    playbooks_added: int | None = None
    playbooks_updated: int | None = None
    learning_status: str | None = None
    learning_reason: str | None = None


def check_publish(
    *, interactions: Sequence[InteractionData | Mapping[str, Any]], **fields: Any
) -> tuple[PublishUserInteractionRequest, list[str]]:
    """Check a publish and return it with its warnings.

    Unknown fields and empty interactions are dropped, each with a warning (5 names a row and 20 rows at most).

    Raises:
        InvalidInputError: Anything else that is wrong; it names each interaction and field, and nothing is stored.
    """
    if isinstance(interactions, (str, bytes, Mapping)) or not isinstance(interactions, Sequence):
        raise InvalidInputError(
            "The publish was refused",
            [("interactions", f"must be a list of interactions, not {type(interactions).__name__}")],
        )
    warnings: list[str] = []
    kept: list[InteractionData] = []
    problems: list[tuple[str, str]] = []
    for index, item in enumerate(interactions):
        try:
            value = _interaction(item, index, warnings)
        except ValidationError as error:
            problems += problems_of(error, f"interactions[{index}]")
            continue
        if value.is_empty:
            warnings.append(f"interactions[{index}] is empty and was dropped")
        else:
            kept.append(value)
    if interactions and not kept and not problems:
        keys = sorted({str(key) for item in interactions if isinstance(item, Mapping) for key in item})[:_MAX_NAMES]
        problems.append(("interactions", f"every interaction is empty (keys seen: {', '.join(keys) or 'none'})"))
    body = None
    try:
        body = _BODY.validate_python(
            {**fields, "interaction_data_list": [item.model_dump() for item in kept] if kept else _FILLER}
        )
    except ValidationError as error:
        problems = problems_of(error) + problems
    if not interactions:
        problems.append(("interactions", f"needs 1 to {MAX_INTERACTIONS} interactions"))
    if problems or body is None:
        raise InvalidInputError("The publish was refused and nothing was stored", problems)
    return body, _bounded(warnings)


_BODY: TypeAdapter[PublishUserInteractionRequest] = TypeAdapter(PublishUserInteractionRequest)
_FILLER: Final = [{"content": "-"}]  # stands in for refused interactions while the other fields are checked


def _interaction(item: object, index: int, warnings: list[str]) -> InteractionData:
    if isinstance(item, Mapping):
        unknown = [str(key) for key in item if key not in InteractionData.model_fields and key not in _SILENT]
        if unknown:
            more = f" and {len(unknown) - _MAX_NAMES} more" if len(unknown) > _MAX_NAMES else ""
            warnings.append(f"interactions[{index}]: unknown fields dropped: {', '.join(unknown[:_MAX_NAMES])}{more}")
        return InteractionData.model_validate(dict(item))
    return InteractionData.model_validate(item, from_attributes=True)


def problems_of(error: ValidationError, prefix: str = "") -> list[tuple[str, str]]:
    """``(place, what)`` pairs of a pydantic error, without its input: a refusal must not repeat a user's words."""
    found: list[tuple[str, str]] = []
    for item in error.errors(include_input=False, include_url=False, include_context=False):
        place = prefix
        for part in item["loc"]:
            if isinstance(part, int):
                place += f"[{part}]"
            elif not part.startswith(("literal[", "constrained-str", "function-")):
                place += f".{part}" if place else part
        what = item["msg"].removeprefix("Value error, ")
        if place.endswith("source") and item["type"] in ("literal_error", "string_pattern_mismatch"):
            what = "must be empty, or lower-case letters, digits and ._:- (at most 128, e.g. 'web_app')"
        if (place or "body", what) not in found:
            found.append((place or "body", what))
    return found


def _bounded(warnings: list[str]) -> list[str]:
    if len(warnings) <= _MAX_WARNINGS:
        return warnings
    return [*warnings[:_MAX_WARNINGS], f"and {len(warnings) - _MAX_WARNINGS} more warnings"]
