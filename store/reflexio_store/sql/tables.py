"""The tables, declared once for every SQL home. Their rows never leave ``sql/``.

``user_id`` is not null (``""`` is nobody) and first in every key, and ids are made by the client: that is what a
sharded database needs, and costs nothing on SQLite. Columns ending in ``_us`` hold epoch microseconds; the others that
hold times hold epoch seconds, as on the wire. All names begin with ``reflexio_``, because the database may be shared.
"""

# SQLModel declares __tablename__ in a way that no literal matches
# pyright: reportAssignmentType=false
from __future__ import annotations

from typing import Any, cast

from sqlalchemy import JSON, BigInteger, ForeignKeyConstraint, Index, MetaData, Table, text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from . import column_types

_REGISTRY = registry(metadata=MetaData())  # our own: a host's SQLModel.metadata must not learn of these tables


class Row(SQLModel, registry=_REGISTRY):
    """Base of all rows."""

    metadata = _REGISTRY.metadata


class SessionRow(Row, table=True):
    """One session of one user, kept in step with its requests, so that listing need not group them."""

    __tablename__ = "reflexio_session"
    __table_args__ = (
        Index("ix_reflexio_session_user_last", "user_id", "last_at_us", "session_id"),
        Index("ix_reflexio_session_last", "last_at_us", "user_id", "session_id"),
        Index("ix_reflexio_session_session", "session_id"),
    )
    user_id: str = Field(primary_key=True)
    session_id: str = Field(primary_key=True)
    first_at_us: int = Field(sa_type=BigInteger)
    last_at_us: int = Field(sa_type=BigInteger)
    n_requests: int


class RequestRow(Row, table=True):
    """One turn. ``text_indexed`` is false until its interactions are in the full-text index."""

    __tablename__ = "reflexio_request"
    __table_args__ = (
        Index("ix_reflexio_request_session", "user_id", "session_id", "created_at_us", "request_id"),
        Index("ix_reflexio_request_user_created", "user_id", "created_at_us", "request_id"),
        Index("ix_reflexio_request_created", "created_at_us", "request_id"),
        Index("ix_reflexio_request_id", "request_id"),
        Index(
            "ix_reflexio_request_experiment",
            "retrieval_experiment_id",
            sqlite_where=text("retrieval_experiment_id IS NOT NULL"),
            postgresql_where=text("retrieval_experiment_id IS NOT NULL"),
        ),
        Index(
            "ix_reflexio_request_private",
            "user_id",
            "request_id",
            sqlite_where=text("json_extract(options, '$.skip_aggregation') = 1"),
            postgresql_where=text("(options ->> 'skip_aggregation') = 'true'"),
        ),
        Index(
            "ix_reflexio_request_unindexed",
            "user_id",
            sqlite_where=text("text_indexed = 0"),
            postgresql_where=text("NOT text_indexed"),
        ),
    )
    user_id: str = Field(primary_key=True)
    request_id: str = Field(primary_key=True)
    session_id: str
    created_at_us: int = Field(sa_type=BigInteger)
    source: str
    agent_version: str
    status: str
    error: str
    details: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    options: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    retrieval_experiment_id: str | None = None
    retrieval_experiment_arm: str | None = None
    text_indexed: bool = False


class InteractionRow(Row, table=True):
    """One message of a turn; ``seq`` is its place in it, from 0."""

    __tablename__ = "reflexio_interaction"
    __table_args__ = (
        ForeignKeyConstraint(
            ["user_id", "request_id"],
            ["reflexio_request.user_id", "reflexio_request.request_id"],
            ondelete="CASCADE",
        ),
        Index("ix_reflexio_interaction_created", "user_id", "created_at"),
        Index("ix_reflexio_interaction_id", "interaction_id"),
    )
    user_id: str = Field(primary_key=True)
    request_id: str = Field(primary_key=True)
    seq: int = Field(primary_key=True)
    interaction_id: int = Field(sa_type=BigInteger)
    created_at: int = Field(sa_type=BigInteger)
    role: str
    content: str
    user_action: str
    user_action_description: str
    interacted_image_url: str
    image_encoding: str
    shadow_content: str
    expert_content: str
    tools_used: list[dict[str, Any]] | None = Field(default=None, sa_type=JSON)
    citations: list[dict[str, Any]] | None = Field(default=None, sa_type=JSON)
    retrieved_learnings: list[dict[str, Any]] | None = Field(default=None, sa_type=JSON)


