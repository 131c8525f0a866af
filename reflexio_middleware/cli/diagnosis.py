"""What ``doctor`` looks at: where things are, what is configured, and what is wrong. Looking changes nothing."""

from __future__ import annotations

import difflib
import importlib.metadata
import os
import platform
import shutil
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from reflexio_middleware.cli.home import sqlite_file
from reflexio_middleware.client.core import spool_folder
from reflexio_middleware.delivery.dead_letters import FILE as LETTERS_FILE
from reflexio_middleware.delivery.dead_letters import DeadLetter, DeadLetters
from reflexio_middleware.delivery.orphans import unreadable, waiting
from reflexio_middleware.embedding.setup import close_embedder, embedder_of
from reflexio_middleware.learning.aggregate import AGGREGATE
from reflexio_middleware.learning.generation import GENERATE
from reflexio_middleware.learning.learn import LEARN, kind_of
from reflexio_middleware.learning.metering import day_of
from reflexio_middleware.learning.purge import PURGE
from reflexio_middleware.settings import Settings, data_folder, masked, read_settings
from reflexio_store.contract import Finding, JobState, Store
from reflexio_store.errors import InvalidInputError, ReflexioError
from reflexio_store.homes import open_store
from reflexio_store.sql.dialects.sqlite_driver import driver

_PREFIX: Final = "REFLEXIO_"
_OTHER_NAMES: Final = ("REFLEXIO_CAPTURE",)
_PACKAGES: Final = ("reflexio-middleware", "pydantic", "sqlalchemy", "sqlmodel", "alembic", "httpx", "typer", "rich",
                    "openai", "langchain", "langchain-core")  # fmt: skip
_LOW_DISK: Final = 200 * 1024 * 1024
_DEAD_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting in force, as text (secrets masked), and where it came from: argument, environment or default."""

    name: str
    value: str
    origin: str


@dataclass(slots=True)
class Diagnosis:
    """All that was found. Sizes are in bytes; ``counts`` is empty where the store could not be opened."""

    store: str = ""
    file: Path | None = None
    file_bytes: int = 0
    spool: Path | None = None
    spools: int = 0
    spool_bytes: int = 0
    data_folder: Path = field(default_factory=data_folder)
    settings: list[Setting] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    dead_jobs: list[JobState] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether a finding is an error."""
        return any(item.level == "error" for item in self.findings)

    def note(self, level: Any, subject: str, message: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(level, subject, message))


def diagnose(store: str | None) -> Diagnosis:
    """Look at everything; never raises for what is wrong with the store or the settings."""
    found = Diagnosis(versions=_versions())
    settings = _settings(store, found)
    found.store = masked(settings.store)
    found.settings = [_origin(settings, name, store) for name in Settings.model_fields]
    _unknown_variables(found)
    _extractor(settings, found)
    _embedder(settings, found)
    _spool(settings, found)
    _file(settings, found)
    return found


def _versions() -> dict[str, str]:
    found = {"python": f"{platform.python_version()} ({platform.system()} {platform.machine()})",
             "sqlite": driver.sqlite_version}  # fmt: skip
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _settings(store: str | None, found: Diagnosis) -> Settings:
    """The settings; each unusable one is a finding, and its default stands in."""
    try:
        return read_settings(store=store)
    except InvalidInputError as error:
        values: dict[str, Any] = {} if store is None else {"store": store}
        for place, what in error.problems:
            name = place.split(" ")[0]
            found.note("error", "settings", f"{_PREFIX}{name.upper()}: {what}; mend it (its default stands in here)")
            values[name] = Settings.model_fields[name].get_default(call_default_factory=True, validated_data={})
        return Settings(**values)


def _origin(settings: Settings, name: str, store: str | None) -> Setting:
    value = getattr(settings, name)
    secret = isinstance(value, SecretStr)
    text = "(set, not shown)" if secret else "-" if value is None else masked(str(value))
    variable = f"{_PREFIX}{name.upper()}"
    if name == "store" and store is not None:
        return Setting(name, text, "argument")
    given = next((key for key in os.environ if key.upper() == variable), None)
    return Setting(name, text, f"environment ({given})" if given else "default")


def _unknown_variables(found: Diagnosis) -> None:
    known = [f"{_PREFIX}{name.upper()}" for name in Settings.model_fields] + list(_OTHER_NAMES)
    for name in sorted(os.environ):
        if name.upper().startswith(_PREFIX) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            found.note("warning", "settings", f"the environment variable {name} is no setting{hint}")
    if os.environ.get("REFLEXIO_CAPTURE") == "off":
        found.note("warning", "capture", "is switched off by REFLEXIO_CAPTURE=off: no turn is stored")


