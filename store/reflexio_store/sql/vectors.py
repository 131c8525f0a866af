"""Vectors of documents: kept beside them, compared exactly, from a cache that knows when it is out of date."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, insert, select, update

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
_PIECE: Final = 5_000  # vectors that are read at once
_v, _d = VECTOR.c, DOCUMENT.c


class _Name(NamedTuple):
    """Which vectors are compared: those of so many numbers that an owner has of one kind and model."""

    owner: str
    kind: str
    model: str
    size: int


@dataclass(frozen=True, slots=True)
class _Matrix:
    """Vectors as they were at a version; ``rows`` are the numbers of their documents, rising."""

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
    """Matrices by owner, kind, model and size, the most recently used ones, within a bound of bytes. Thread-safe.

    One that was changed is brought up to date by what is new in it. One that alone is beyond the bound is read at each
    search, in pieces.
    """

    def __init__(self, most_bytes: int = CACHE_BYTES) -> None:
        self._most = most_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Name, _Matrix] = OrderedDict()

    def cosines(self, connection: Connection, kind: str, owner: str | None, meaning: Meaning) -> Cosines:
        """How near the documents of an owner (None: of all owners) are to a meaning."""
        import numpy as np

        asked = _normal(meaning.vector)
        rows, values = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.float32)]
        for name, version in _versions(connection, kind, owner).items():
            found = self._compared(connection, _Name(name, kind, meaning.model, len(asked)), version, asked)
            rows.append(found.rows)
            values.append(found.values)
        if len(rows) <= 2:
            return Cosines(rows[-1], values[-1])
        joined = np.concatenate(rows)
        order = np.argsort(joined)
        return Cosines(joined[order], np.concatenate(values)[order])

    def forget(self, owner: str) -> None:
        """Keep nothing of an owner in memory."""
        with self._lock:
            for name in [name for name in self._kept if name.owner == owner]:
                del self._kept[name]

    def _compared(self, connection: Connection, name: _Name, version: int, asked: NDArray[Any]) -> Cosines:
        with self._lock:
            kept = self._kept.get(name)
            if kept is not None:
                self._kept.move_to_end(name)
        if kept is not None and kept.version != version:
            kept = _renewed(connection, name, kept, version)
            if kept is not None:
                self._keep(name, kept)
        if kept is not None:
            return Cosines(kept.rows, kept.vectors @ asked)
        return self._read(connection, name, version, asked)

    def _read(self, connection: Connection, name: _Name, version: int, asked: NDArray[Any]) -> Cosines:
        """Compare all vectors in pieces, and keep them if there is room."""
        import numpy as np

        rows, values, pieces, read = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.float32)], [], 0
        for numbers, vectors in _pieces(connection, name):
            rows.append(numbers)
            values.append(vectors @ asked)
            read += numbers.nbytes + vectors.nbytes
            if read <= self._most:
                pieces.append(vectors)
            else:
                pieces.clear()
        found = Cosines(np.concatenate(rows), np.concatenate(values))
        if read <= self._most:
            self._keep(name, _Matrix(version, found.rows, np.concatenate(pieces) if pieces else _empty(name.size)))
        return found

    def _keep(self, name: _Name, matrix: _Matrix) -> None:
        with self._lock:
            self._kept[name] = matrix
            self._kept.move_to_end(name)
            while sum(matrix.nbytes for matrix in self._kept.values()) > self._most:
                self._kept.popitem(last=False)


def keep_vectors(
    connection: Connection, dialect: Dialect, model: str, vectors: Mapping[int, Sequence[float] | None]
) -> int:
    """Keep the vectors of documents by their numbers; how many have one now that had none of that model.

    None for a document that the model gives no vector: it counts as asked for, and has none.
    """
    if len({len(vector) for vector in vectors.values() if vector is not None}) > 1:
        raise InvalidInputError("The vectors were not kept", [("vectors", "differ in their number of dimensions")])
    kept = 0
    for part in chunks(list(vectors)):
        # whoever deletes one of them waits, or was waited for: no vector outlives its text
        lacking = and_(_d.row.in_(part), _d.embedded != model)
        named = select(_d.owner, _d.kind, _d.row).where(lacking).order_by(_d.row).with_for_update()
        documents = connection.execute(named).all()
        if documents:
            _replace(connection, model, {(owner, kind, row): vectors[row] for owner, kind, row in documents})
        for owner, kind in sorted({(owner, kind) for owner, kind, _ in documents}):
            _note(connection, dialect, owner, kind)
        kept += sum(vectors[row] is not None for _, _, row in documents)
    return kept


def _replace(
    connection: Connection, model: str, vectors: Mapping[tuple[str, str, int], Sequence[float] | None]
) -> None:
    """Give documents (owner, kind, row) their vectors in place of those of another model."""
    numbers = [row for _, _, row in vectors]
    drop = and_(_v.row.in_(numbers), exists(select(1).where(_d.owner == _v.owner, _d.row == _v.row)))
    connection.execute(delete(VECTOR).where(drop))
    rows = [
        {"owner": owner, "kind": kind, "row": row, "model": model, "vector": _packed(vector)}
        for (owner, kind, row), vector in vectors.items()
        if vector is not None
    ]
    if rows:
        connection.execute(insert(VECTOR), rows)
    connection.execute(update(DOCUMENT).where(_d.row.in_(numbers)).values(embedded=model))


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


def _which(name: _Name) -> ColumnElement[bool]:
    theirs = and_(_v.owner == name.owner, _v.kind == name.kind)
    return and_(theirs, _v.model == name.model, func.length(_v.vector) == 4 * name.size)


def _pieces(connection: Connection, name: _Name) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """The vectors with their documents' numbers, some at a time, in the order of these."""
    after = -1
    while True:
        statement = select(_v.row, _v.vector).where(_which(name), _v.row > after).order_by(_v.row).limit(_PIECE)
        found = connection.execute(statement).all()
        if found:
            yield _unpacked(found, name.size)
            after = found[-1].row
        if len(found) < _PIECE:
            return


