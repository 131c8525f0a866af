"""Requests, their interactions, and the sessions that group them.

Names, defaults, bounds and enum values are those of the public Reflexio wire format (server 0.2.32, client 0.2.16).
Fields marked *ours* are additions that a public client ignores.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from reflexio_store.records import MAX_CONTENT

UserActionType = Literal["none", "click", "scroll", "type"]
LearningKind = Literal["profile", "user_playbook", "agent_playbook"]
Content = Annotated[str, Field(max_length=MAX_CONTENT)]

_METADATA_HOSTS = ("169.254.169.254", "metadata.google.internal", "100.100.100.200", "[fd00:ec2::254]")


class Value(BaseModel):
    """Base of all values: frozen, unknown fields ignored, enums by value."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class ToolUsed(Value):
    """One tool call of an interaction.

    ``tool_data`` is free; capture writes ``{"input": ..., "output": ...}``. ``status`` is any text, cut at 100
    characters; capture writes ``"success"`` or ``"error"``.
    """

    tool_name: str
    tool_data: dict[str, Any] = Field(default_factory=dict)
    status: str = ""

    @field_validator("status", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> str:
        return ("" if value is None else str(value))[:100]


class Citation(Value):
    """A learning that an answer cites."""

    kind: Literal["playbook", "profile", "user_playbook", "agent_playbook"]
    real_id: str
    tag: str = ""
    title: str = ""


class RetrievedLearning(Value):
    """A learning that recall put into the prompt of a turn.

    *Ours*: the ``tag`` that it had there (``"p1"``), and why it was chosen: its ``score``, ``coverage`` and
    ``similarity`` (see :class:`~reflexio_middleware.recall.choose.Chosen`) and the ``reason`` in words.
    """

    kind: LearningKind
    learning_id: str = Field(min_length=1, max_length=1000)
    exposure_receipt: str | None = None
    tag: str = Field(default="", max_length=20)
    score: float | None = None
    coverage: float | None = None
    similarity: float | None = None
    reason: str = Field(default="", max_length=1000)


class InteractionData(Value):
    """One message as it is published. ``created_at`` is in epoch seconds; milliseconds are recognised and divided.

    ``role`` is free text, kept as given; an empty one becomes ``"User"``.
    """

    created_at: int = Field(default_factory=lambda: int(time.time()), ge=0, lt=2**53)
    role: str = Field(default="User", max_length=1000)
    content: Content = ""
    shadow_content: Content = ""
    expert_content: Content = ""
    user_action: UserActionType = "none"
    user_action_description: str = Field(default="", max_length=10_000)
    interacted_image_url: str = Field(default="", max_length=2048)
    image_encoding: str = Field(default="", max_length=15_000_000)
    tools_used: list[ToolUsed] = Field(default_factory=list, max_length=1000)
    citations: list[Citation] = Field(default_factory=list, max_length=1000)
    retrieved_learnings: list[RetrievedLearning] = Field(default_factory=list, max_length=1000)

    @field_validator("role")
    @classmethod
    def _default_role(cls, value: str) -> str:
        return value or "User"

    @field_validator("created_at")
    @classmethod
    def _seconds(cls, value: int) -> int:
        return value // 1000 if value > 100_000_000_000 else value

    @field_validator("interacted_image_url")
    @classmethod
    def _safe_url(cls, value: str) -> str:
        if not value:
            return value
        scheme, _, rest = value.partition(":")
        if scheme.lower() not in ("http", "https", "data"):
            raise ValueError("must be an http, https or data URL")
        if rest.lstrip("/").lower().startswith(_METADATA_HOSTS):
            raise ValueError("must not point at a cloud metadata host")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> InteractionData:
        if self.user_action != "none" and not self.user_action_description:
            raise ValueError("user_action_description is required when user_action is not 'none'")
        if self.interacted_image_url and self.image_encoding:
            raise ValueError("give interacted_image_url or image_encoding, not both")
        return self

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to keep: no text, no action, no image, no tool, no learning."""
        return not (
            self.content.strip()
            or self.shadow_content.strip()
            or self.expert_content.strip()
            or self.user_action != "none"
            or self.interacted_image_url
            or self.image_encoding
            or self.tools_used
            or self.citations
            or self.retrieved_learnings
        )


class Interaction(InteractionData):
    """One stored message. ``interaction_id`` is derived from the request id and the place in it."""

    interaction_id: int = 0
    user_id: str = ""
    request_id: str = ""


class Request(Value):
    """One turn of an agent: its metadata. ``created_at`` is in epoch seconds.

    *Ours*: ``status`` (``completed``, ``partial``, ``cancelled``, ``interrupted``, ``error``, ``abandoned``),
    ``error`` (what went wrong, as text) and ``metadata`` (the free metadata of the scope).
    """

    request_id: str
    user_id: str
    created_at: int = Field(default_factory=lambda: int(time.time()))
    source: str = ""
    agent_version: str = ""
    session_id: str | None = None
    evaluation_only: bool = False
    retrieval_experiment_id: str | None = None
    retrieval_experiment_arm: Literal["treatment", "holdout"] | None = None
    status: str = "completed"
    error: str = ""
    metadata: dict[str, Any] = Field(default_factory=dict)


class RequestData(Value):
    """A request together with its interactions, oldest first."""

    request: Request
    interactions: list[Interaction] = Field(default_factory=list)


class Session(Value):
    """The requests of one user that share a ``session_id``, newest first. ``user_id`` is *ours*."""

    session_id: str
    requests: list[RequestData] = Field(default_factory=list)
    user_id: str = ""
