"""What goes wrong with a server, on demand."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from typing import Literal

FaultName = Literal[
    "break before",  # the connection breaks, nothing was done
    "break after",  # it was done, and the connection breaks before the answer
    "silence before",  # nothing is done, and no answer comes
    "silence after",  # it is done, and no answer comes
    "status before",  # an error status, nothing was done
    "status after",  # it was done, and an error status is the answer
    "refuse",  # 200 with success=false, nothing was done
    "garbage",  # 200 with a page that is no JSON, nothing was done
    "slow",  # done and answered, late
]
HAPPENED: frozenset[str] = frozenset({"break after", "silence after", "status after", "slow"})
"""Faults after which the work is done all the same."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. ``seconds`` is how late a slow answer is, ``retry_after`` the header of an error status."""

    name: FaultName
    status: int = 500
    retry_after: str | None = None
    seconds: float = 0.05


@dataclass(slots=True)
class Faults:
    """The faults to come. Those that are scripted come first, in their order; then some by chance."""

    chance: float = 0.0
    among: tuple[Fault, ...] = ()
    seed: int = 0
    chance_path: str = "/api/publish_interaction"
    _scripted: list[tuple[str, Fault]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _random: random.Random = field(default_factory=random.Random)

    def script(self, *faults: Fault, times: int = 1, path: str = "/api/publish_interaction") -> None:
        """Let the next calls of a route (of all, where it is ``""``) meet these faults, one each."""
        with self._lock:
            self._scripted += [(path, fault) for _ in range(times) for fault in faults]

    def clear(self) -> None:
        """No more faults."""
        with self._lock:
            self._scripted.clear()
            self.chance = 0.0

    def next_for(self, path: str) -> Fault | None:
        """The fault that a call meets, if any."""
        with self._lock:
            for place, (route, fault) in enumerate(self._scripted):
                if path.startswith(route):
                    del self._scripted[place]
                    return fault
            if self.among and path.startswith(self.chance_path) and self._random.random() < self.chance:
                return self._random.choice(self.among)
        return None