def _extractor(settings: Settings, found: Diagnosis) -> None:
    if settings.learning == "off":
        found.note("warning", "learning", "is switched off by REFLEXIO_LEARNING=off: nothing is learned here")
    if "llm" not in settings.extractors:
        return
    if settings.llm_definitions is not None:
        from reflexio_middleware.learning.definitions import read_definitions

        try:
            read_definitions(settings.llm_definitions)
        except InvalidInputError as error:
            found.note("error", "learning", " ".join(str(error).split()))
    if settings.llm_api_key is None:
        found.note("warning", "learning", "the llm extractor has no key: set REFLEXIO_LLM_API_KEY (statements is used)")
    if found.versions["openai"] == "not installed":
        mend = "pip install 'reflexio-middleware[openai]'"
        found.note("error", "learning", f"the llm extractor needs the openai package: {mend}")


def _embedder(settings: Settings, found: Diagnosis) -> None:
    """Whether the embedder answers: it is asked for the vector of one word."""
    try:
        embedder = embedder_of(settings)
        if embedder is None:
            return
        size = len(embedder.embed(["hello"], "query")[0])
        close_embedder(embedder)
    except Exception as error:  # noqa: BLE001 - an embedder may raise anything, and all of it is a finding
        mend = "see the settings embedding_api_key, embedding_base_url and embedding_model (full text is used)"
        found.note("error", "embedder", f"{type(error).__name__}: {' '.join(str(error).split())}; {mend}")
    else:
        found.note("ok", "embedder", f"{embedder.name} answers, with {size} numbers")


def _spool(settings: Settings, found: Diagnosis) -> None:
    folder = found.spool = spool_folder(settings)
    if folder is None:
        return
    found.spools, found.spool_bytes = waiting(folder)
    if found.spool_bytes:
        adopted = "those of processes that ended are stored by the next process to open the store"
        found.note("ok", "spool", f"{found.spool_bytes:,} bytes of turns wait; {adopted}")
    letters = list(DeadLetters(folder, settings.spool_max_bytes))
    found.dead_letters = letters[:_DEAD_SHOWN]
    if letters:
        again = "mend the reasons, then `reflexio-middleware doctor retry`"
        found.note(
            "error", "dead letters", f"the store refused {len(letters)} turns ({folder / LETTERS_FILE}); {again}"
        )
    for path, problem in unreadable(folder) if folder.is_dir() else ():
        found.note("error", "spool", f"{path}: {problem}; it is left as it is")
    for path in sorted(folder.glob("*.broken")) if folder.is_dir() else ():
        found.note("error", "spool", f"a damaged part of a spool was set aside: {path}")
    _writable(folder, "spool", found)


def _file(settings: Settings, found: Diagnosis) -> None:
    path = found.file = sqlite_file(settings.store)
    if path is None:
        _look_inside(settings, found)
        return
    _writable(path.parent, "store", found)
    if not path.exists():
        found.note("ok", "store", "there is no file yet; the first turn makes it")
        return
    found.file_bytes = sum(part.stat().st_size for part in _parts(path) if part.exists())
    if not os.access(path, os.W_OK):
        found.note("error", "store", f"{path} cannot be written by this user")
    _look_inside(settings, found)


def _parts(path: Path) -> list[Path]:
    return [path.with_name(path.name + end) for end in ("", "-wal", "-shm")]


def _writable(folder: Path, subject: str, found: Diagnosis) -> None:
    """Whether the folder, or the nearest one above it that is there, can be written and has room."""
    there = next((part for part in (folder, *folder.parents) if part.exists()), folder)
    if not there.is_dir():
        found.note("error", subject, f"{there} is a file, but a folder is needed")
    elif not os.access(there, os.W_OK | os.X_OK):
        found.note("error", subject, f"the folder {there} cannot be written: change its rights, or name another place")
    elif (free := shutil.disk_usage(there).free) < _LOW_DISK:
        found.note("warning", subject, f"only {free // 1_000_000} MB are free on the disk of {there}")


def _look_inside(settings: Settings, found: Diagnosis) -> None:
    """Counts, checks and dead jobs; what keeps the store from being opened is a finding."""
    try:
        with closing(open_store(settings.store, api_key=settings.server_key)) as store:
            found.findings += store.check()
            found.counts = store.counts()
            kinds = (LEARN, kind_of("llm"), GENERATE, AGGREGATE, PURGE)
            dead = [state for kind in kinds for state in store.job_states(kind, states=["dead"], limit=_DEAD_SHOWN)]
            found.dead_jobs = dead[:_DEAD_SHOWN]
            _models(store, found)
    except ReflexioError as error:
        found.note("error", "store", " ".join(str(error).split()))


def _models(store: Store, found: Diagnosis) -> None:
    """What models took today, and what waits because a budget is used up."""
    tokens, micros = store.spent(day_of(time.time()))
    if tokens:
        found.note("ok", "models", f"{tokens:,} tokens today, at a cost of {micros / 1e6:.2f}")
    waiting = store.job_states(kind_of("llm"), states=["ready"], limit=_DEAD_SHOWN)
    reason = next((state.result["waits_for"] for state in waiting if "waits_for" in state.result), None)
    if reason is not None:
        found.note("warning", "models", f"{reason}; sessions wait for tomorrow (UTC), or raise that setting")
