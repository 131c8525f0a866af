"""The one place that reads settings: arguments, else ``REFLEXIO_*`` environment variables, else defaults."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from platformdirs import user_data_path
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from reflexio_store.errors import InvalidInputError
from reflexio_store.homes import is_server
from reflexio_store.models import problems_of

APP = "reflexio-middleware"


PRESETS: Final = {"quick_chat": (5, 3), "standard": (10, 8), "long_form": (25, 10), "high_volume": (15, 8)}
"""Window and stride, in messages, by name (wire fact)."""
Preset = Literal["quick_chat", "standard", "long_form", "high_volume"]


def parts_of(text: str) -> list[str]:
    """The items of a list with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _joined(value: Any) -> Any:
    """Lists may be given as such, too."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value


def _known_names(value: str) -> str:
    unknown = [name for name in parts_of(value) if name not in ("statements", "llm")]
    if unknown or not parts_of(value):
        raise ValueError("must be 'statements', 'llm', or 'statements,llm'")
    return value


Seconds = Annotated[float, Field(ge=0, le=4_000_000)]  # less than any platform waits for at most
Place = Annotated[Path | None, BeforeValidator(lambda path: path or None)]  # "" would be the current folder
Patterns = Annotated[str, BeforeValidator(_joined)]
Names = Annotated[str, BeforeValidator(_joined), AfterValidator(_known_names)]


def data_folder() -> Path:
    """Where the embedded database and the spools lie by default: the user's data folder of this platform."""
    return user_data_path(APP, appauthor=False)


def default_store() -> str:
    """The URL of the default home: a SQLite file in the user's data folder."""
    return f"sqlite:///{data_folder() / 'reflexio.db'}"


def masked(url: str) -> str:
    """A URL without its password, wherever it stands in it."""
    url = re.sub(r"(://[^:/@\s]*):[^@\s]*@", r"\1:***@", url)
    return re.sub(r"([?&](?:ssl)?password=)[^&\s]*", r"\1***", url)


