"""What agent playbooks rest on: user playbooks of distinct users, noted beside each.

An agent playbook that was made from them stays only while enough users support it. Support is taken away in the very
transaction that changes or deletes a user playbook, and the job that looks for agreement anew is asked for in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from sqlalchemy import (
    Connection,
    RowMapping,
    String,
    and_,
    cast,
    delete,
    exists,
    func,
    insert,
    select,
    true,
    tuple_,
    update,
)

from reflexio_store.contract import Shared, Sharing, Supporter, Voice
from reflexio_store.ids import new_int_id
from reflexio_store.models import AgentPlaybook, Learning, PlaybookStatus, Status, UserPlaybook
from reflexio_store.moving import Stored, Support

from .asking import ask_by
from .compaction import Compaction
from .database import retried
from .dialects import Dialect
from .jobs import AGGREGATE
from .kinds import AGENT_PLAYBOOKS, USER_PLAYBOOKS
from .learning_rows import insert_rows, remove_rows, rewrite_row, values_of
from .part import SECOND_US, among, chunks
from .tables import (
    AGENT_PLAYBOOK,
    DOCUMENT,
    EVIDENCE,
    OPT_OUT,
    PROFILE,
    REQUEST,
    SUPPORT,
    USER_PLAYBOOK,
    VECTOR,
)

_AFTER_US: Final = 30 * SECOND_US
"""How long changes of user playbooks gather before agreement is looked for; it is not put off by further ones."""
_s, _u, _a, _p = SUPPORT.c, USER_PLAYBOOK.c, AGENT_PLAYBOOK.c, PROFILE.c
_d, _v = DOCUMENT.c, VECTOR.c
_held: Final = AGENT_PLAYBOOKS.holder
_Noted = tuple[RowMapping, frozenset[Supporter]]
"""A stored agent playbook, and what supports it."""


class SharingRecords(Compaction):
    """The part of a home that knows what agent playbooks rest on."""

    def voices(self, agent_version: str, *, most: int = 20_000, model: str | None = None) -> list[Voice]:
        """The current user playbooks of a version that may support an agent playbook; see the contract."""
        which = and_(
            _u.agent_version == agent_version,
            _u.user_id != "",
            _u.status.is_(None),
            _u.user_id.not_in(select(OPT_OUT.c.user_id)),
        )
        newest = select(USER_PLAYBOOK).where(which).order_by(_u.created_at.desc(), _u.user_playbook_id).limit(most)
        with self._database.read() as connection:
            rows = connection.execute(newest).mappings().all()
            private = _kept_private(connection, self._database.dialect)
            vectors = _vectors(connection, agent_version, model) if model else {}
        playbooks = (USER_PLAYBOOKS.value(row, evidence=[]) for row in rows)
        return [
            Voice(playbook, row["sameness"], vectors.get((row["user_id"], str(row["user_playbook_id"]))))
            for row, playbook in zip(rows, playbooks, strict=True)
            if isinstance(playbook, UserPlaybook) and (row["user_id"], str(row["user_playbook_id"])) not in private
        ]

    def told_by(self, user_ids: Sequence[str]) -> dict[str, list[str]]:
        """What the current profiles of some users say; see the contract."""
        lives = and_(_p.status.is_(None), _p.expiration_timestamp > self._now_seconds())
        told: dict[str, list[str]] = defaultdict(list)
        with self._database.read() as connection:
            for part in chunks(list(dict.fromkeys(user_ids))):
                statement = select(_p.user_id, _p.content).where(_p.user_id.in_(part), lives)
                for user_id, content in connection.execute(statement):
                    told[user_id].append(content)
        return told

    def shared(self, agent_version: str) -> list[Shared]:
        """The agent playbooks of a version, of any status and approval, with what supports them."""
        with self._database.read() as connection:
            rows = connection.execute(select(AGENT_PLAYBOOK).where(_a.agent_version == agent_version)).mappings().all()
            support = _support_of(connection, agent_version)
            playbooks = values_of(connection, AGENT_PLAYBOOKS, rows)
        return [_shared(row, playbook, support) for row, playbook in zip(rows, playbooks, strict=True)]

    @retried
    def share(self, agent_version: str, rules: Sequence[Shared], *, least: int, approve: bool) -> Sharing:
        """Note what agent playbooks of a version rest on now, in one transaction; see the contract."""
        with self._dropping() as connection:
            dialect = self._database.dialect
            dialect.hold(connection, {item.user_id for rule in rules for item in rule.supporters})
            dialect.hold(connection, [_held(agent_version)])  # after its users, as everybody does
            done: Sharing = Sharing()
            kept: set[int] = set()
            saying = _still_saying(connection, agent_version, {item for rule in rules for item in rule.supporters})
            before = self._before(connection, agent_version)
            for rule in rules:
                approved, supporters = approve and not rule.by_meaning, rule.supporters & saying
                key, what = _write(connection, dialect, rule, supporters, before, least, approved)
                kept.add(key)
                done += what
            rest = [key for key in _supported(connection, agent_version) if key not in kept]
            for key in rest:
                connection.execute(
                    delete(SUPPORT).where(_s.agent_version == agent_version, _s.agent_playbook_id == key)
                )
                done += weigh(connection, dialect, agent_version, key)
            return done

    def _before(self, connection: Connection, agent_version: str) -> dict[int, _Noted]:
        support = _support_of(connection, agent_version)
        rows = connection.execute(select(AGENT_PLAYBOOK).where(_a.agent_version == agent_version)).mappings()
        return {row["agent_playbook_id"]: (row, support[row["agent_playbook_id"]]) for row in rows}

    @retried
    def promote_shared(self, from_version: str, to_version: str) -> int:
        """Copy the approved agent playbooks of one version to another, with what they rest on; how many were new."""
        approved = and_(
            _a.agent_version == from_version,
            _a.status.is_(None),
            _a.playbook_status == str(PlaybookStatus.APPROVED),
        )
        dialect = self._database.dialect
        with self._database.write() as connection:
            users = select(_s.user_id).where(_s.agent_version == from_version).distinct()
            dialect.hold(connection, connection.execute(users).scalars().all())
            dialect.hold(connection, [_held(from_version), _held(to_version)])
            rows = connection.execute(select(AGENT_PLAYBOOK).where(approved)).mappings().all()
            support = _support_of(connection, from_version)
            return sum(self._copied(connection, row, to_version, support[row["agent_playbook_id"]]) for row in rows)

    def _copied(
        self, connection: Connection, old: RowMapping, to_version: str, supporters: frozenset[Supporter]
    ) -> bool:
        row = {**old, "agent_version": to_version, "agent_playbook_id": new_int_id()}
        row |= {"created_at": self._now_seconds(), "sameness": AGENT_PLAYBOOKS.sameness(row)}
        row["wording"] = row["sameness"] if old["wording"] == old["sameness"] else ""
        same = and_(_a.agent_version == to_version, _a.sameness == row["sameness"])
        if connection.execute(select(exists().where(same))).scalar():
            return False
        insert_rows(connection, self._database.dialect, AGENT_PLAYBOOKS, [row])
        _support(connection, to_version, row["agent_playbook_id"], supporters)
        return True


def reconcile(connection: Connection, dialect: Dialect, user_id: str | None, *, now_us: int) -> Sharing:
    """Take away the support that user playbooks of a user (of all where None), changed or gone, had given.

    It compares what is stored, so it is to be called at the end of every transaction that may have changed them.
    """
    same = and_(
        _u.user_id == _s.user_id,
        _u.user_playbook_id == _s.user_playbook_id,
        _u.sameness == _s.sameness,
        _u.status.is_(None),
        _u.user_id.not_in(select(OPT_OUT.c.user_id)),
    )
    stale = and_(true() if user_id is None else _s.user_id == user_id, ~exists().where(same))
    columns = _s.agent_version, _s.agent_playbook_id
    touched = connection.execute(select(*columns).where(stale).distinct()).all()
    if not touched:
        return Sharing()
    dialect.hold(connection, sorted({_held(version) for version, _ in touched}))
    connection.execute(delete(SUPPORT).where(stale))
    done = Sharing()
    for version, key in touched:
        lost = weigh(connection, dialect, version, key)
        done += lost if lost.retired else Sharing(lowered=1)
    ask_to_aggregate(connection, dialect, {version for version, _ in touched}, now_us=now_us)
    return done


def weigh(connection: Connection, dialect: Dialect, agent_version: str, key: int) -> Sharing:
    """Retire a made agent playbook that too few users support; without any, delete it, for its words were theirs."""
    this = and_(_a.agent_version == agent_version, _a.agent_playbook_id == key)
    row = connection.execute(select(AGENT_PLAYBOOK).where(this)).mappings().first()
    if row is None or not row["needs"]:
        return Sharing()
    users = select(func.count(_s.user_id.distinct())).where(
        _s.agent_version == agent_version, _s.agent_playbook_id == key
    )
    left = connection.execute(users).scalar_one()
    if left >= row["needs"]:
        return Sharing()
    if not left and row["wording"] == row["sameness"]:
        remove_rows(connection, dialect, AGENT_PLAYBOOKS, this)
    elif row["status"] is None:
        rewrite_row(connection, dialect, AGENT_PLAYBOOKS, row, {**row, "status": str(Status.ARCHIVED)})
    else:
        return Sharing()
    return Sharing(retired=int(row["status"] is None))


def ask_to_aggregate(connection: Connection, dialect: Dialect, versions: Iterable[str], *, now_us: int) -> None:
    """Ask that agreement be looked for in some versions, soon."""
    for version in sorted(set(versions)):
        ask_by(connection, dialect, AGGREGATE, version, due_us=now_us + _AFTER_US)


def playbooks_changed(
    connection: Connection, dialect: Dialect, user_id: str, versions: Iterable[str], *, now_us: int
) -> None:
    """Let agent playbooks follow user playbooks of some versions; and ask that agreement be looked for where another
    user has playbooks, too: one user alone agrees with nobody."""
    reconcile(connection, dialect, user_id, now_us=now_us)
    shared = []
    for version in set(versions):
        others = and_(_u.agent_version == version, _u.user_id != user_id, _u.status.is_(None))
        if connection.execute(select(exists().where(others))).scalar():
            shared.append(version)
    ask_to_aggregate(connection, dialect, shared, now_us=now_us)


def _write(
    connection: Connection,
    dialect: Dialect,
    rule: Shared,
    supporters: frozenset[Supporter],
    before: Mapping[int, _Noted],
    least: int,
    approve: bool,
) -> tuple[int, Sharing]:
    """Store one rule with its support; its id, and what was done. What is as it was ``before`` costs nothing."""
    row = AGENT_PLAYBOOKS.row(rule.playbook)
    old, noted = before.get(row["agent_playbook_id"]) or (_of_words(connection, row), None)
    users = len({item.user_id for item in supporters})
    if old is None:
        if users < least:
            return 0, Sharing()
        approval = PlaybookStatus.APPROVED if approve else PlaybookStatus.PENDING
        row |= {"needs": least, "wording": row["sameness"], "playbook_status": str(approval), "status": None}
        key = new_int_id()
        insert_rows(connection, dialect, AGENT_PLAYBOOKS, [{**row, "agent_playbook_id": key}])
        _support(connection, row["agent_version"], key, supporters)
        return key, Sharing(added=1)
    if supporters != noted:
        _support(connection, old["agent_version"], old["agent_playbook_id"], supporters)
    new = _revised(old, row, users, least, approve)
    if new == dict(old) and supporters == noted:
        return old["agent_playbook_id"], Sharing()
    return old["agent_playbook_id"], _revise(connection, dialect, old, new)


def _revised(old: RowMapping, row: dict[str, Any], users: int, least: int, approve: bool) -> dict[str, Any]:
    """A known agent playbook brought in step; what was added or reworded by hand keeps its words."""
    new = dict(old)
    if old["needs"]:
        new["needs"] = least
        if users >= least:
            new["status"] = None
        if row["sameness"] != old["sameness"] and old["wording"] == old["sameness"]:
            new |= {name: row[name] for name in ("content", "trigger", "rationale", "tags", "sameness")}
            new["wording"] = row["sameness"]
            if old["playbook_status"] != PlaybookStatus.REJECTED:
                new["playbook_status"] = str(PlaybookStatus.APPROVED if approve else PlaybookStatus.PENDING)
    return new


def _revise(connection: Connection, dialect: Dialect, old: RowMapping, new: dict[str, Any]) -> Sharing:
    if new != dict(old):
        rewrite_row(connection, dialect, AGENT_PLAYBOOKS, old, new)
    lost = weigh(connection, dialect, old["agent_version"], old["agent_playbook_id"])
    changed = any(new[name] != old[name] for name in ("status", "sameness"))
    return lost if lost.retired else Sharing(updated=int(changed))


def _of_words(connection: Connection, row: dict[str, Any]) -> RowMapping | None:
    """The stored agent playbook of those words: two runs must not add it twice."""
    which = and_(_a.agent_version == row["agent_version"], _a.sameness == row["sameness"])
    return connection.execute(select(AGENT_PLAYBOOK).where(which)).mappings().first()


def _support(connection: Connection, agent_version: str, key: int, supporters: Iterable[Supporter]) -> None:
    connection.execute(delete(SUPPORT).where(_s.agent_version == agent_version, _s.agent_playbook_id == key))
    rows = [
        {"agent_version": agent_version, "agent_playbook_id": key, "user_id": item.user_id}
        | {"user_playbook_id": item.user_playbook_id, "sameness": item.sameness}
        for item in supporters
    ]
    if rows:
        connection.execute(insert(SUPPORT), rows)


def _still_saying(connection: Connection, agent_version: str, supporters: set[Supporter]) -> frozenset[Supporter]:
    """Those whose playbook is still stored, current, and worded as it was, and who did not opt out."""
    current = and_(_u.status.is_(None), _u.user_id.not_in(select(OPT_OUT.c.user_id)))
    said = select(_u.user_id, _u.user_playbook_id, _u.sameness).where(current)
    found = set(map(Supporter._make, connection.execute(said.where(_u.agent_version == agent_version)))) & supporters
    foreign = {(item.user_id, item.user_playbook_id) for item in supporters - found}  # what was promoted rests on them
    for some in among(_u.user_id, _u.user_playbook_id, foreign):
        found |= set(map(Supporter._make, connection.execute(said.where(some)))) & supporters
    return frozenset(found)


def _support_of(connection: Connection, agent_version: str) -> dict[int, frozenset[Supporter]]:
    columns = _s.agent_playbook_id, _s.user_id, _s.user_playbook_id, _s.sameness
    found: dict[int, set[Supporter]] = defaultdict(set)
    for key, *rest in connection.execute(select(*columns).where(_s.agent_version == agent_version)):
        found[key].add(Supporter(*rest))
    return defaultdict(frozenset, {key: frozenset(items) for key, items in found.items()})


def _supported(connection: Connection, agent_version: str) -> list[int]:
    """The agent playbooks of a version that were made, or have support noted."""
    made = select(_a.agent_playbook_id).where(_a.agent_version == agent_version, _a.needs > 0)
    noted = select(_s.agent_playbook_id).where(_s.agent_version == agent_version)
    return list(connection.execute(made.union(noted)).scalars())


def supports_of(connection: Connection, rows: Iterable[RowMapping]) -> Iterator[Support]:
    """What made agent playbooks rest on, as records; ``rows`` are theirs."""
    for version, of_version in groupby(rows, key=lambda row: row["agent_version"]):
        support = _support_of(connection, version)
        for row in of_version:
            key = row["agent_playbook_id"]
            yield Support(version, key, row["needs"], row["wording"], tuple(sorted(support[key])))


def put_support(connection: Connection, dialect: Dialect, supports: Sequence[Support]) -> Stored:
    """Note what agent playbooks rest on, as it was where they come from; those that are not here are passed over."""
    dialect.hold(connection, {who.user_id for item in supports for who in item.supporters})
    dialect.hold(connection, {_held(item.agent_version) for item in supports})
    new, replaced = 0, 0
    for item in supports:
        this = and_(_a.agent_version == item.agent_version, _a.agent_playbook_id == item.agent_playbook_id)
        rows = connection.execute(select(AGENT_PLAYBOOK).where(this)).mappings().all()
        if not rows or list(supports_of(connection, rows)) == [item]:
            continue
        connection.execute(update(AGENT_PLAYBOOK).where(this).values(needs=item.needs, wording=item.wording))
        _support(connection, item.agent_version, item.agent_playbook_id, item.supporters)
        new, replaced = new + (not rows[0]["needs"]), replaced + bool(rows[0]["needs"])
    return Stored(new=new, replaced=replaced, same=len(supports) - new - replaced)


def _shared(row: RowMapping, playbook: Learning, support: Mapping[int, frozenset[Supporter]]) -> Shared:
    assert isinstance(playbook, AgentPlaybook)  # noqa: S101 - rows of that table
    by_hand = not row["needs"] or row["wording"] != row["sameness"]
    return Shared(playbook, support[row["agent_playbook_id"]], by_hand=by_hand)


def _vectors(connection: Connection, agent_version: str, model: str) -> dict[tuple[str, str], bytes]:
    """The vectors of a model that current user playbooks of a version have."""
    document = and_(_d.owner == _u.user_id, _d.kind == USER_PLAYBOOKS.name, _d.key == cast(_u.user_playbook_id, String))
    vector = and_(_v.owner == _d.owner, _v.kind == _d.kind, _v.row == _d.row)
    statement = (
        select(_d.owner, _d.key, _v.vector)
        .join_from(USER_PLAYBOOK, DOCUMENT, document)
        .join(VECTOR, vector)
        .where(_u.agent_version == agent_version, _u.status.is_(None), _v.model == model)
    )
    return {(owner, key): bytes(packed) for owner, key, packed in connection.execute(statement)}


def _kept_private(connection: Connection, dialect: Dialect) -> set[tuple[str, str]]:
    """The user playbooks that rest on nothing but requests published with ``skip_aggregation``.

    Only what rests on such requests is read, which are few.
    """
    e, r = EVIDENCE.c, REQUEST.c
    skipped = select(r.user_id, r.request_id).where(dialect.is_private())
    resting = select(e.user_id, e.learning_id).where(e.kind == USER_PLAYBOOKS.name)
    found = connection.execute(resting.where(tuple_(e.user_id, e.request_id).in_(skipped)))
    private = {(user_id, name) for user_id, name in found}
    same = and_(r.user_id == e.user_id, r.request_id == e.request_id)
    for some in among(e.user_id, e.learning_id, private.copy()):
        requests = connection.execute(resting.join(REQUEST, same).add_columns(dialect.is_private()).where(some))
        private -= {(user_id, name) for user_id, name, kept in requests if not kept}
    return private
