"""What all parts of a client share: its settings, its home, its delivery and its worker."""

from __future__ import annotations

import atexit
import hashlib
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import NoneType
from typing import Any, Final, NoReturn, Self, TypeVar, cast

from pydantic import BaseModel, ValidationError

from reflexio_middleware.capture.redaction import Redaction, Redactor
from reflexio_middleware.capture.turn import settle_turns
from reflexio_middleware.client.opening import Opening
from reflexio_middleware.delivery.writer import BATCH, SERVER_BATCH, Delivery, FlushResult
from reflexio_middleware.embedding import Embedder
from reflexio_middleware.embedding.background import BackgroundEmbedding
from reflexio_middleware.embedding.setup import embedder_of
from reflexio_middleware.guard import count, counters, guard, warn
from reflexio_middleware.learning.extractor import Extractor
from reflexio_middleware.learning.metering import day_of
from reflexio_middleware.learning.reading import extractor_name
from reflexio_middleware.learning.setup import readers_of, steps_of
from reflexio_middleware.learning.worker import LearningWorker
from reflexio_middleware.recall.render import TokenCounter, estimate_tokens
from reflexio_middleware.scope import Scope
from reflexio_middleware.settings import Settings, data_folder, parts_of, read_settings
from reflexio_store.contract import Embeddable, Meaning, Store
from reflexio_store.errors import InvalidInputError, StoreUnavailableError, StoreUnreachableError, StoreURLError
from reflexio_store.forking import protect
from reflexio_store.homes import is_server, name_of, open_store
from reflexio_store.models import SearchMode, problems_of

M = TypeVar("M", bound=BaseModel)
_STORING: Final = 0.75
"""Share of ``exit_timeout`` for storing what waits; the rest is for the threads to end."""


def checked(model: type[M], **fields: Any) -> M:
    """``model`` of these fields (None counts as not given; ``limit`` is its ``top_k``); space around an id is no part
    of it.

    Raises:
        InvalidInputError: A field is unusable; it names each.
    """
    given = {"top_k" if name == "limit" else name: value for name, value in fields.items() if value is not None}
    ids = {name: value.strip() for name, value in given.items() if name.endswith("_id") and isinstance(value, str)}
    try:
        return model(**given | ids)
    except ValidationError as error:
        called = {"top_k": "limit"} if "limit" in fields else {}
        problems = [(called.get(place, place), problem) for place, problem in problems_of(error)]
        raise InvalidInputError("The call was refused", problems) from error


def values_of(model: type[M], values: Any, name: str) -> list[M]:
    """``values`` (models or mappings, one at least) as models.

    Raises:
        InvalidInputError: One is unusable; it names its place and field.
    """
    if isinstance(values, (str, bytes, Mapping, BaseModel)) or not hasattr(values, "__iter__"):
        raise InvalidInputError("The call was refused", [(name, f"must be a list, not {type(values).__name__}")])
    made, problems = [], []
    for index, value in enumerate(values):
        try:
            made.append(value if isinstance(value, model) else model.model_validate(value))
        except ValidationError as error:
            problems += problems_of(error, f"{name}[{index}]")
    if not made and not problems:
        problems.append((name, "needs at least one"))
    if problems:
        raise InvalidInputError("The call was refused and nothing was stored", problems)
    return made


def named(name: str, value: Any) -> str:
    """An id that must be given, without the space around it."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidInputError("The call was refused", [(name, "is missing: give the id as text")])
    return value.strip()


def whose(user_id: Any) -> str | None:
    """The user who is meant, without the space around the id; None: everybody, ``""``: nobody."""
    if user_id is None or isinstance(user_id, str):
        return user_id and user_id.strip()
    raise InvalidInputError("The call was refused", [("user_id", f"must be text, not {type(user_id).__name__}")])


def ids_in(name: str, values: Sequence[Any]) -> list[str]:
    """A list of 1 to 10,000 ids (text, or numbers) as text."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence) or not 1 <= len(values) <= 10_000:
        raise InvalidInputError("The call was refused", [(name, "must be a list of 1 to 10000 ids")])
    return [named(name, str(value) if isinstance(value, int) else value) for value in values]


