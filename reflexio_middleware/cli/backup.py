"""``backup``: a copy of the SQLite file while it is in use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reflexio_middleware.cli.failing import BAD_INPUT, CommandError
from reflexio_middleware.cli.home import stored
from reflexio_middleware.cli.options import Store, chosen_store


def backup(
    context: typer.Context,
    to: Annotated[Path, typer.Argument(metavar="TO", help="Where to write the copy.")],
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace TO if there is one.")] = False,
    store: Store = None,
) -> None:
    """Copy the SQLite file as it is now, while others write it.

    The copy appears when it is complete and found sound, and only its owner can read it. Restore it by putting it in
    the place of the file while no process has that open.
    """
    from reflexio_store.sql.dialects.sqlite_backup import back_up
    from reflexio_store.sql.dialects.sqlite_url import parse_sqlite_url

    if to.exists() and not force:
        raise CommandError(f"{to} is there already: name another file, or say --force", BAD_INPUT)
    if not to.absolute().parent.is_dir():
        raise CommandError(f"there is no folder {to.absolute().parent}: make it, or name another file", BAD_INPUT)
    with stored(chosen_store(context, store)) as client:
        if client.store.kind != "sqlite" or client.store.url == "sqlite://":
            raise CommandError(
                "only a SQLite file is copied like this; PostgreSQL has pg_dump, and `export` reads any home", BAD_INPUT
            )
        place = parse_sqlite_url(client.store.url)
        if place.path is not None and to.exists() and to.samefile(place.path):
            raise CommandError(f"{to} is the store itself: name another file", BAD_INPUT)
        size = back_up(place, to.absolute())
    typer.echo(f"copied {place.path} to {to} ({size:,} bytes)")