class ProfileRow(Row, table=True):
    """A profile. ``sameness`` is a digest of its normalised words: two that say the same have the same."""

    __tablename__ = "reflexio_profile"
    __table_args__ = (
        Index("ix_reflexio_profile_id", "profile_id"),
        Index("ix_reflexio_profile_sameness", "user_id", "sameness"),
    )
    user_id: str = Field(primary_key=True)
    profile_id: str = Field(primary_key=True)
    sameness: str
    content: str
    last_modified_timestamp: int = Field(sa_type=BigInteger)
    generated_from_request_id: str
    profile_time_to_live: str
    expiration_timestamp: int = Field(sa_type=BigInteger)
    custom_features: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    source: str | None = None
    status: str | None = None
    extractor_names: list[str] | None = Field(default=None, sa_type=JSON)
    source_span: str | None = None
    source_interaction_ids: list[int] | None = Field(default=None, sa_type=JSON)
    tags: list[str] | None = Field(default=None, sa_type=JSON)
    expanded_terms: str | None = None
    notes: str | None = None
    superseded_by: str | None = None


class UserPlaybookRow(Row, table=True):
    """A rule learned with one user."""

    __tablename__ = "reflexio_user_playbook"
    __table_args__ = (
        Index("ix_reflexio_user_playbook_id", "user_playbook_id"),
        Index("ix_reflexio_user_playbook_sameness", "user_id", "sameness"),
        Index("ix_reflexio_user_playbook_version", "agent_version"),
        Index(
            "ix_reflexio_user_playbook_tagged",
            "user_id",
            sqlite_where=text("tags <> '[]'"),
            postgresql_where=text("tags <> '[]'"),
        ),
    )
    user_id: str = Field(primary_key=True)
    user_playbook_id: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    sameness: str
    agent_version: str
    playbook_name: str
    created_at: int = Field(sa_type=BigInteger)
    content: str
    trigger: str | None = None
    rationale: str | None = None
    blocking_issue: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    status: str | None = None
    tags: list[str] | None = Field(default=None, sa_type=JSON)
    request_id: str
    source: str | None = None
    source_interaction_ids: list[int] | None = Field(default=None, sa_type=JSON)
    source_span: str | None = None
    superseded_by: str | None = None


class AgentPlaybookRow(Row, table=True):
    """A rule shared by all users of an agent version; it has no user, so the version stands first in its key.

    ``needs`` is how many users must support it for it to stay (0: it was added by hand), and ``wording`` the
    ``sameness`` of the words that were made for it (another ``sameness``: somebody reworded it).
    """

    __tablename__ = "reflexio_agent_playbook"
    __table_args__ = (Index("ix_reflexio_agent_playbook_id", "agent_playbook_id"),)
    agent_version: str = Field(primary_key=True)
    agent_playbook_id: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    sameness: str
    playbook_name: str
    created_at: int = Field(sa_type=BigInteger)
    content: str
    trigger: str | None = None
    rationale: str | None = None
    blocking_issue: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    status: str | None = None
    tags: list[str] | None = Field(default=None, sa_type=JSON)
    playbook_status: str
    playbook_metadata: str
    needs: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    wording: str = Field(default="", sa_column_kwargs={"server_default": text("''")})


class SupportRow(Row, table=True):
    """One user playbook that an agent playbook rests on, as its words were then (see ``sameness`` of a profile)."""

    __tablename__ = "reflexio_support"
    __table_args__ = (Index("ix_reflexio_support_user", "user_id", "user_playbook_id"),)
    agent_version: str = Field(primary_key=True)
    agent_playbook_id: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    user_id: str = Field(primary_key=True)
    user_playbook_id: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    sameness: str


