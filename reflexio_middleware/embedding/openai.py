"""Embeddings from any endpoint that speaks the OpenAI embeddings protocol."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from reflexio_store.errors import InvalidInputError, MissingExtraError

try:
    import openai
except ImportError as error:
    raise MissingExtraError("Embeddings from an endpoint", "openai") from error

from reflexio_middleware.embedding import TextKind

_MOST_CHARACTERS: Final = 8_000
"""Of one text; endpoints refuse more than some 8,000 tokens."""


class OpenAIEmbedder:
    """Embeds through an OpenAI-compatible endpoint.

    Args:
        model: The name of the model at the endpoint.
        base_url: The endpoint, e.g. ``http://localhost:11434/v1``; None for OpenAI's own (or ``OPENAI_BASE_URL``).
        api_key: The key; None takes ``OPENAI_API_KEY``, or with a ``base_url`` a placeholder: that key is for OpenAI.
        timeout: Seconds that one call may take.
        dimension: Numbers of a vector, for models that let one choose; None: as many as the model has.
        query_prefix: What such models as E5 want before a query (``"query: "``).
        document_prefix: The same before a document (``"passage: "``).

    A call that fails is not repeated here: the background tries again later, and a query does without.

    Raises:
        InvalidInputError: There is no key, and no ``base_url`` that may do without.
        MissingExtraError: On import, when the ``openai`` package is missing.
    """

    def __init__(
        self,
        model: str = "text-embedding-3-small",
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = 10.0,
        dimension: int | None = None,
        query_prefix: str = "",
        document_prefix: str = "",
    ) -> None:
        key = api_key or ("unused" if base_url else os.environ.get("OPENAI_API_KEY"))
        if key is None and not os.environ.get("OPENAI_BASE_URL"):
            problem = ("embedding_api_key", "is missing: give it (or OPENAI_API_KEY), or embedding_base_url")
            raise InvalidInputError("Embeddings from an endpoint cannot be had", [problem])
        self._client = openai.OpenAI(base_url=base_url, api_key=key or "unused", timeout=timeout, max_retries=0)
        self._model = model
        self._dimension = dimension
        self._prefixes = {"query": query_prefix, "document": document_prefix}

    @property
    def name(self) -> str:
        """The model's name, with the number of dimensions where one was chosen."""
        return f"openai:{self._model}" + (f":{self._dimension}" if self._dimension else "")

    @property
    def dimension(self) -> int | None:
        """The number that was chosen."""
        return self._dimension

    def embed(self, texts: Sequence[str], kind: TextKind = "document") -> list[list[float]]:
        """A vector for each text, in one call.

        Raises:
            InvalidInputError: The answer has too few vectors, or ones of another dimension.
            openai.OpenAIError: The endpoint cannot be reached, or refuses.
        """
        prefix = self._prefixes[kind]
        answer = self._client.embeddings.create(
            model=self._model,
            input=[(prefix + text)[:_MOST_CHARACTERS] or " " for text in texts],
            encoding_format="float",
            dimensions=self._dimension or openai.omit,
        )
        vectors = [item.embedding for item in sorted(answer.data, key=lambda item: item.index)]
        sizes = {len(vector) for vector in vectors}
        if len(vectors) != len(texts) or sizes - {self._dimension or max(sizes, default=0)}:
            wanted = f"{len(texts)} vectors" + (f" of {self._dimension} numbers" if self._dimension else " of one size")
            problem = ("embedding_model", f"gave {len(vectors)} vectors of {sorted(sizes)} numbers, not {wanted}")
            raise InvalidInputError("The answer of the endpoint cannot be used", [problem])
        return vectors

    def close(self) -> None:
        """Release the connections."""
        self._client.close()
