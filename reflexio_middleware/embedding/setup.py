"""From settings to the embedder that they name."""

from __future__ import annotations

from reflexio_middleware.embedding import Embedder
from reflexio_middleware.settings import Settings


def embedder_of(settings: Settings) -> Embedder | None:
    """The embedder that the settings name, loaded; None where they name none.

    Raises:
        InvalidInputError: The local model is not installed, or not where it is said to be; or a key is missing.
        MissingExtraError: A package that it needs is missing.
    """
    if settings.embedder == "none":
        return None
    if settings.embedder == "local":
        from reflexio_middleware.embedding.minilm import MiniLMEmbedder

        return MiniLMEmbedder(settings.embedding_model)
    from reflexio_middleware.embedding.openai import OpenAIEmbedder

    key = settings.embedding_api_key
    return OpenAIEmbedder(
        settings.embedding_model or "text-embedding-3-small",
        base_url=settings.embedding_base_url,
        api_key=key.get_secret_value() if key else None,
        dimension=settings.embedding_dimension,
    )
