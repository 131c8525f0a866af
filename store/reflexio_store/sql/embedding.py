"""Which texts have no vector yet, and keeping the vectors that somebody made of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, or_, select

from reflexio_store.contract import Unembedded

from .database import retried
from .documents import INTERACTION_KIND
from .kinds import KINDS
from .part import Part, chunks
from .tables import DOCUMENT, INTERACTION
from .vectors import VectorCache, keep_vectors

_MOST_CHARACTERS: Final = 2_000  # of a text, of which its beginning stands for the whole
_d, _i = DOCUMENT.c, INTERACTION.c


class Embeddings(Part):
    """The part of a home that keeps vectors."""

    _cache: VectorCache

    def unembedded(self, model: str, *, messages: bool = False, limit: int = 64) -> list[Unembedded]:
        """Texts without a vector of that model, the newest of each kind first; see the contract."""
        kinds = [*KINDS, *([INTERACTION_KIND] if messages else [])]
        found: list[Unembedded] = []
        with self._database.read() as connection:
            for kind in kinds:
                lacking = or_(_d.embedded < model, _d.embedded > model)  # a range of the index, as != is not
                newest = select(_d.row, _d.owner, _d.key, _d.seq).where(_d.kind == kind, lacking)
                rows = connection.execute(newest.order_by(_d.row.desc()).limit(limit - len(found))).all()
                found += _texts(connection, kind, rows)
                if len(found) >= limit:
                    break
        return found

    @retried
    def put_vectors(self, model: str, vectors: Mapping[int, Sequence[float]]) -> int:
        """Keep the vectors of texts (by their ``number``); how many were kept."""
        with self._database.write() as connection:
            return keep_vectors(connection, self._database.dialect, model, vectors)

    @retried
    def set_aside(self, model: str, numbers: Sequence[int]) -> None:
        """Note that a model refuses some texts; see the contract."""
        with self._database.write() as connection:
            keep_vectors(connection, self._database.dialect, model, dict.fromkeys(numbers))


def _texts(connection: Connection, kind: str, rows: Sequence[Any]) -> Iterator[Unembedded]:
    by_owner: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        by_owner[row.owner].append(row)
    for owner, theirs in by_owner.items():
        said = dict(_said(connection, kind, owner, list(dict.fromkeys(row.key for row in theirs))))
        for row in theirs:
            yield Unembedded(row.row, said.get((row.key, row.seq), "")[:_MOST_CHARACTERS])


def _said(connection: Connection, kind: str, owner: str, keys: Sequence[str]) -> Iterator[tuple[tuple[str, int], str]]:
    """What the rows of some documents say, by key and place."""
    for part in chunks(keys):
        if kind == INTERACTION_KIND:
            messages = select(_i.request_id, _i.seq, _i.content).where(_i.user_id == owner, _i.request_id.in_(part))
            for request_id, seq, content in connection.execute(messages):
                yield (request_id, seq), content
            continue
        which = next(found for found in KINDS.values() if found.name == kind)
        key = which.column(which.key)
        rows = select(which.table).where(which.column(which.owner) == owner, key.in_(map(which.key_of, part)))
        for row in connection.execute(rows).mappings():
            trigger = None if which.name == "profile" else row["trigger"]
            yield (str(row[which.key]), 0), trigger or row["content"]  # a trigger is worded as the request to find it
