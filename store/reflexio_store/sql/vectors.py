"""Vectors of documents: kept beside them, compared exactly, from a cache that knows when it is out of date."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, and_, delete, exists, insert, select, update

from reflexio_store.contract import Meaning
from reflexio_store.errors import InvalidInputError
from reflexio_store.ids import new_document_number

from .part import chunks
from .tables import DOCUMENT, VECTOR, VECTORS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .dialects import Dialect

CACHE_BYTES: Final = 256 * 1024 * 1024
"""Most memory of a home's cache: some 170,000 vectors of 384 numbers."""
_v, _d = VECTOR.c, DOCUMENT.c


@dataclass(frozen=True, slots=True)
class _Matrix:
    """All vectors of one model that an owner has of one kind, as they were at a version."""

    version: int
    rows: NDArray[Any]
    vectors: NDArray[Any]

    @property
    def nbytes(self) -> int:
        return int(self.rows.nbytes + self.vectors.nbytes)


@dataclass(frozen=True, slots=True)
class Cosines:
    """How near documents are to a meaning; ``rows`` are their numbers, rising."""

    rows: NDArray[Any]
    values: NDArray[Any]

    def best(self, most: int) -> list[int]:
        """The documents that are nearest, the nearest first."""
        import numpy as np

        some = np.argpartition(-self.values, most)[:most] if len(self.values) > most else np.arange(len(self.values))
        return [int(self.rows[at]) for at in sorted(some, key=lambda at: (-self.values[at], -self.rows[at]))]

    def of(self, rows: Sequence[int]) -> dict[int, float]:
        """The cosines of some documents; those without a vector are left out."""
        import numpy as np

        if not len(self.rows):
            return {}
        places = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        return {row: float(self.values[at]) for row, at in zip(rows, places, strict=True) if self.rows[at] == row}


class VectorCache:
    """Matrices by owner, kind and model, the most recently used ones, within a bound of bytes. Thread-safe."""

    def __init__(self, most_bytes: int = CACHE_BYTES) -> None:
        self._most = most_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str, str], _Matrix] = OrderedDict()

    def cosines(self, connection: Connection, kind: str, owner: str | None, meaning: Meaning) -> Cosines:
        """How near the documents of an owner (None: of all owners) are to a meaning."""
        import numpy as np

        asked = _normal(meaning.vector)
        rows, values = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.float32)]
        for name, version in _versions(connection, kind, owner).items():
            matrix = self._matrix(connection, (name, kind, meaning.model), version)
            if matrix.vectors.shape[1:] == asked.shape:  # else none of that model yet, or of another size
                rows.append(matrix.rows)
                values.append(matrix.vectors @ asked)
        if len(rows) <= 2:
            return Cosines(rows[-1], values[-1])
        joined = np.concatenate(rows)
        order = np.argsort(joined)
        return Cosines(joined[order], np.concatenate(values)[order])

    def forget(self, owner: str) -> None:
        """Keep nothing of an owner in memory."""
        with self._lock:
            for name in [name for name in self._kept if name[0] == owner]:
                del self._kept[name]

    def _matrix(self, connection: Connection, name: tuple[str, str, str], version: int) -> _Matrix:
        with self._lock:
            kept = self._kept.get(name)
            if kept is not None and kept.version == version:
                self._kept.move_to_end(name)
                return kept
        read = _read(connection, *name, version)
        with self._lock:
            self._kept[name] = read
            self._kept.move_to_end(name)
            while len(self._kept) > 1 and sum(matrix.nbytes for matrix in self._kept.values()) > self._most:
                self._kept.popitem(last=False)
        return read


def keep_vectors(
    connection: Connection, dialect: Dialect, model: str, vectors: Mapping[int, Sequence[float] | None]
) -> int:
    """Keep the vectors of documents by their numbers; how many documents there still are.

    None for a document that the model gives no vector: it counts as asked for, and has none.
    """
    if len({len(vector) for vector in vectors.values() if vector is not None}) > 1:
        raise InvalidInputError("The vectors were not kept", [("vectors", "differ in their number of dimensions")])
    kept = 0
    for part in chunks(list(vectors)):
        # whoever deletes one of them waits, or was waited for: no vector outlives its text
        named = select(_d.owner, _d.kind, _d.row).where(_d.row.in_(part)).order_by(_d.row).with_for_update()
        documents = connection.execute(named).all()
        drop = and_(_v.row.in_(part), exists(select(1).where(_d.owner == _v.owner, _d.row == _v.row)))
        connection.execute(delete(VECTOR).where(drop))
        rows = [
            {"owner": owner, "kind": kind, "row": row, "model": model, "vector": _packed(vector)}
            for owner, kind, row in documents
            if (vector := vectors[row]) is not None
        ]
        if rows:
            connection.execute(insert(VECTOR), rows)
        if documents:
            connection.execute(update(DOCUMENT).where(_d.row.in_(part)).values(embedded=model))
        for owner, kind in {(owner, kind) for owner, kind, _ in documents}:
            _note(connection, dialect, owner, kind)
        kept += len(documents)
    return kept


def drop_vectors(connection: Connection, owner: str, kind: str, rows: Sequence[int]) -> None:
    """Remove the vectors of documents of one owner and kind."""
    theirs = and_(_v.owner == owner, _v.kind == kind)
    for part in chunks(rows):
        connection.execute(delete(VECTOR).where(theirs, _v.row.in_(part)))
    this = and_(VECTORS.c.owner == owner, VECTORS.c.kind == kind)
    if connection.execute(update(VECTORS).where(this).values(version=new_document_number())).rowcount:
        connection.execute(delete(VECTORS).where(this, ~exists(select(1).where(theirs))))


def _note(connection: Connection, dialect: Dialect, owner: str, kind: str) -> None:
    statement = dialect.insert(VECTORS).values(owner=owner, kind=kind, version=new_document_number())
    key = [VECTORS.c.owner, VECTORS.c.kind]
    connection.execute(
        statement.on_conflict_do_update(index_elements=key, set_={"version": statement.excluded.version})
    )


def _versions(connection: Connection, kind: str, owner: str | None) -> dict[str, int]:
    which = VECTORS.c.kind == kind if owner is None else and_(VECTORS.c.owner == owner, VECTORS.c.kind == kind)
    found = connection.execute(select(VECTORS.c.owner, VECTORS.c.version).where(which))
    return {str(name): int(version) for name, version in found}


def _read(connection: Connection, owner: str, kind: str, model: str, version: int) -> _Matrix:
    import numpy as np

    which = and_(_v.owner == owner, _v.kind == kind, _v.model == model)
    found = connection.execute(select(_v.row, _v.vector).where(which).order_by(_v.row)).all()
    size = len(found[-1].vector) if found else 0
    same = [(row, vector) for row, vector in found if len(vector) == size]
    vectors = np.frombuffer(b"".join(vector for _, vector in same), dtype="<f4")
    return _Matrix(
        version,
        np.array([row for row, _ in same], dtype=np.int64),
        vectors.reshape(len(same), size // 4) if same else vectors.reshape(0, 0),
    )


def _normal(vector: Sequence[float]) -> NDArray[Any]:
    import numpy as np

    made = np.asarray(vector, dtype="<f4")
    length = float(np.linalg.norm(made))
    if made.ndim != 1 or not made.size or not np.isfinite(length):
        raise InvalidInputError("A vector cannot be used", [("vector", "must be a list of finite numbers")])
    return made / length if length else made


def _packed(vector: Sequence[float]) -> bytes:
    return _normal(vector).tobytes()