class HistoryRow(Row, table=True):
    """One thing that happened to a learning; ``other_id`` is the one that took its place."""

    __tablename__ = "reflexio_history"
    __table_args__ = (
        Index("ix_reflexio_history_learning", "user_id", "kind", "learning_id"),
        Index("ix_reflexio_history_request", "user_id", "request_id"),
    )
    user_id: str = Field(primary_key=True)
    entry_id: str = Field(primary_key=True)
    at_us: int = Field(sa_type=BigInteger)
    kind: str
    learning_id: str
    action: str
    content: str
    other_id: str
    request_id: str


class ErasedRow(Row, table=True):
    """What was deleted, as a digest: a turn of it that was said before ``at_us`` is not stored (again)."""

    __tablename__ = "reflexio_erased"
    digest: str = Field(primary_key=True)
    at_us: int = Field(sa_type=BigInteger)


class OptOutRow(Row, table=True):
    """A user of whom nothing is to be learned or recalled."""

    __tablename__ = "reflexio_opt_out"
    user_id: str = Field(primary_key=True)
    at_us: int = Field(sa_type=BigInteger)


class EvidenceRow(Row, table=True):
    """One message that a learning rests on. No foreign key: evidence given by hand is kept as it is."""

    __tablename__ = "reflexio_evidence"
    __table_args__ = (Index("ix_reflexio_evidence_request", "user_id", "request_id"),)
    user_id: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    learning_id: str = Field(primary_key=True)
    request_id: str = Field(primary_key=True)
    interaction_index: int = Field(primary_key=True)


class DismissedRow(Row, table=True):
    """One message that is not to teach again what was deleted or reworded by hand; see ``sameness`` of a profile."""

    __tablename__ = "reflexio_dismissed"
    __table_args__ = (Index("ix_reflexio_dismissed_request", "user_id", "request_id"),)
    user_id: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    sameness: str = Field(primary_key=True)
    request_id: str = Field(primary_key=True)
    interaction_index: int = Field(primary_key=True)


class DocumentRow(Row, table=True):
    """What can be searched of a learning or of a message; ``row`` is its number in the full-text index, ``embedded``
    the name of the model that its vector is from (``""``: it has none).

    ``owner`` is a user_id (an agent_version, for an agent playbook). ``scopes``, ``head`` and ``body`` hold words
    with a space between; ``size`` is how many different words there are.
    """

    __tablename__ = "reflexio_document"
    __table_args__ = (
        Index("ix_reflexio_document_row", "row", unique=True),
        Index("ix_reflexio_document_embedded", "kind", "embedded", "row"),
    )
    owner: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    seq: int = Field(primary_key=True)
    row: int = Field(sa_type=BigInteger)
    scopes: str
    head: str
    body: str
    size: int
    embedded: str


class VectorRow(Row, table=True):
    """The vector of a document, as little-endian float32 of length 1, with the name of the model that made it."""

    __tablename__ = "reflexio_vector"
    owner: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    row: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    model: str
    vector: bytes


class VectorsRow(Row, table=True):
    """That an owner has vectors of a kind; ``version`` changes whenever they do."""

    __tablename__ = "reflexio_vectors"
    owner: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    version: int = Field(sa_type=BigInteger)


class ScopeRow(Row, table=True):
    """How much there is to search in one scope, kept in step with its documents."""

    __tablename__ = "reflexio_scope"
    scope: str = Field(primary_key=True)
    documents: int = Field(sa_type=BigInteger)
    words: int = Field(sa_type=BigInteger)