class Core:
    """A home of the record, with the delivery that fills it and the worker that learns from it.

    Thread-safe; one per process and home is enough. Close it, or use it as ``with``: what is not stored yet is stored
    then, or stays in the spool for the next process.
    """

    def __init__(
        self,
        store: str | None = None,
        *,
        url_endpoint: str | None = None,
        api_key: str | None = None,
        extractor: Extractor | str | Sequence[Extractor | str] | None = None,
        redactors: Sequence[Redactor] = (),
        embedder: Embedder | str | None = None,
        count_tokens: TokenCounter = estimate_tokens,
        _background: bool = False,
        **settings: Any,
    ) -> None:
        given = _given(extractor)
        _check_parts(given, redactors, embedder, count_tokens)
        named = [one for one in given if isinstance(one, str)] or None
        model = embedder if isinstance(embedder, str) else None
        home = _home(store, url_endpoint)
        self.settings: Settings = read_settings(
            store=home, api_key=api_key, extractor=named, embedder=model, **settings
        )
        self._extractors: Sequence[Extractor | str] = given or self.settings.extractors
        learns_here = self._is_ours(given) and self.settings.learning == "thread"
        self._count_tokens = count_tokens
        self._opening = Opening(self._new_store)
        self._closed = False
        self._pooling = threading.Lock()
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._finished: set[tuple[str, str]] = set()
        self._readers = readers_of(self._extractors, self.settings) if learns_here else []
        self._embedder = embedder_of(self.settings) if isinstance(embedder, (str, NoneType)) else embedder
        steps = steps_of(self._readers, self.settings, self._embedder) if self._readers else {}
        self._worker = LearningWorker(self._open, steps) if steps else None
        self._embedding = (
            BackgroundEmbedding(
                self._open,
                self._embedder,
                messages=self.settings.embed_messages,
                floor=self.settings.embedding_floor,
            )
            if self._embedder
            else None
        )
        self._delivery = Delivery(
            self._open,
            spool_folder(self.settings),
            prepare=Redaction(
                secrets=self.settings.redact_secrets, personal=self.settings.redact_personal, more=redactors
            ),
            agent_version=self.settings.agent_version,
            learn_after=_pause(self._extractors, self.settings),
            on_stored=self._worker.wake if self._worker else None,
            max_bytes=self.settings.spool_max_bytes,
            max_records=self.settings.spool_max_records,
            flush_on_return=self.settings.flush_on_return,
            batch=SERVER_BATCH if is_server(self.settings.store) else BATCH,
        )
        if not _background:
            self._open_if_there()
            self._delivery.start()
        if self._worker and not _background:
            self._worker.wake()
        if self._embedding and not _background and not is_server(self.settings.store):
            self._embedding.wake()
        _open_clients[self] = None
        protect(self)
        _close_with_child(self)

    def _is_ours(self, extractors: Sequence[object]) -> bool:
        """Whether this process may learn. A server does that itself: two would learn the same twice."""
        if not is_server(self.settings.store):
            return True
        if extractors or "extractor" in self.settings.model_fields_set:
            problem = ("extractor", "a Reflexio server learns itself: leave it out, or name a database")
            raise InvalidInputError("The client cannot be made", [problem])
        return False

    def _meaning(
        self, store: Store, text: str, mode: SearchMode, *, embedded: bool = True
    ) -> tuple[Meaning | None, SearchMode, bool]:
        """The meaning of a query; the mode that is then to be had, and whether that is less than was wanted.

        Without an embedder, or where it fails or takes too long, that is full text; a server embeds by itself.
        ``embedded``: what is searched has vectors.
        """
        if not isinstance(store, Embeddable):
            return None, mode, False
        embedding = self._embedding if embedded else None
        meaning = embedding.meaning(text, self.settings.embedding_timeout) if embedding and mode != "fts" else None
        if meaning:
            return meaning, mode, False
        return None, "fts", mode == "vector" or (mode == "hybrid" and embedding is not None)

    def _open(self) -> Store:
        return self._opening.store()

    def _new_store(self) -> Store:
        return open_store(self.settings.store, api_key=self.settings.server_key, folder=spool_folder(self.settings))

    def _open_if_there(self) -> None:
        """Open the home, or say that its server does not answer: turns wait for it in the spool."""
        try:
            self._open()
        except StoreUnreachableError as error:
            count("store_unavailable")
            warn("store", "reflexio: the store cannot be used; turns wait in the spool (%s)", error)

    @property
    def _opened(self) -> Store | None:
        return self._opening.opened

    @property
    def store(self) -> Store:
        """The home, opened; a read of it sees what this process captured before, as far as it is stored.

        Raises:
            StoreError: It cannot be opened.
        """
        return self._open()

    @property
    def _extractor_names(self) -> list[str]:
        return list(map(extractor_name, self._extractors))

    @property
    def sink(self) -> Delivery:
        """Where finished turns are put; integrations hand theirs in here."""
        return self._delivery

    @property
    def is_closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closed

    @property
    def url(self) -> str:
        """Where the record is kept, without any password."""
        return self._opened.url if self._opened else self.settings.store

    def _settled(self) -> Store:
        """The store, after this process's own turns were let through: a read sees what was written before it."""
        store = self._open()
        if self._delivery.pending:
            self._delivery.flush(self.settings.flush_timeout)
        return store

    def flush(self, timeout: float | None = None, *, learn_now: bool = False) -> FlushResult:
        """Wait until all captured turns are stored, until the learning that is due has been done, and until what was
        learned has its vectors (where there is an embedder, and it does not fail).

        Args:
            timeout: Seconds at most; None: the setting ``flush_timeout`` (10).
            learn_now: Learn now from sessions that would otherwise wait for quiet (see ``learn_after``).
        """
        limit = self.settings.flush_timeout if timeout is None else timeout
        deadline = time.monotonic() + limit
        remaining = self._delivery.flush(limit)
        if remaining:
            return FlushResult(remaining=remaining)
        learning = 0
        if self._worker is not None:
            if learn_now:
                self._open().force_learning()
            learning = len(self._worker.wait(max(0.0, deadline - time.monotonic())))
        if self._embedding is not None:
            self._embedding.wait(max(0.0, deadline - time.monotonic()))
        return FlushResult(learning_remaining=learning)

    def stats(self) -> dict[str, int]:
        """Counters of this process (``turns_captured``, ``turns_stored``, ``turns_refused``, ``internal_errors``,
        ``recalls``, ``recalls_late``, ``store_unavailable``,
        ``store_access_refused``, ...); ``pending``: turns of this client that are not stored yet; and of the
        store, where it is open: ``jobs_ready``, ``jobs_running``, ``jobs_dead``, and ``llm_tokens_today``."""
        found = {**counters(), "pending": self._delivery.pending}
        store = self._opened
        if store is not None and not self._closed:
            with guard("counting jobs"):
                found |= {**store.backlog(), "llm_tokens_today": store.spent(day_of(time.time()))[0]}
        return found

    def finish_soon(self, scope: Scope) -> None:
        """Let a session be learned from once its turns are stored; nobody waits for that."""
        if scope.user_id and not self._closed:
            self._finished.add((scope.user_id, scope.session_id))
            self._call_threads().submit(self._finish)

    def _finish(self) -> None:
        with guard("finishing a session"):
            while (names := next(iter(self._finished), None)) is not None:
                self._finished.discard(names)
                user_id, session_id = names
                if self._settled().force_learning(user_id=user_id, session_id=session_id) and self._worker:
                    self._worker.wake()

    def close(self, timeout: float | None = None) -> FlushResult:
        """Store what waits (``timeout`` seconds at most; None: the setting ``flush_timeout``) and release all.

        Closing twice is fine. What could not be stored stays in the spool for the next process.
        """
        if self._closed:
            return FlushResult()
        limit = min(self.settings.flush_timeout if timeout is None else timeout, threading.TIMEOUT_MAX)
        deadline = time.monotonic() + limit
        settle_turns(self._delivery)
        if self._finished:
            self._finish()
        remaining = self._delivery.close(limit)
        self._closed = True
        if self._worker:
            with guard("closing the worker"):
                self._worker.close(max(0.1, deadline - time.monotonic()))
        if self._embedding:
            with guard("closing the embedder"):
                self._embedding.close(max(0.1, deadline - time.monotonic()))
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        self._opening.close(waiting=not remaining and time.monotonic() < deadline + 0.15)
        _open_clients.pop(self, None)
        return FlushResult(remaining=remaining)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"A {type(self).__name__} cannot be pickled: it holds threads and files. Make one where it is "
                        "needed; a home that is a file is shared by processes.")  # fmt: skip

    def before_fork(self) -> None:
        """Let a home that is being opened be opened first."""
        self._opening.before_fork()

    def after_fork(self, *, child: bool) -> None:
        """In a child the threads of the pool are gone; in the parent all goes on."""
        self._opening.after_fork(child=child)
        if child:
            self._pooling = threading.Lock()
            self._pools = {}
            if "multiprocessing.util" in sys.modules:  # it clears its finalizers only now, and then calls these
                sys.modules["multiprocessing.util"].register_after_fork(self, _close_with_child)

    def _recall_threads(self) -> ThreadPoolExecutor:
        """Threads for recalls alone, which have a time limit: nothing else may stand in their queue."""
        return self._pool_of("recall", 8)

    def _call_threads(self) -> ThreadPoolExecutor:
        """Threads for the async client's calls, some of which wait for learning."""
        return self._pool_of("call", 32)

    def _pool_of(self, name: str, size: int) -> ThreadPoolExecutor:
        pool = self._pools.get(name)
        if pool is None:
            with self._pooling:
                if self._closed:
                    raise StoreUnavailableError("This client is closed: make a new one")
                pool = self._pools.get(name) or ThreadPoolExecutor(size, thread_name_prefix=f"reflexio-{name}")
                self._pools[name] = pool
        return pool


