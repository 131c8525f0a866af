"""The options that many commands share, declared once."""

from __future__ import annotations

from typing import Annotated

import typer

Store = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="The store, such as sqlite:///memory.db.  [default: the settings]"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
User = Annotated[str | None, typer.Option("--user", metavar="ID", help="Only this user's.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def chosen_store(context: typer.Context, store: str | None) -> str | None:
    """The store of a command: its own ``--store``, else the one given before it, else None."""
    around = context.parent
    while store is None and around is not None:
        store, around = around.params.get("store"), around.parent
    return store