class JobRow(Row, table=True):
    """A piece of work. ``token`` names the holder of a running job."""

    __tablename__ = "reflexio_job"
    __table_args__ = (
        Index(
            "ix_reflexio_job_ready",
            "kind",
            "due_us",
            sqlite_where=text("state = 'ready'"),
            postgresql_where=text("state = 'ready'"),
        ),
        Index(
            "ix_reflexio_job_running",
            "kind",
            "lease_until_us",
            sqlite_where=text("state = 'running'"),
            postgresql_where=text("state = 'running'"),
        ),
        Index(
            "ix_reflexio_job_dead",
            "kind",
            "due_us",
            sqlite_where=text("state = 'dead'"),
            postgresql_where=text("state = 'dead'"),
        ),
    )
    user_id: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    state: str
    due_us: int = Field(sa_type=BigInteger)
    attempts: int
    generation: int
    token: str
    lease_until_us: int = Field(sa_type=BigInteger)
    last_error: str
    payload: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    result: dict[str, Any] | None = Field(default=None, sa_type=JSON)


class ShownRow(Row, table=True):
    """One learning that recall put into the prompt of one turn, and whether the answer cited it."""

    __tablename__ = "reflexio_shown"
    __table_args__ = (
        ForeignKeyConstraint(
            ["user_id", "request_id"],
            ["reflexio_request.user_id", "reflexio_request.request_id"],
            ondelete="CASCADE",
        ),
        Index("ix_reflexio_shown_learning", "kind", "learning_id"),
    )
    user_id: str = Field(primary_key=True)
    request_id: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    learning_id: str = Field(primary_key=True)
    cited: bool


class OutcomeRow(Row, table=True):
    """How one session of one user ended, as its agent's owner reported it."""

    __tablename__ = "reflexio_session_outcome"
    user_id: str = Field(primary_key=True)
    session_id: str = Field(primary_key=True)
    outcome: str
    occurred_at: int = Field(sa_type=BigInteger)
    created_at: int = Field(sa_type=BigInteger)
    source: str
    label: str | None = None
    value: float | None = None
    details: dict[str, Any] | None = Field(default=None, sa_type=JSON)


class UnlearnedRow(Row, table=True):
    """One turn that an extractor has not read yet; ``extractor`` is ``""`` until the turn is handed to them."""

    __tablename__ = "reflexio_unlearned"
    user_id: str = Field(primary_key=True)
    session_id: str = Field(primary_key=True)
    extractor: str = Field(primary_key=True)
    request_id: str = Field(primary_key=True)
    interactions: int
    forced: bool


class UsageRow(Row, table=True):
    """What an extractor's model took for one user on one day (UTC, ``YYYY-MM-DD``)."""

    __tablename__ = "reflexio_usage"
    __table_args__ = (Index("ix_reflexio_usage_day", "day"),)
    user_id: str = Field(primary_key=True)
    day: str = Field(primary_key=True)
    extractor: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    calls: int = Field(sa_type=BigInteger)
    prompt_tokens: int = Field(sa_type=BigInteger)
    completion_tokens: int = Field(sa_type=BigInteger)
    cost_micros: int = Field(sa_type=BigInteger)


METADATA = _REGISTRY.metadata


def _table(row: type[Row]) -> Table:
    table = cast(Table, row.__table__)  # type: ignore[attr-defined]
    for column in table.columns:
        if isinstance(column.type, JSON):
            column.type = column_types.JSON
    return table


SESSION = _table(SessionRow)
REQUEST = _table(RequestRow)
INTERACTION = _table(InteractionRow)
PROFILE = _table(ProfileRow)
USER_PLAYBOOK = _table(UserPlaybookRow)
AGENT_PLAYBOOK = _table(AgentPlaybookRow)
EVIDENCE = _table(EvidenceRow)
DISMISSED = _table(DismissedRow)
SUPPORT = _table(SupportRow)
HISTORY = _table(HistoryRow)
ERASED = _table(ErasedRow)
OPT_OUT = _table(OptOutRow)
DOCUMENT = _table(DocumentRow)
SCOPE = _table(ScopeRow)
VECTOR = _table(VectorRow)
VECTORS = _table(VectorsRow)
JOB = _table(JobRow)
SHOWN = _table(ShownRow)
OUTCOME = _table(OutcomeRow)
UNLEARNED = _table(UnlearnedRow)
USAGE = _table(UsageRow)
