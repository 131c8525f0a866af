"""Embedding: documents in a thread of its own; queries, and what a server found, within a time limit."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, TypeVar

from reflexio_middleware.embedding import Embedder
from reflexio_middleware.embedding.batch import checked, embed_batch, status_of
from reflexio_middleware.embedding.setup import close_embedder
from reflexio_middleware.guard import count, guard, warn
from reflexio_store.contract import Embeddable, Meaning, Store
from reflexio_store.errors import MissingExtraError
from reflexio_store.forking import protect

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")
_TOGETHER: Final = 32  # texts that are embedded in one call
_POLL_SECONDS: Final = 5.0
_BACKOFF_SECONDS: Final = (1.0, 5.0, 30.0, 60.0)
_MOST_REST: Final = 3600.0
_KEPT: Final = 1_000  # queries, and texts of a home that keeps no vectors
_MOST_CHARACTERS: Final = 2_000  # of such a text, as of those that a home gives
_MOST_ASKING: Final = 16  # recalls and searches that wait for the embedder at the same time
_LAST_SECONDS: Final = 1.0


class BackgroundEmbedding:
    """Gives every text of a home a vector of one embedder, soon; and queries theirs, in time.

    Args:
        open_store: Gives the store. A home that is not :class:`~reflexio_store.contract.Embeddable` embeds by itself.
        embedder: What embeds. Where it fails, it is tried again later; searches go on with full text.
        messages: Embed messages, too, not learnings alone.
        floor: Cosine from which meaning alone lets a learning be recalled; None: as it was measured for the model.

    Raises:
        MissingExtraError: ``numpy`` is missing, by which vectors are compared.
    """

    def __init__(
        self, open_store: Callable[[], Store], embedder: Embedder, *, messages: bool, floor: float | None = None
    ) -> None:
        if find_spec("numpy") is None:
            raise MissingExtraError("Search by meaning", "embeddings")
        self._open_store = open_store
        self._embedder = embedder
        self._messages = messages
        self._floor = floor
        self._closed = False
        self._kept: OrderedDict[str, Meaning] = OrderedDict()
        self._vectors: OrderedDict[tuple[str, str], NDArray[Any] | None] = OrderedDict()
        self._reset()
        protect(self)

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._asking = 0
        self._woken = False
        self._failures = 0
        self._rest_until = 0.0

    def wake(self) -> None:
        """Look for texts without a vector soon; starts the thread if there is none."""
        with self._changed:
            if self._closed:
                return
            self._woken = True
            self._changed.notify_all()
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._run, name="reflexio-embedding", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the interpreter is ending: the texts are in the home, for the next process
                    return
                self._thread = thread

    def wait(self, timeout: float) -> int:
        """Wait until every text has its vector, or the embedder fails, at most so many seconds; how many lack one
        (at most 32 are counted)."""
        deadline = time.monotonic() + timeout
        while True:
            lacking = len(self._lacking())
            left = deadline - time.monotonic()
            if not lacking or left <= 0 or self._closed or self._failures:
                return lacking
            self.wake()
            with self._changed:
                self._changed.wait(min(left, 0.05))

    def meaning(self, text: str, timeout: float) -> Meaning | None:
        """The vector of a query; None if it was not to be had in so many seconds (then it may be there next time), or
        the embedder asked to be left alone for now."""
        with self._changed:
            kept = self._kept.get(text)
        return kept or self._in_time(lambda: self._meant(text), timeout)

    def cosines(self, meaning: Meaning, texts: Sequence[str], timeout: float) -> list[float | None]:
        """How near texts are to a meaning, for a home that keeps no vectors made here. At most 32 are embedded anew.

        None for a text whose vector was not to be had in so many seconds (then it may be there next time).
        """
        names = [(meaning.model, text[:_MOST_CHARACTERS]) for text in texts]
        with self._changed:
            lacking = [name[1] for name in dict.fromkeys(names) if name not in self._vectors][:_TOGETHER]
        if lacking:
            self._in_time(lambda: self._embed_new(lacking), timeout)
        with self._changed:
            vectors = [self._vectors.get(name) for name in names]
        asked = _unit(meaning.vector)
        return [None if one is None or one.shape != asked.shape else float(one @ asked) for one in vectors]

    def _embed_new(self, texts: Sequence[str]) -> None:
        """Embed texts, and keep what became of them; one that is refused is not asked for again."""
        try:
            batch = embed_batch(self._embedder, texts)
        except Exception as error:  # noqa: BLE001 - an embedder may raise anything, and words are compared instead
            self._note(error)
            return
        self._note_refused(list(batch.refused.values()))
        with self._changed:
            for place, text in enumerate(texts):
                vector = batch.vectors.get(place)
                _keep(self._vectors, (self._embedder.name, text), None if vector is None else _unit(vector))

    def _in_time(self, work: Callable[[], T], timeout: float) -> T | None:
        """What some work with the embedder gives; None where it takes longer, or the embedder is to be left alone."""
        with self._changed:
            if self._closed or time.monotonic() < self._rest_until:
                return None
            if self._asking >= _MOST_ASKING:  # an endpoint that hangs gets no further ones
                count("embeddings_late")
                return None
            asked: Future[T | None] = Future()
            # a thread that nobody waits for when the process ends, as one of a pool would be waited for
            thread = threading.Thread(target=self._ask, args=(work, asked), name="reflexio-embed", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no thread is to be had: the interpreter is ending, or the machine has no more
                count("embeddings_late")
                return None
            self._asking += 1
        try:
            return asked.result(max(0.0, timeout))
        except Late:
            count("embeddings_late")
            return None

    def _ask(self, work: Callable[[], T], asked: Future[T | None]) -> None:
        found = None
        try:
            found = work()
        finally:
            with self._changed:
                self._asking -= 1
            asked.set_result(found)

    def _meant(self, text: str) -> Meaning | None:
        try:
            [vector] = checked(self._embedder.embed([text], "query"), 1)
            made = Meaning(self._embedder.name, list(vector), self._floor)
        except Exception as error:  # noqa: BLE001 - an embedder may raise anything, and a search does without
            self._note(error)
            return None
        with self._changed:
            _keep(self._kept, text, made)
        return made

    def close(self, timeout: float) -> None:
        """Stop after the texts at hand; waits at most ``timeout`` seconds for them (and no more than one: they are
        embedded by the next process)."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(min(timeout, _LAST_SECONDS))
        close_embedder(self._embedder)

    def _run(self) -> None:
        while not self._closed:
            done = 0
            with guard("embedding"):
                done = self._embed_some()
            if not done:
                with self._changed:
                    if not (self._woken and not self._failures) and not self._closed:
                        self._changed.wait(self._pause())
                    self._woken = False

    def _pause(self) -> float:
        """Seconds until texts are looked for again: longer after failures, and as long as an endpoint asked for."""
        pause = _BACKOFF_SECONDS[min(self._failures, 4) - 1] if self._failures else _POLL_SECONDS
        return max(pause, self._rest_until - time.monotonic())

    def _lacking(self, most: int = _TOGETHER) -> dict[int, str]:
        store = self._open_store()
        if not isinstance(store, Embeddable):
            return {}
        texts = store.unembedded(self._embedder.name, messages=self._messages, limit=most)
        return {item.number: item.text for item in texts}

    def _embed_some(self) -> int:
        """Embed a few of the texts that have no vector, and fewer after each failure: an endpoint that does one thing
        after another may not manage many within its time limit. How many got theirs."""
        store = self._open_store()
        if not isinstance(store, Embeddable):
            return 0
        if self._messages:
            store.index_interactions(limit=200)
        lacking = self._lacking(max(1, _TOGETHER >> self._failures))
        if not lacking:
            return 0
        name, numbers = self._embedder.name, list(lacking)
        try:
            batch = embed_batch(self._embedder, list(lacking.values()))
            kept = store.put_vectors(name, {numbers[place]: vector for place, vector in batch.vectors.items()})
            if batch.refused:
                store.set_aside(name, [numbers[place] for place in batch.refused])
        except Exception as error:  # noqa: BLE001 - an embedder may raise anything, and is tried again
            self._failures += 1
            self._note(error)
            return 0
        self._failures = 0
        count("texts_embedded", kept)
        self._note_refused(list(batch.refused.values()))
        with self._changed:
            self._changed.notify_all()
        return kept + len(batch.refused)

    def _note_refused(self, errors: Sequence[Exception]) -> None:
        if errors:
            count("texts_refused", len(errors))
            name, error = self._embedder.name, errors[-1]
            warn(f"embedding refused:{name}", "reflexio: %s refused %d texts (%s: %s); they are found by their words, "
                 "and tried again with another model", name, len(errors), type(error).__name__, error)  # fmt: skip

    def _note(self, error: Exception) -> None:
        if self._closed:
            return
        count("embeddings_failed")
        self._rest_until = max(self._rest_until, time.monotonic() + _asked_for(error))
        hint = "; the key is wrong (the setting embedding_api_key)" if status_of(error) in (401, 403) else ""
        name = self._embedder.name
        warn(f"embedding:{name}", "reflexio: embedding with %s failed (%s: %s)%s; searches go on with full text",
             name, type(error).__name__, error, hint)  # fmt: skip

    def before_fork(self) -> None:
        """Nothing to hold: the thread rests at the store."""

    def after_fork(self, *, child: bool) -> None:
        """In a child there are no threads any more."""
        if child:
            self._reset()


def _keep(kept: OrderedDict[K, V], key: K, value: V) -> None:
    kept[key] = value
    while len(kept) > _KEPT:
        kept.popitem(last=False)


def _unit(vector: Sequence[float]) -> NDArray[Any]:
    import numpy as np

    made = np.asarray(vector, dtype=np.float32)
    return made / (float(np.linalg.norm(made)) or 1.0)


def _asked_for(error: Exception) -> float:
    """Seconds that an endpoint asked to be left alone: its ``Retry-After`` in seconds, an hour at most."""
    said = str(getattr(getattr(error, "response", None), "headers", {}).get("retry-after") or "")
    return min(float(said), _MOST_REST) if said.isdecimal() and said.isascii() else 0.0