def _renewed(connection: Connection, name: _Name, kept: _Matrix, version: int) -> _Matrix | None:
    """A matrix as it is now, of which only what is new is read (a document's vector of one model stays the same); None
    where most of it is new."""
    import numpy as np

    numbers = connection.execute(select(_v.row).where(_which(name)).order_by(_v.row)).scalars().all()
    rows = np.array(numbers, dtype=np.int64)
    there = np.isin(rows, kept.rows, assume_unique=True)
    lacking = rows[~there]
    if len(lacking) > len(rows) // 2:
        return None
    vectors = np.empty((len(rows), name.size), dtype="<f4")
    vectors[there] = kept.vectors[np.searchsorted(kept.rows, rows[there])]
    for part in chunks(lacking.tolist()):
        new = connection.execute(select(_v.row, _v.vector).where(_which(name), _v.row.in_(part))).all()
        found, read = _unpacked(new, name.size)
        vectors[np.searchsorted(rows, found)] = read
    return _Matrix(version, rows, vectors)


def _unpacked(found: Sequence[Any], size: int) -> tuple[NDArray[Any], NDArray[Any]]:
    import numpy as np

    vectors = np.frombuffer(b"".join(vector for _, vector in found), dtype="<f4")
    return np.array([row for row, _ in found], dtype=np.int64), vectors.reshape(len(found), size)


def _empty(size: int) -> NDArray[Any]:
    import numpy as np

    return np.empty((0, size), dtype="<f4")


def _normal(vector: Sequence[float]) -> NDArray[Any]:
    import numpy as np

    made = np.asarray(vector, dtype="<f4")
    length = float(np.linalg.norm(made))
    if made.ndim != 1 or not made.size or not np.isfinite(length):
        raise InvalidInputError("A vector cannot be used", [("vector", "must be a list of finite numbers")])
    return made / length if length else made


def _packed(vector: Sequence[float]) -> bytes:
    return _normal(vector).tobytes()
