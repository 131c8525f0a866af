"""Which current learnings of a user say the same as a new one, or the opposite: read and judged in the transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, select

from reflexio_store.agreement import Relation, Rule, relation, rule_relation
from reflexio_store.models import STANDING

from .kinds import PROFILES, Kind

Row = RowMapping | dict[str, Any]


def kin_of(connection: Connection, kind: Kind, row: Row) -> dict[Relation, list[RowMapping]]:
    """The current learnings of its user that a row has to do with, by what the row is to them; oldest first."""
    others = and_(
        kind.column("user_id") == row["user_id"],
        kind.column("status").is_(None),
        kind.column(kind.key) != row[kind.key],
    )
    if kind is not PROFILES:
        others = and_(others, kind.column("agent_version") == row["agent_version"])
    statement = select(kind.table).where(others).order_by(kind.column(kind.stamp), kind.column(kind.key))
    found: dict[Relation, list[RowMapping]] = {"same": [], "opposed": [], "narrower": [], "wider": []}
    for other in connection.execute(statement).mappings():
        between = _between(kind, row, other)
        if between != "other":
            found[between].append(other)
    return found


def _between(kind: Kind, one: Row, other: Row) -> Relation:
    if kind is PROFILES:
        return relation(one["content"], other["content"])
    return rule_relation(_rule(one), _rule(other))


def _rule(row: Mapping[str, Any] | RowMapping) -> Rule:
    return Rule(row["content"], row["trigger"] or "", STANDING in (row["tags"] or ()))
