"""What ``export``, ``import`` and ``copy`` share: the names of what moves, and the bar that shows how far it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from reflexio_middleware.cli.screen import many, note, screen
from reflexio_store.contract import Store
from reflexio_store.moving import RecordKind

NAMES: Final[dict[RecordKind, str]] = {
    "request": "request",
    "profile": "profile",
    "user_playbook": "user playbook",
    "agent_playbook": "agent playbook",
    "support": "support",
    "event": "history event",
    "dismissal": "dismissal",
    "opt_out": "opt-out",
    "outcome": "session outcome",
    "usage": "usage sum",
    "erasure": "erasure",
    "job": "job",
}


@contextmanager
def progress_bar(what: str, total: int | None) -> Iterator[Callable[[int], None] | None]:
    """A bar on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen(errors=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda amount: bar.advance(task, amount)


def told(counts: Mapping[RecordKind, int]) -> str:
    """``"3 requests, 1 profile"``, or ``"nothing"``."""
    return ", ".join(many(count, NAMES[name]) for name, count in counts.items() if count) or "nothing"


def tell_losses(store: Store) -> None:
    """Say on stderr what a home cannot give or keep."""
    for sentence in store.losses():
        note(f"note: {store.url}: {sentence}")


def counts_of(store: Store) -> dict[RecordKind, int | None]:
    """How many records of each kind a home has; None where it does not say."""
    found = store.counts()
    kept: dict[RecordKind, int | None] = {kind: found.get(f"{kind}s") for kind in NAMES}
    kept["job"] = sum(count for name, count in found.items() if name.startswith("jobs_"))
    kept["profile"] = found["profiles"] + found.get("expired_profiles", 0)
    return kept
