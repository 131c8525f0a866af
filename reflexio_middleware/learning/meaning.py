"""Whether rules that are told in different words mean the same, by the vectors of an embedder."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from reflexio_store.errors import ExtractionError, MissingExtraError

try:
    import numpy as np
    from numpy.typing import NDArray
except ImportError as error:
    raise MissingExtraError("Comparing rules by meaning", "embeddings") from error

from reflexio_middleware.embedding import Embedder
from reflexio_middleware.embedding.batch import embed_batch
from reflexio_middleware.guard import count
from reflexio_middleware.learning.sharing import (
    Said,
    like_situations,
    says_the_same,
    situated_otherwise,
    told_otherwise,
)

SAME: Final[dict[str, float]] = {"all-MiniLM-L6-v2": 0.75}
"""Cosine from which two rules are held to mean the same, by model: calibrated on the pairs of
``tests/benchmarks/agreement_pairs.toml``. By a model that is not measured, nothing agrees unless a floor is set."""
_TOGETHER: Final = 32  # texts that are embedded in one call
_BLOCK: Final = 512  # texts that are compared with all others at once
_KEPT_BYTES: Final = 64 * 1024 * 1024
Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Nearness:
    """How near some texts are to each other. A text without a vector is near nothing."""

    floor: float
    vectors: Mapping[str, Vector]
    neighbours: Mapping[str, Sequence[str]]

    def alike(self, one: Said, other: Said) -> bool:
        """Whether two rules mean the same in the same situation, though told in different words."""
        by_meaning = self._near(one.content, other.content) and told_otherwise(one, other)
        if not (by_meaning or says_the_same(one, other)):
            return False
        situated = self._near(one.trigger, other.trigger) and situated_otherwise(one, other)
        return situated or like_situations(one, other)

    def _near(self, one: str, other: str) -> bool:
        mine, theirs = self.vectors.get(one), self.vectors.get(other)
        return mine is not None and theirs is not None and float(mine @ theirs) >= self.floor


class Meanings:
    """Compares texts by an embedder. Each text is embedded once, as long as it is kept (64 MB of them are).

    Args:
        embedder: What embeds; it is closed by whoever made it.
        floor: Cosine from which two texts are near.
    """

    def __init__(self, embedder: Embedder, floor: float) -> None:
        self._embedder = embedder
        self._floor = floor
        self._kept: OrderedDict[str, Vector] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def model(self) -> str:
        """What the vectors are from."""
        return self._embedder.name

    def nearness(self, rules: Iterable[Said], known: Mapping[str, bytes]) -> Nearness:
        """How near the texts of some rules are to each other.

        Args:
            rules: Whose texts.
            known: Vectors that are there already, by text, as float32 of length 1: these are not made again.

        Raises:
            ExtractionError: The embedder failed.
        """
        rules = list(rules)
        contents = list(dict.fromkeys(said.content for said in rules))
        triggers = dict.fromkeys(said.trigger for said in rules if said.situations and not said.standing)
        vectors = {text: np.frombuffer(packed, dtype="<f4") for text, packed in known.items()}
        vectors |= self._embedded([text for text in dict.fromkeys([*contents, *triggers]) if text not in vectors])
        return Nearness(self._floor, vectors, _neighbours([text for text in contents if text in vectors], vectors,
                                                          self._floor))  # fmt: skip

    def _embedded(self, texts: Sequence[str]) -> dict[str, Vector]:
        with self._lock:
            found = {text: self._kept[text] for text in texts if text in self._kept}
            lacking = [text for text in texts if text not in found]
            for start in range(0, len(lacking), _TOGETHER):
                found |= self._made(lacking[start : start + _TOGETHER])
            for text in texts:
                self._kept.pop(text, None)
            self._kept.update(found)
            while sum(vector.nbytes for vector in self._kept.values()) > _KEPT_BYTES:
                self._kept.popitem(last=False)
        return found

    def _made(self, texts: Sequence[str]) -> dict[str, Vector]:
        try:
            batch = embed_batch(self._embedder, texts)
        except Exception as error:
            message = f"The rules of users could not be compared by meaning ({type(error).__name__}: {error})"
            raise ExtractionError(f"{message}; nothing was changed") from error
        if batch.refused:
            count("texts_refused", len(batch.refused))
        return {texts[place]: _normal(vector) for place, vector in batch.vectors.items()}


def _normal(vector: Sequence[float]) -> Vector:
    made: Vector = np.asarray(vector, dtype=np.float32)
    length = np.float32(np.linalg.norm(made)) or np.float32(1.0)
    return np.asarray(made / length, dtype=np.float32)


def _neighbours(texts: Sequence[str], vectors: Mapping[str, Vector], floor: float) -> dict[str, list[str]]:
    """The texts that are near each text, itself left out."""
    found: dict[str, list[str]] = {}
    if not texts:
        return found
    size = len(vectors[texts[0]])
    same = [text for text in texts if len(vectors[text]) == size]
    matrix = np.stack([vectors[text] for text in same])
    for start in range(0, len(same), _BLOCK):
        near = matrix[start : start + _BLOCK] @ matrix.T >= floor
        for row, column in zip(*np.nonzero(near), strict=True):
            if start + row != column:
                found.setdefault(same[start + row], []).append(same[column])
    return found