class Settings(BaseSettings):
    """All settings. Each is an argument of :class:`ReflexioClient` and an environment variable ``REFLEXIO_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="REFLEXIO_", extra="forbid", frozen=True)

    store: str = Field(default_factory=default_store, description="URL of the home of the record")
    url: str | None = Field(default=None, description="Address of a Reflexio server as home, where no `store` is given")
    api_key: SecretStr | None = Field(default=None, description="Key of that server")
    agent_version: str = Field(default="agent-v0", max_length=1000, description="Version of a turn that names none")
    learning: Literal["thread", "later", "off"] = Field(
        default="thread", description="Learn in a thread of this process, leave it to another (`later`), or not at all"
    )
    extractor: Names = Field(
        default="statements", description="What learns: `statements` (patterns; no key, no cost), `llm`, or both"
    )
    learn_after: Seconds | None = Field(
        default=None, description="Seconds of quiet before a session is learned from; None: 0, or 30 by `llm`"
    )
    learn_preset: Preset = Field(
        default="standard", description="Window and stride: `quick_chat` 5/3, `standard` 10/8, `long_form` 25/10, "
        "`high_volume` 15/8"
    )  # fmt: skip
    learn_window: int | None = Field(
        default=None, ge=1, description="Messages of a session at which `llm` first reads it; None: the preset's"
    )
    learn_stride: int | None = Field(
        default=None, ge=1, description="Further messages at which it reads again; None: the preset's"
    )
    skip_sources: Patterns = Field(default="", description="Sources not learned from, such as `test-*,batch`")
    skip_agents: Patterns = Field(default="", description="Agent versions not learned from, as patterns")
    llm_model: str = Field(default="gpt-4o-mini", description="Model of the `llm` extractor")
    llm_base_url: str | None = Field(default=None, description="Any OpenAI-compatible endpoint; None: OpenAI's")
    llm_api_key: SecretStr | None = Field(default=None, description="Key of that endpoint; without one: `statements`")
    llm_timeout: Seconds = Field(default=60.0, gt=0, description="Seconds that one answer of the model may take")
    llm_retries: int = Field(default=2, ge=0, le=10, description="How often a call that failed is repeated at once")
    llm_max_tokens: int = Field(default=8000, ge=500, description="Most tokens of a session in one call (estimated)")
    llm_definitions: Place = Field(default=None, description="TOML file of what to look for; None: anything")
    llm_tokens_per_day: int | None = Field(default=None, ge=0, description="Tokens that models may take in a UTC day")
    llm_tokens_per_user: int | None = Field(default=None, ge=0, description="The same for one user")
    llm_cost_per_day: float | None = Field(default=None, ge=0, description="What models may cost in a UTC day")
    llm_cost_per_user: float | None = Field(default=None, ge=0, description="The same for one user")
    llm_price_input: float = Field(default=0.0, ge=0, description="Price of a million tokens of prompts")
    llm_price_output: float = Field(default=0.0, ge=0, description="Price of a million tokens of answers")
    embedder: Literal["none", "local", "openai"] = Field(
        default="none", description="Search by meaning, too: a small local model, or an OpenAI-compatible endpoint"
    )
    embedding_model: str | None = Field(
        default=None, description="Model of that endpoint (None: text-embedding-3-small), or folder of the local one"
    )
    embedding_base_url: str | None = Field(default=None, description="Any OpenAI-compatible endpoint; None: OpenAI's")
    embedding_api_key: SecretStr | None = Field(default=None, description="Key of that endpoint")
    embedding_dimension: int | None = Field(
        default=None, ge=1, le=100_000, description="Numbers of a vector, where the endpoint's model lets one choose"
    )
    embedding_timeout: Seconds = Field(default=2.0, gt=0, description="Seconds that a search waits for its own vector")
    embedding_floor: float | None = Field(
        default=None, gt=0, le=1, description="Cosine from which meaning alone recalls; None: as measured, or never"
    )
    embed_messages: bool = Field(default=False, description="Embed all messages, too, not learnings alone")
    aggregate_users: int = Field(
        default=2, ge=2, description="How many users must say the same for it to become an agent playbook"
    )
    aggregate_approve: bool = Field(
        default=False, description="Use such agent playbooks at once, without a person's approval"
    )
    aggregate_similarity: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Cosine from which rules in other words agree; None: as measured, or never",
    )
    recall_timeout: Seconds | None = Field(
        default=None, gt=0, description="Seconds that a recall may take; None: 0.05, or 1 with a Reflexio server"
    )
    recall_tokens: int = Field(
        default=400, ge=0, description="Most tokens of a recalled block (about 4 characters each)"
    )
    recall_top_k: int = Field(default=5, ge=1, le=100, description="Most learnings of one kind in a block")
    recall_turns: int = Field(
        default=0, ge=0, le=100, description="Most messages of other sessions, not yet learned from, in a block"
    )
    retrieval_experiment: str | None = Field(
        default=None, min_length=1, max_length=200, description="Name of an experiment: some users go without recall"
    )
    retrieval_holdout: float = Field(
        default=0.1, ge=0, le=1, description="Share of users that go without recall in the experiment"
    )
    flush_timeout: Seconds = Field(default=10.0, description="Seconds that a flush may take")
    flush_on_return: Seconds = Field(
        default=0.0,
        description="Seconds that a captured call or a publish may wait until its turn is stored; "
        "0: not at all (for hosts that freeze the process when it has answered)",
    )
    exit_timeout: Seconds = Field(default=2.0, description="Seconds that storing may delay the end of the process")
    redact_secrets: bool = Field(
        default=True, description="Mask credentials and card numbers before anything is written"
    )
    redact_personal: bool = Field(
        default=False, description="Mask mail addresses, phone numbers, IBANs and US social security numbers, too"
    )
    spool_dir: Place = Field(default=None, description="Folder of the spool; None: beside the SQLite file")
    spool_max_bytes: int = Field(default=256 * 1024 * 1024, gt=0, description="Bound of the spool in bytes")
    spool_max_records: int = Field(default=200_000, gt=0, description="Bound of the spool in turns")

    @field_validator("learn_stride")
    @classmethod
    def _within_the_window(cls, stride: int | None, others: ValidationInfo) -> int | None:
        window = others.data.get("learn_window") or PRESETS[others.data.get("learn_preset", "standard")][0]
        if stride is not None and stride > window:
            raise ValueError(f"must not be above learn_window ({window})")
        return stride

    @model_validator(mode="before")
    @classmethod
    def _server_as_store(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("url") and not given.get("store"):
            return {**given, "store": given["url"]}
        return given

    @property
    def recall_seconds(self) -> float:
        """Seconds that a recall may take: a server is given time for the way there and back."""
        if self.recall_timeout is not None:
            return self.recall_timeout
        return 1.0 if is_server(self.store) else 0.05

    @property
    def server_key(self) -> str | None:
        """The key of the server, in clear text."""
        return self.api_key.get_secret_value() if self.api_key else None

    @property
    def extractors(self) -> tuple[str, ...]:
        """The names of the extractors, in order."""
        return tuple(dict.fromkeys(parts_of(self.extractor)))

    @property
    def window(self) -> tuple[int, int]:
        """Messages at which an extractor that waits first reads a session, and then again."""
        window, stride = PRESETS[self.learn_preset]
        window = self.learn_window or window
        return window, self.learn_stride or min(stride, window)


def read_settings(**given: Any) -> Settings:
    """The settings: what is given (None counts as not given), else the environment, else defaults.

    Raises:
        InvalidInputError: A value is unusable; it names the setting and its environment variable.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        problems = [(f"{place} (or REFLEXIO_{place.upper()})", what) for place, what in problems_of(error)]
        raise InvalidInputError("The settings cannot be used", problems) from error