def _home(store: str | None, url_endpoint: str | None) -> str | None:
    """The URL of the home where one is given: ``url_endpoint`` is the public client's name for that of a server."""
    if url_endpoint is None:
        return store
    if store is not None and store != url_endpoint:
        raise StoreURLError("Give the home once: as store, or (a Reflexio server's address) as url_endpoint.")
    if not is_server(url_endpoint):
        raise StoreURLError(f"url_endpoint is the address of a Reflexio server (https://host), not {url_endpoint!r}.")
    return url_endpoint


def _given(extractor: Extractor | str | Sequence[Extractor | str] | None) -> list[Extractor | str]:
    if extractor is None:
        return []
    if isinstance(extractor, str):
        return list(parts_of(extractor)) or [extractor]
    return list(extractor) if isinstance(extractor, (list, tuple)) else [cast(Extractor, extractor)]


def _check_parts(extractors: Sequence[object], redactors: object, embedder: object, count_tokens: object) -> None:
    problems = []
    if not all(isinstance(one, str) or callable(getattr(one, "extract", None)) for one in extractors):
        wanted = "'statements', 'llm', an object with name and extract(session), or a list of these"
        problems.append(("extractor", f"must be {wanted}"))
    names = list(map(extractor_name, extractors))
    if len(set(names)) < len(names):
        problems.append(("extractor", "must each have a name of its own"))
    if not isinstance(redactors, Sequence) or isinstance(redactors, str) or not all(map(callable, redactors)):
        problems.append(("redactors", "must be a list of functions from text to text"))
    if embedder is not None and not isinstance(embedder, (str, Embedder)):
        problems.append(("embedder", "must be 'local', 'openai', or an object with name, dimension and embed(texts)"))
    if not callable(count_tokens):
        problems.append(("count_tokens", "must be a function from text to a number of tokens"))
    if problems:
        raise InvalidInputError("The client cannot be made", problems)


