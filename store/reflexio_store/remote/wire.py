"""Between our values and the bodies of the server.

The server groups by ``session_id`` alone, keeps no ``status``, ``error`` and ``metadata`` of a request, leaves null
keys out, and does not hand back ``citations`` and ``image_encoding`` (wire facts).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from reflexio_store.errors import StoreError
from reflexio_store.models import Interaction, Request, RequestData, problems_of
from reflexio_store.records import InteractionRecord, TurnRecord

V = TypeVar("V", bound=BaseModel)
NOBODY: Final = "reflexio-middleware:nobody"
"""The user of turns without one, as the server accepts no empty ``user_id``. It does not learn from such turns."""

_OPERATOR: Final = re.compile(r"\b(?:AND|OR|NOT|NEAR)\b")
_LEAST: Final = math.ceil(datetime.min.replace(tzinfo=UTC).timestamp())
_MOST: Final = math.ceil(datetime.max.replace(tzinfo=UTC).timestamp()) - 1
_OPTIONAL = tuple(
    name
    for name in InteractionRecord.__dataclass_fields__
    if name not in ("role", "created_at", "user_action", "place")
)


def wire_user(user_id: str) -> str:
    """The name of a user on the server."""
    return user_id or NOBODY


def our_user(user_id: str) -> str:
    """The user that a name on the server stands for."""
    return "" if user_id == NOBODY else user_id


def literal(query: str) -> str:
    """A query without operators: to the server, upper-case AND, OR, NOT and NEAR are some (wire fact)."""
    return _OPERATOR.sub(lambda found: found[0].lower(), query)


def publish_body(turn: TurnRecord, *, learn: bool) -> dict[str, Any]:
    """The body that publishes a turn, without fields at their defaults.

    ``request_id`` is a field of the wire that the public client does not send: it makes publishing safe to repeat.
    """
    body: dict[str, Any] = {
        "request_id": turn.request_id,
        "user_id": wire_user(turn.user_id),
        "session_id": turn.session_id,
        "agent_version": turn.agent_version,
        "source": turn.source,
        "interaction_data_list": [_interaction_body(item, turn) for item in turn.interactions],
        "retrieval_experiment_id": turn.retrieval_experiment_id,
        "retrieval_experiment_arm": turn.retrieval_experiment_arm,
        **turn.options,
    }
    if not (learn and turn.user_id) or body.get("evaluation_only"):
        body["evaluation_only"] = True
        body.pop("force_extraction", None)  # the two exclude each other
    return {name: value for name, value in body.items() if value not in (None, "")}


def _interaction_body(item: InteractionRecord, turn: TurnRecord) -> dict[str, Any]:
    return {
        "role": item.role,
        "created_at": item.created_at or turn.created_at_us // 1_000_000,
        **({"user_action": item.user_action} if item.user_action != "none" else {}),
        **{name: value for name in _OPTIONAL if (value := getattr(item, name))},
    }


def rows(answer: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """What an answer lists under a name; nothing where it does not name it.

    Raises:
        StoreError: It is no list of JSON objects.
    """
    found = answer.get(name) or []
    if not (isinstance(found, list) and all(isinstance(row, dict) for row in found)):
        raise StoreError(f"The server's {name} cannot be read: no list of objects")
    return found


def value(model: type[V], values: Mapping[str, Any], name: str) -> V:
    """What the server tells of as one of our values.

    Raises:
        StoreError: It cannot be one; the problems name the fields.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise StoreError(f"The server's {name} cannot be read: {problems_of(error)}") from error


def request_data(found: Mapping[str, Any]) -> RequestData:
    """A request with its interactions as the server tells of it, oldest interaction first."""
    told = dict(found["request"])
    told["user_id"] = our_user(told["user_id"])
    if not told["user_id"]:
        told["evaluation_only"] = False  # set by us, to keep the server from learning
    request = value(Request, told, f"request {told.get('request_id')!r}")
    interactions = sorted(map(interaction, rows(found, "interactions")), key=lambda item: item.interaction_id)
    return RequestData(request=request, interactions=interactions)


def interaction(found: Mapping[str, Any]) -> Interaction:
    """An interaction as the server tells of it; its id is the server's."""
    told = {**found, "user_id": our_user(found.get("user_id") or "")}
    return value(Interaction, told, f"interaction {found.get('interaction_id')!r}")


def window(start: datetime | None, end: datetime | None) -> dict[str, str] | None:
    """``start_time`` and ``end_time`` for our half-open window; None where no whole second lies in it.

    The server compares whole seconds, the end included, and refuses an end that is not after the start (wire facts):
    so the end is half a second after the last second that is wanted. Always with a zone: it reads others as local, and
    fails on a mixture.
    """
    first = _LEAST if start is None else math.ceil(start.timestamp())
    last = _MOST if end is None else math.ceil(end.timestamp()) - 1
    if not _LEAST <= first <= last <= _MOST:
        return None
    found = {}
    if start is not None:
        found["start_time"] = datetime.fromtimestamp(first, UTC).isoformat()
    if end is not None:
        found["end_time"] = (datetime.fromtimestamp(last, UTC) + timedelta(seconds=0.5)).isoformat()
    return found
