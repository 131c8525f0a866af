"""What has to happen around ``os.fork``: one registry for everything of ours that holds locks, files or connections.

A fork copies only the thread that forks: a lock that another thread held stays locked in the child for ever, also one
inside a C library. So, for a bounded time, what is registered first comes to rest; then the process forks; then the
parent goes on and the child begins anew.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class ForkAware(Protocol):
    """Something that must come to rest before a fork."""

    def before_fork(self) -> None:
        """Come to rest: hold what must not be held by another thread while the process forks. Bounded in time."""
        ...

    def after_fork(self, *, child: bool) -> None:
        """Go on (in the parent), or begin anew (in the child)."""
        ...


_by_order: tuple[weakref.WeakSet[ForkAware], ...] = (weakref.WeakSet(), weakref.WeakSet())
_resting: list[ForkAware] = []


def protect(thing: ForkAware, *, last: bool = False) -> None:
    """Let ``thing`` take part in forks, as long as it lives. ``last``: it comes to rest after all others."""
    _by_order[last].add(thing)


def _before() -> None:
    for things in _by_order:
        for thing in list(things):
            thing.before_fork()
            _resting.append(thing)


def _after(*, child: bool) -> None:
    while _resting:
        _resting.pop().after_fork(child=child)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before,
        after_in_parent=lambda: _after(child=False),
        after_in_child=lambda: _after(child=True),
    )
