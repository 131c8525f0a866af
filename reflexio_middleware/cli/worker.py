"""``worker``: learn from what was captured, in a process of its own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from reflexio_middleware.cli.failing import BAD_INPUT, CommandError
from reflexio_middleware.cli.options import Store, chosen_store
from reflexio_middleware.cli.screen import many

if TYPE_CHECKING:
    from reflexio_middleware.learning.service import WorkerService


def worker(
    context: typer.Context,
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", min=1, max=64, help="Jobs at a time.")] = 1,
    drain: Annotated[bool, typer.Option("--drain", help="End when nothing is due.")] = False,
    grace: Annotated[
        float, typer.Option("--grace", min=0.0, help="Seconds that jobs at hand have when told to stop.")
    ] = 10.0,
    store: Store = None,
) -> None:
    """Learn from what was captured, until Ctrl-C or SIGTERM.

    For agents that run with REFLEXIO_LEARNING=later. Any number of these may work on one store; what one of them had
    at hand when it was killed is done by another within a minute.
    """
    from reflexio_middleware.embedding.setup import close_embedder, embedder_of
    from reflexio_middleware.learning.service import WorkerService
    from reflexio_middleware.learning.setup import readers_of, steps_of
    from reflexio_middleware.settings import read_settings
    from reflexio_store.homes import is_server, open_store

    settings = read_settings(store=chosen_store(context, store))
    if is_server(settings.store):
        raise CommandError("a Reflexio server learns itself: name a home that is a database", BAD_INPUT)
    readers = readers_of(settings.extractors, settings)
    embedder = embedder_of(settings)
    try:
        with closing(open_store(settings.store)) as home:
            service = WorkerService(home, steps_of(readers, settings, embedder), concurrency=concurrency, drain=drain)
            names = ", ".join(reader.name for reader in readers)
            typer.echo(f"{many(concurrency, 'worker')} on {home.url}, learning by {names}", err=True)
            with _stopping(service):
                done = service.run(grace_seconds=grace)
            typer.echo(f"{many(done, 'job')} done", err=True)
    finally:
        for reader in readers:
            reader.close()
        close_embedder(embedder)


@contextmanager
def _stopping(service: WorkerService) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM stop the workers in order."""
    before = {number: signal.signal(number, lambda *_: service.stop()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
