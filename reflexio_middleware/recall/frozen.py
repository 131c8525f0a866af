"""Blocks that stay the same for a whole session, so that a system message, and all that follows it, keeps its bytes.

Providers cache a prompt by its prefix; a block at the system message that changed each turn would cost the whole cache.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

from reflexio_middleware.recall.choose import Recall
from reflexio_middleware.recall.render import id_of, kind_of
from reflexio_store.contract import Learnings
from reflexio_store.models import Learning, LearningKind, LearningQuery

_MOST: Final = 1000
_KINDS: Final[tuple[LearningKind, ...]] = ("profile", "user_playbook", "agent_playbook")


class Frozen:
    """The recalls of sessions that hold on to theirs, the latest used. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: OrderedDict[Hashable, Recall] = OrderedDict()

    def get(self, key: Hashable, store: Learnings, *, user_id: str) -> Recall | None:
        """What a session holds on to, if all of it still stands in the store as it was; else None."""
        with self._lock:
            found = self._of.get(key)
        if found is None:
            return None
        if not all(_still_stands(store, kind, found.learnings, user_id) for kind in _KINDS):
            with self._lock:
                self._of.pop(key, None)
            return None
        return found

    def hold(self, key: Hashable, found: Recall) -> None:
        """Let a session hold on to this recall, if there is anything in it."""
        if not found:
            return
        with self._lock:
            self._of[key] = found
            self._of.move_to_end(key)
            while len(self._of) > _MOST:
                self._of.popitem(last=False)


def _still_stands(store: Learnings, kind: LearningKind, learnings: object, user_id: str) -> bool:
    wanted: dict[str, Learning] = {id_of(item): item for item in learnings if kind_of(item) == kind}  # type: ignore[attr-defined]
    if not wanted:
        return True
    query = LearningQuery(ids=list(wanted), user_id=user_id if kind != "agent_playbook" else None)
    found = {id_of(item): item for item in store.get_learnings(kind, query)}
    return found.keys() == wanted.keys() and all(_says(found[name]) == _says(wanted[name]) for name in wanted)


def _says(learning: Learning) -> tuple[object, ...]:
    return tuple(getattr(learning, name, None) for name in ("content", "trigger", "playbook_status"))