def _pause(extractors: Sequence[Extractor | str], settings: Settings) -> float | None:
    """Seconds after a turn at which the job that learns from its session falls due; None where learning is off."""
    if settings.learning == "off":
        return None
    waits = any(one == "llm" or getattr(one, "waits", False) for one in extractors)
    return 0.0 if waits or settings.learn_after is None else settings.learn_after


def spool_folder(settings: Settings) -> Path | None:
    """Where the spool of a home lies: beside a SQLite file, nowhere for an in-memory home, else in the data folder."""
    if settings.spool_dir is not None:
        return settings.spool_dir.expanduser()
    url = settings.store.partition("?")[0]
    if url in ("sqlite://", "sqlite:///:memory:"):
        return None
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///")).expanduser().absolute()
        return path.with_name(path.name + "-spool")
    return data_folder() / "spool" / hashlib.sha256(name_of(settings.store).encode()).hexdigest()[:16]


_open_clients: weakref.WeakKeyDictionary[Core, None] = weakref.WeakKeyDictionary()


def open_clients() -> list[Core]:
    """The clients of this process that are not closed, in the order in which they were made."""
    made = (held() for held in _open_clients.keyrefs())  # at once: another thread may be making or closing one
    return [client for client in made if client is not None and not client.is_closed]


def _close_at_exit() -> None:
    """Close every client; together they take no longer than the longest ``exit_timeout``. Ctrl-C ends it at once."""
    clients = open_clients()
    deadline = time.monotonic() + max((client.settings.exit_timeout for client in clients), default=0.0) * _STORING
    for waiting, client in zip(range(len(clients), 0, -1), clients, strict=True):
        try:
            with guard("closing at exit"):
                client.close(max(0.0, deadline - time.monotonic()) / waiting)
        except KeyboardInterrupt:
            deadline = 0.0


def _close_with_child(_: Core) -> None:
    """Let a child process of ``multiprocessing`` close its clients: it ends without calling what ``atexit`` knows."""
    process, util = sys.modules.get("multiprocessing.process"), sys.modules.get("multiprocessing.util")
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, _close_at_exit, exitpriority=0)


atexit.register(_close_at_exit)
