"""The one writer of a process: it takes turns into the spool at once, and drains them into the store in batches.

``put`` is called in the agent's path: it encodes, appends and returns. A daemon thread does the rest, is started by
the first turn, and is started anew after a fork. Delivery is at least once; the store keeps each turn once.

The thread shares one interpreter lock with the agent, so it works when the agent rests: it lets turns gather while
they keep coming, and pauses between batches. Who waits for turns (a flush, a read, the end) has them stored at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from reflexio_middleware.delivery.dead_letters import DeadLetters
from reflexio_middleware.delivery.orphans import OrphanSpool, UnreadableSpoolError, orphans
from reflexio_middleware.delivery.spool import MAX_BYTES, MAX_RECORDS, FileSpool, MemorySpool, Spool, forget_damaged
from reflexio_middleware.guard import count, guard, warn
from reflexio_store.contract import Requests
from reflexio_store.errors import (
    ReflexioError,
    SchemaTooNewError,
    StoreAccessError,
    StoreCorruptError,
    StoreUnavailableError,
)
from reflexio_store.forking import protect
from reflexio_store.records import TurnRecord

BATCH: Final = 256
SERVER_BATCH: Final = 32
"""To a server, which stores turns one by one, less goes at once: so less is asked for again after an error."""
LINGER_SECONDS: Final = 0.05
"""The writer stores turns when none has come for so long, unless somebody waits for them."""
MAX_LINGER_SECONDS: Final = 0.5
"""Where turns keep coming, it stores a batch after so long all the same."""
_BACKLOG: Final = 4096
"""With so many turns waiting, it stores batch after batch without a pause."""
_RETRY_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
_UNHURRIED: Final = ("partial", "abandoned")  # how a turn may end in the garbage collector, where nobody waits
_WAITING: Final = (StoreUnavailableError, StoreCorruptError, SchemaTooNewError)
"""Errors of the home, not of a turn: the turns stay in the spool until it is mended."""


@dataclass(frozen=True, slots=True)
class FlushResult:
    """What a flush achieved: turns still waiting, and learning jobs that were due and have not ended."""

    remaining: int = 0
    learning_remaining: int = 0

    @property
    def complete(self) -> bool:
        """Whether nothing waits any more."""
        return not self.remaining and not self.learning_remaining


@dataclass(frozen=True, slots=True)
class Resent:
    """What became of dead letters that were sent again: stored now, refused again, or still waiting in the spool."""

    stored: int = 0
    refused: int = 0
    waiting: int = 0


class Delivery:
    """A sink for turns that stores each of them, sooner or later.

    Args:
        open_store: Gives the store, opening it when needed; may raise a StoreError, then it is tried again.
        folder: Where the spool lies; None keeps it in memory.
        prepare: Applied to each turn before it is encoded; must not raise.
        agent_version: Version of turns that name none.
        learn_after: Seconds after a turn at which its session is learned from; None: never.
        on_stored: Called after each batch that was stored.
        max_bytes: Bound of the spool, and of the file of dead letters.
        max_records: Bound of the spool in turns.
        flush_on_return: Seconds that :meth:`put` may wait until its turn is stored; 0: it does not wait.
        adopt_every: Seconds after which spools of processes that died meanwhile are looked for again.
        batch: Turns that are stored together at most. After an error all of them are given to the store again.
    """

    def __init__(
        self,
        open_store: Callable[[], Requests],
        folder: Path | None,
        *,
        prepare: Callable[[TurnRecord], None] | None = None,
        agent_version: str = "agent-v0",
        learn_after: float | None = 0.0,
        on_stored: Callable[[], None] | None = None,
        max_bytes: int = MAX_BYTES,
        max_records: int = MAX_RECORDS,
        flush_on_return: float = 0.0,
        adopt_every: float = 60.0,
        batch: int = BATCH,
    ) -> None:
        self._open_store = open_store
        self._folder = folder
        self._prepare = prepare
        self._agent_version = agent_version
        self._learn_after = learn_after
        self._on_stored = on_stored
        self._max_bytes = max_bytes
        self._max_records = max_records
        self._flush_on_return = flush_on_return
        self._dead_letters = DeadLetters(folder, max_bytes) if folder is not None else None
        self._adopt_every = adopt_every
        self._batch = batch
        self._closed = False
        self._reset()
        protect(self)

    def _reset(self) -> None:
        self._starting = threading.RLock()  # the garbage collector may end a turn while this very thread is inside
        self._launching = False
        self._resting = False
        self._changed = threading.Condition()
        self._spool: Spool | None = None
        self._thread: threading.Thread | None = None
        self._stop = False
        self._idle = False
        self._waiters = 0
        self._settled = 0
        self._gathered_bytes = 0
        self._failures = 0
        self._rest: float | None = None
        self._adopted = False
        self._adopt_next = 0.0
        self._begun: dict[Path, int] = {}
        self.last_error = ""

    @property
    def pending(self) -> int:
        """Turns of this process that the store does not have yet."""
        return self._spool.pending if self._spool else 0

    def put(self, turn: TurnRecord) -> bool:
        """Take a turn; False (and counted, and said once) if it had to be refused."""
        if not turn.agent_version:
            turn.agent_version = self._agent_version
        if self._prepare is not None:
            self._prepare(turn)
        try:
            payload = orjson.dumps(turn.to_json())
        except (TypeError, ValueError) as error:
            count("turns_refused")
            warn("encode", "reflexio: a turn could not be encoded and is lost (%s)", error)
            return False
        if self._closed or not self._writable_spool().append(payload):
            count("turns_refused")
            warn("refused", "reflexio: a turn was refused: %s", "the client is closed" if self._closed else
                 "the spool is full or cannot be written")  # fmt: skip
            return False
        self._gathered_bytes += len(payload)  # about: two threads may count as one
        if self._idle or self._thread is None or not self._thread.is_alive():
            self._wake()
        if self._flush_on_return and turn.status not in _UNHURRIED:
            self.flush(self._flush_on_return)
        return True

    def _writable_spool(self) -> Spool:
        if self._spool is None:
            with self._starting:
                if self._spool is None:
                    made = self._new_spool()
                    self._spool = self._spool or made
                    if self._spool is not made:
                        made.close()
        return self._spool

    def _new_spool(self) -> Spool:
        if self._folder is None:
            return MemorySpool(self._max_bytes, self._max_records)
        try:
            return FileSpool(self._folder, self._max_bytes, self._max_records)
        except OSError as error:
            count("spool_errors")
            warn("spool", "reflexio: no spool in %s (%s): turns are kept in memory until stored", self._folder, error)
            return MemorySpool(self._max_bytes, self._max_records)

    def start(self) -> None:
        """Start the writer thread if there is none; it adopts the spools of dead processes."""
        if self._is_running():
            return
        with self._starting:
            if self._launching:
                return
            self._launching = True
            try:
                if not self._closed and not self._is_running():
                    thread = threading.Thread(target=self._run, name="reflexio-writer", daemon=True)
                    thread.start()
                    self._thread = thread
            except RuntimeError:  # the interpreter is ending: what was taken is in the spool, for the next process
                count("turns_left_in_spool")
            finally:
                self._launching = False

    def _is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _wake(self) -> None:
        if not self._is_running():
            self.start()
        with self._changed:
            self._changed.notify_all()

    def _place(self) -> str:
        """Where turns wait."""
        in_memory = self._folder is None or isinstance(self._spool, MemorySpool)
        return "memory" if in_memory else f"the spool {self._folder}"

    def flush(self, timeout: float) -> int:
        """Wait until the store has the turns that were put so far, at most ``timeout`` seconds.

        Returns how many of them still wait. Turns that other threads put meanwhile are not waited for.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            awaited = self._settled + self.pending
            self._waiters += 1
            self._failures = 0
        try:
            if self.pending or not self._adopted:
                self._wake()
            return self._wait_until(awaited, deadline)
        finally:
            with self._changed:
                self._waiters -= 1

    def _wait_until(self, awaited: int, deadline: float) -> int:
        """Wait until so many turns have left the spool in all, or it is empty; how many have not."""
        with self._changed:
            while not self._closed and ((waiting := self._missing(awaited)) or not self._adopted):
                left = deadline - time.monotonic()
                if left <= 0:
                    return waiting
                self.start()  # a writer that died meanwhile is replaced
                self._changed.wait(min(left, 0.5))
            return self._missing(awaited)

    def _missing(self, awaited: int) -> int:
        return max(0, min(awaited - self._settled, self.pending))

    def forget(self, timeout: float, **names: str) -> int:
        """Let the store (which refuses what was deleted) have what ended processes left behind, and drop the turns
        with these values (such as ``user_id``) from what was set aside; how many were dropped."""
        if self._folder is None or not self._folder.is_dir():
            return 0
        with self._changed:
            self._adopted, self._adopt_next = False, 0.0
        self.flush(timeout)
        with guard("forgetting what was set aside"):
            damaged = forget_damaged(self._folder, names.values())
            return damaged + (self._dead_letters.forget(**names) if self._dead_letters is not None else 0)
        return 0

    def close(self, timeout: float) -> int:
        """Flush, stop the thread and let go of the spool; what still waits stays on disk. How many still wait."""
        if self._closed:
            return 0
        deadline = time.monotonic() + timeout
        remaining = self.flush(timeout) if self.pending else 0
        self._closed = True
        with self._changed:
            self._stop = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=max(0.1, deadline - time.monotonic()))
        if self._spool is not None and not self._is_running():
            self._spool.close()
        if remaining and self._folder is not None and isinstance(self._spool, MemorySpool):
            count("turns_lost", remaining)
            warn("lost", "reflexio: %d turns are lost: the store cannot be used, nor a spool be written", remaining)
        return remaining

    def _run(self) -> None:
        self._work()
        if self._spool is not None:  # whoever closes does not wait for ever for a store that does not answer
            self._spool.close()

    def _work(self) -> None:
        while not self._stop:
            done = False
            with guard("storing turns"):
                done = self._step()
            with self._changed:
                self._changed.notify_all()
                if not done:
                    self._failures += 1
                    pause = _RETRY_SECONDS[min(self._failures, len(_RETRY_SECONDS)) - 1]
                    self._pause(pause if self._rest is None else min(self._rest, _RETRY_SECONDS[-1]))
                    continue
                self._idle = True  # set before looking: a turn that comes from here on wakes this thread
                if not self.pending:
                    self._pause(self._adopt_every)
                self._idle = False
                self._gather()

    def _pause(self, seconds: float) -> None:
        if not self._stop:
            self._changed.wait(seconds)

    def _gather(self) -> None:
        """Wait while turns keep coming: not too long, not for too many, and not while somebody waits for them."""
        latest = time.monotonic() + MAX_LINGER_SECONDS
        while not self._in_haste():
            before = self.pending
            self._pause(LINGER_SECONDS)
            if self.pending == before or time.monotonic() >= latest:
                return

    def _in_haste(self) -> bool:
        many = self.pending >= _BACKLOG or self._gathered_bytes >= self._max_bytes // 8
        return bool(self._waiters or self._stop or many)

    def _step(self) -> bool:
        """Adopt, then store one batch; False if the store could not be reached."""
        self._rest = None
        try:
            store = self._open_store()
            if time.monotonic() >= self._adopt_next:
                self._adopt(store)
                self._adopted = True
                self._adopt_next = time.monotonic() + self._adopt_every
            spool = self._spool
            self._gathered_bytes = 0
            batch = spool.read(self._batch) if spool and spool.pending else []
            if spool and batch:
                self._store(store, batch)
                with self._changed:
                    spool.forget(len(batch))
                    self._settled += len(batch)
        except ReflexioError as error:  # of the home: what is wrong with a turn has set that aside
            self.last_error = str(error)
            self._rest = getattr(error, "retry_after", None)  # it said when to come again
            count("store_unavailable")
            if isinstance(error, StoreAccessError):
                count("store_access_refused")
            warn("store", "reflexio: the store cannot be used; turns wait in %s (%s)", self._place(), error)
            return False
        self._failures = 0
        self.last_error = ""
        if batch and self._on_stored:
            self._on_stored()
        return True

    def _store(self, store: Requests, payloads: list[bytes]) -> None:
        """Store a batch; what cannot be read, or is refused for good, is set aside once all the rest is stored."""
        turns: list[TurnRecord] = []
        bad: list[tuple[bytes, Exception]] = []
        for payload in payloads:
            try:
                turns.append(TurnRecord.from_json(orjson.loads(payload)))
            except (TypeError, ValueError, KeyError) as error:
                bad.append((payload, error))
        bad += [(orjson.dumps(turn.to_json()), refusal) for turn, refusal in self._refused(store, turns)]
        for payload, reason in bad:
            self._set_aside(payload, reason)

    def _refused(self, store: Requests, turns: list[TurnRecord]) -> list[tuple[TurnRecord, Exception]]:
        """Store turns together, or where they are refused for good one by one; those that are refused alone."""
        try:
            count("turns_stored", store.add_turns(turns, learn_after=self._learn_after))
        except _WAITING:
            raise
        except ReflexioError as error:
            if len(turns) == 1:
                return [(turns[0], error)]
            return [refused for turn in turns for refused in self._refused(store, [turn])]
        return []

    def _set_aside(self, payload: bytes, error: Exception) -> None:
        count("dead_letters")
        warn("dead-letter", "reflexio: a turn could not be stored and was set aside (%s)", error)
        if self._dead_letters is not None:
            self._dead_letters.add(payload, str(error))

    def retry_dead_letters(self, timeout: float) -> Resent:
        """Send the turns that the store refused once more, and wait until it has answered, at most ``timeout`` seconds.

        Those that it refuses again are dead letters again.
        """
        if self._dead_letters is None:
            return Resent()
        sent, kept = self._dead_letters.resend(self.put)
        waiting = self.flush(timeout) if sent else 0
        refused = sum(1 for _ in self._dead_letters)
        return Resent(stored=max(0, sent - waiting - (refused - kept)), refused=refused, waiting=waiting)

    def _adopt(self, store: Requests) -> None:
        if self._folder is None or not self._folder.is_dir():
            return
        for orphan in orphans(self._folder, self._begun):
            try:
                self._drain(store, orphan)
            except (OSError, UnreadableSpoolError) as error:  # another user's, or of another release: left alone
                count("spools_unreadable")
                warn("orphan", "reflexio: the spool %s of an ended process is left as it is (%s)", orphan.path, error)

    def _drain(self, store: Requests, orphan: OrphanSpool) -> None:
        try:
            for batch in orphan.batches(self._batch):
                self._store(store, batch)
        except BaseException:
            self._begun[orphan.path] = orphan.begun
            orphan.release()
            raise
        self._begun.pop(orphan.path, None)
        orphan.remove()
        count("spools_adopted")
        if self._on_stored:
            self._on_stored()

    def before_fork(self) -> None:
        """Hold the spool still while the process forks."""
        self._resting = self._starting.acquire(timeout=1.0)

    def after_fork(self, *, child: bool) -> None:
        """In a child: leave the parent's spool to the parent, and begin anew."""
        if child:
            if isinstance(self._spool, FileSpool):
                self._spool.abandon_after_fork()
            self._reset()
        elif self._resting:
            self._starting.release()
