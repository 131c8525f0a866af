"""The plain values in which a home of the record is spoken to and answers, beside the models of the wire."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, Generic, Literal, NamedTuple, Self, TypeVar

from .models import (
    AgentPlaybook,
    Evidence,
    Interaction,
    Learning,
    LearningKind,
    RequestData,
    UserPlaybook,
    UserProfile,
)

USER_ROLES: Final = frozenset({"user", "human", "customer", "client"})
"""Roles, in lower case, of what the user wrote."""

L = TypeVar("L", bound=Learning, covariant=True)


@dataclass(frozen=True, slots=True)
class Scored(Generic[L]):
    """A learning found by a search. ``score`` is BM25-like (higher is better, comparable within one answer);
    ``coverage`` is the share (0 to 1) of the query's weight, by rarity of its words, that the learning covers;
    ``share`` is the share (0 to 1) of the learning's own words (of its trigger's, where it has one) that the query
    names, where of a whole learning words common in English count half; ``cosine`` is how near the query's meaning is
    to the learning's (-1 to 1), None where either has no vector."""

    learning: L
    score: float
    coverage: float
    share: float = 0.0
    cosine: float | None = None


@dataclass(frozen=True, slots=True)
class Floors:
    """What is worth being found, by the numbers of :class:`Scored`: what reaches any of these.

    ``trigger_share`` is the floor of the ``share`` of a learning that has a trigger, ``share`` that of the others;
    without ``cosine`` meaning admits nothing.
    """

    coverage: float
    share: float
    trigger_share: float
    cosine: float | None = None


class Answers(dict[LearningKind, "list[Scored[Learning]]"]):
    """Answers by kind.

    ``degraded``: the home could not do all that was asked, such as compare meanings. ``among``: about how many
    learnings were searched, those of all kinds together; 0: the home does not say.
    """

    degraded = False
    among = 0


@dataclass(frozen=True, slots=True)
class Meaning:
    """The vector of a query, and the name of the model that made it: only vectors of that model are compared.

    ``floor`` is the cosine from which meaning alone shows that something fits; a search leaves it to whoever chooses.
    """

    model: str
    vector: Sequence[float]
    floor: float | None = None


@dataclass(frozen=True, slots=True)
class Unembedded:
    """A text that has no vector of the wanted model yet. ``number`` names it to the home that gave it."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of what was done, which add up field by field."""

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, item.name) + getattr(other, item.name) for item in fields(self)))


@dataclass(frozen=True, slots=True)
class Receipt(Counts):
    """What a delete removed: rows that were there and are gone.

    Agent playbooks are ``retired`` when too few users support them after it; ``lowered`` ones lost support and stay.
    ``spooled`` counts turns that waited to be stored, or had been set aside, and are gone, too.
    """

    requests: int = 0
    interactions: int = 0
    profiles: int = 0
    user_playbooks: int = 0
    jobs: int = 0
    agent_playbooks_retired: int = 0
    agent_playbooks_lowered: int = 0
    spooled: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """One itemised change that an extractor proposes.

    ``add`` needs ``learning`` (its id is ignored); ``update`` needs ``learning`` whose id names the one to change;
    ``retire`` needs ``kind`` and ``learning_id``. ``evidence`` names the messages it rests on: a change of which no
    evidence exists any more is not applied.
    """

    action: Literal["add", "update", "retire"]
    kind: Literal["profile", "user_playbook"]
    learning: UserProfile | UserPlaybook | None = None
    learning_id: str = ""
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Applied(Counts):
    """What became of a list of changes; ``dropped`` had no evidence left or named an unknown learning."""

    profiles_added: int = 0
    profiles_updated: int = 0
    playbooks_added: int = 0
    playbooks_updated: int = 0
    retired: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Promoted(Counts):
    """How many learnings changed their standing."""

    deleted: int = 0
    archived: int = 0
    promoted: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of work that this process holds until ``lease_until_us`` (epoch microseconds).

    ``generation`` counts the turns that asked for the work: a job that was asked for again while it ran stays ready.
    """

    user_id: str
    kind: str
    key: str
    token: str
    attempts: int
    generation: int
    lease_until_us: int
    payload: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobState:
    """Where a job stands: ``ready``, ``running``, ``done`` or ``dead``. ``result`` is what the last run noted."""

    user_id: str
    kind: str
    key: str
    state: str
    attempts: int
    due_us: int
    last_error: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    payload: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unlearned:
    """A turn that an extractor has still to read (``extractor`` ``""``: that is not handed to extractors yet).

    ``interactions`` is how many it has; ``forced`` says that learning from it shall not wait for more.
    """

    extractor: str
    request_id: str
    interactions: int
    forced: bool = False


@dataclass(frozen=True, slots=True)
class Fresh:
    """A message of a turn that an extractor has still to read. ``coverage`` is the share (0 to 1) of the query's words
    that it has, ``share`` the share of its own words that the query names; words common in English count half."""

    message: Interaction
    coverage: float
    share: float


@dataclass(frozen=True, slots=True)
class Reading:
    """A piece of a session to learn from, oldest request first: the ``new`` requests (by id), and what is around
    them. ``more`` says that there are further unread ones."""

    requests: list[RequestData] = field(default_factory=list)
    new: frozenset[str] = frozenset()
    more: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """What a model took. ``day`` is ``YYYY-MM-DD`` (UTC), ``cost_micros`` millionths of the currency of the prices."""

    user_id: str
    day: str
    extractor: str
    model: str
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_micros: int = 0

    @property
    def tokens(self) -> int:
        """Of prompts and answers together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Voice:
    """A user playbook that may support an agent playbook; ``sameness`` is a digest of its words.

    ``vector`` (float32 of length 1) is of its trigger, or of what it says to do where it has none; None where there is
    none of the model that was asked for.
    """

    playbook: UserPlaybook
    sameness: str
    vector: bytes | None = None

    @property
    def supporter(self) -> Supporter:
        """It as what an agent playbook rests on."""
        return Supporter(self.playbook.user_id, self.playbook.user_playbook_id, self.sameness)


class Supporter(NamedTuple):
    """A user playbook that an agent playbook rests on, and the digest of its words when it was noted."""

    user_id: str
    user_playbook_id: int
    sameness: str


@dataclass(frozen=True, slots=True)
class Shared:
    """An agent playbook (id 0: a new one) and what supports it. ``by_hand``: it was added or reworded by a person;
    ``by_meaning``: its words are new, and its users told it in different ones, so that a person must approve it."""

    playbook: AgentPlaybook
    supporters: frozenset[Supporter]
    by_hand: bool = False
    by_meaning: bool = False


@dataclass(frozen=True, slots=True)
class Sharing(Counts):
    """What became of agent playbooks: ``lowered`` lost support and stay, ``retired`` have too little of it now."""

    added: int = 0
    updated: int = 0
    lowered: int = 0
    retired: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a health check. ``level`` is ``ok``, ``warning`` or ``error``."""

    level: Literal["ok", "warning", "error"]
    subject: str
    message: str
