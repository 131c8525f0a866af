"""From settings to what learns: the extractors with what they may read and spend, and the steps that do the work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from reflexio_middleware.embedding import Embedder
from reflexio_middleware.guard import count, warn
from reflexio_middleware.learning.aggregate import AGGREGATE, Aggregate
from reflexio_middleware.learning.doing import Step
from reflexio_middleware.learning.extractor import Extractor
from reflexio_middleware.learning.generation import GENERATE, Generate
from reflexio_middleware.learning.learn import LEARN, LearnFromSession, LearnWhenEnough, Schedule, kind_of
from reflexio_middleware.learning.metering import Budget
from reflexio_middleware.learning.purge import PURGE, purge
from reflexio_middleware.learning.reading import Exempt, Reader, extractor_name
from reflexio_middleware.settings import Settings, parts_of

if TYPE_CHECKING:
    from reflexio_middleware.learning.meaning import Meanings

_IDLE_SECONDS: Final = 30.0


def readers_of(extractors: Sequence[Extractor | str], settings: Settings) -> list[Reader]:
    """The extractors (objects, or ``statements`` and ``llm`` by name), each with what it may read and spend.

    Raises:
        MissingExtraError: ``llm`` is named, and the ``openai`` package is missing.
        InvalidInputError: The definitions cannot be read.
    """
    made = {extractor_name(one): one for one in (_made(one, settings) for one in extractors)}
    exempt = Exempt(parts_of(settings.skip_sources), parts_of(settings.skip_agents))
    budget = Budget(
        tokens=settings.llm_tokens_per_day,
        tokens_per_user=settings.llm_tokens_per_user,
        cost=settings.llm_cost_per_day,
        cost_per_user=settings.llm_cost_per_user,
        price_input=settings.llm_price_input,
        price_output=settings.llm_price_output,
    )
    return [Reader(extractor, exempt, budget) for extractor in made.values()]


def steps_of(readers: Sequence[Reader], settings: Settings, embedder: Embedder | None = None) -> dict[str, Step]:
    """What does the jobs, by their kind; rules are compared by meaning, too, where there is an embedder."""
    window, stride = settings.window
    idle = _IDLE_SECONDS if settings.learn_after is None else settings.learn_after
    steps: dict[str, Step] = {LEARN: LearnFromSession(readers, Schedule(window, stride, idle))}
    steps |= {kind_of(reader.name): LearnWhenEnough(reader) for reader in readers if reader.waits}
    return steps | {GENERATE: Generate(readers), AGGREGATE: aggregate_of(settings, embedder), PURGE: purge}


def aggregate_of(settings: Settings, embedder: Embedder | None = None) -> Aggregate:
    """The step that looks for what users agree on; see :func:`steps_of`."""
    meanings = _meanings(settings, embedder) if embedder else None
    return Aggregate(least=settings.aggregate_users, approve=settings.aggregate_approve, meanings=meanings)


def _meanings(settings: Settings, embedder: Embedder) -> Meanings | None:
    from reflexio_middleware.learning.meaning import SAME, Meanings

    floor = settings.aggregate_similarity or SAME.get(embedder.name)
    return Meanings(embedder, floor) if floor else None


def _made(extractor: Extractor | str, settings: Settings) -> Extractor:
    if not isinstance(extractor, str):
        return extractor
    from reflexio_middleware.learning.statements import StatementsExtractor

    if extractor == "statements":
        return StatementsExtractor()
    if settings.llm_api_key is None:
        count("extractor_fallbacks")
        warn("extractor", "reflexio: the llm extractor has no key (REFLEXIO_LLM_API_KEY): statements is used instead")
        return StatementsExtractor()
    from reflexio_middleware.learning.definitions import read_definitions
    from reflexio_middleware.learning.llm import LLMExtractor

    return LLMExtractor(
        settings.llm_model,
        base_url=settings.llm_base_url,
        api_key=settings.llm_api_key.get_secret_value(),
        timeout=settings.llm_timeout,
        max_retries=settings.llm_retries,
        max_tokens=settings.llm_max_tokens,
        definitions=read_definitions(settings.llm_definitions) if settings.llm_definitions else (),
    )
