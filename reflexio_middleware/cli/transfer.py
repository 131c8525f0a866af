"""``export`` and ``import``: everything as JSON Lines."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, cast

import typer

from reflexio_middleware import __version__
from reflexio_middleware.cli.failing import BAD_INPUT, NOTHING, CommandError, complain
from reflexio_middleware.cli.home import made_if_missing, stored
from reflexio_middleware.cli.moving import counts_of, progress_bar, tell_losses, told
from reflexio_middleware.cli.options import Json, Store, User, chosen_store
from reflexio_middleware.cli.screen import many, note, print_json
from reflexio_store.moving import RecordKind


def export(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to write; - for the standard output.")],
    user: User = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace FILE if there is one.")] = False,
    store: Store = None,
) -> None:
    """Write requests and learnings as JSON Lines.

    A file appears when it is complete, and only its owner can read it.
    """
    from reflexio_middleware.exchange import export_to

    if file != "-" and not force and Path(file).exists():
        raise CommandError(f"{file} is there already: name another file, or say --force", BAD_INPUT)
    with stored(chosen_store(context, store), learned=True) as client, _writable(file) as lines:
        tell_losses(client.store)
        total = sum(count or 0 for count in counts_of(client.store).values()) if user is None else None
        with progress_bar("exporting", total) as advance:
            done = export_to(client.store, lines, release=__version__, user_id=user, progress=advance)
    say = note if file == "-" else typer.echo
    say(f"exported {told(done.counts)}" + ("" if file == "-" else f" to {file}"))


@contextmanager
def _writable(file: str) -> Iterator[BinaryIO]:
    """Where the lines go. A file appears when it is complete, and only its owner can read it."""
    if file == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    from reflexio_middleware.exchange.files import whole_file

    with whole_file(file, replace=True) as lines:  # whether it may be replaced was asked before
        yield lines


def import_(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="What to read; - for the standard input.")],
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Import the lines that can be read, and report the others.")
    ] = False,
    as_json: Json = False,
    store: Store = None,
) -> None:
    """Read an export.

    Requests that are there already stay as they are, and learnings of a known id are replaced: importing twice changes
    nothing more. Nothing is stored before every line was checked.
    """
    from reflexio_middleware.exchange import check_lines, store_lines

    with _readable(file) as lines:
        size = lines.seek(0, os.SEEK_END)
        with progress_bar("checking", size) as advance:
            checked = check_lines(lines, file, skip_broken=skip_broken, progress=advance)
        with made_if_missing(chosen_store(context, store)) as client, progress_bar("importing", size) as advance:
            tell_losses(client.store)
            done = store_lines(client.store, lines, file, checked, advance)
    for problem in done.broken:
        complain(str(problem))
    requests = done.kinds["request"]
    if as_json:
        print_json({**{f"{name}s": count for name, count in done.counts.items()}, "requests_new": requests.new,
                    "requests_differ": requests.differ, "skipped_lines": done.skipped})  # fmt: skip
    else:
        known = requests.total - requests.new
        kept: dict[RecordKind, int] = {kind: stored.total - stored.lost for kind, stored in done.kinds.items()}
        typer.echo(f"imported {told(kept)}" + (f"; {many(known, 'request')} known already" if known else ""))
    if requests.differ:
        note(f"{many(requests.differ, 'request')} in the store with other content, which was kept")
    lost: dict[RecordKind, int] = {kind: stored.lost for kind, stored in done.kinds.items() if stored.lost}
    if lost:
        note(f"the store keeps none of these: {told(lost)}")
    if done.skipped:
        note(f"{many(done.skipped, 'broken line')} skipped")
        raise typer.Exit(NOTHING)


@contextmanager
def _readable(file: str) -> Iterator[BinaryIO]:
    """The lines to read; the standard input is kept in a temporary file, as it has to be read twice."""
    if file == "-":
        with tempfile.TemporaryFile() as made:
            shutil.copyfileobj(sys.stdin.buffer, made)
            yield cast(BinaryIO, made)
    else:
        with Path(file).open("rb") as lines:
            yield lines
