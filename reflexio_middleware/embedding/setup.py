"""From settings to the embedder that they name."""

from __future__ import annotations

from reflexio_middleware.embedding import Embedder
from reflexio_middleware.settings import Settings
from reflexio_store.errors import InvalidInputError


def embedder_of(settings: Settings) -> Embedder | None:
    """The embedder that the settings name, loaded; None where they name none.

    Raises:
        InvalidInputError: The local model is not installed, or not where it is said to be; or no key is named for
            OpenAI's endpoint.
        MissingExtraError: A package that it needs is missing.
    """
    if settings.embedder == "none":
        return None
    if settings.embedder == "local":
        from reflexio_middleware.embedding.minilm import MiniLMEmbedder

        return MiniLMEmbedder(settings.embedding_model)
    from reflexio_middleware.embedding.openai import OpenAIEmbedder

    key = settings.embedding_api_key
    if key is None and settings.embedding_base_url is None:
        problem = (
            "must be named for this purpose (REFLEXIO_EMBEDDING_API_KEY), or another endpoint (embedding_base_url)"
        )
        raise InvalidInputError("The embedder cannot be made", [("embedding_api_key", problem)])
    return OpenAIEmbedder(
        settings.embedding_model or "text-embedding-3-small",
        base_url=settings.embedding_base_url,
        api_key=key.get_secret_value() if key else None,
        dimension=settings.embedding_dimension,
    )


def close_embedder(embedder: Embedder | None) -> None:
    """Release what an embedder holds, where it has a ``close()``."""
    close = getattr(embedder, "close", None)
    if close is not None:
        close()
