"""``history``: what happened to learnings."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

import typer

from reflexio_middleware.cli.home import stored
from reflexio_middleware.cli.options import Json, Store, User, chosen_store
from reflexio_middleware.cli.screen import harmless, note, print_json
from reflexio_store.models import HistoryEntry


def history(
    context: typer.Context,
    user: User = None,
    kind: Annotated[Literal["profile", "user_playbook"], typer.Option("--kind", help="Of which kind.")] = "profile",
    learning: Annotated[str | None, typer.Option("--learning", metavar="ID", help="Only of this one.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, metavar="N", help="Most entries to list.")] = 30,
    as_json: Json = False,
    store: Store = None,
) -> None:
    """List what happened to learnings: added, merged, superseded, changed, expired..., the latest first."""
    with stored(chosen_store(context, store), learned=True) as client:
        found = client.store.history(kind, user_id=user, learning_id=learning, limit=limit)
    if as_json:
        print_json({"history": [entry.model_dump(mode="json") for entry in found]})
        return
    if not found:
        note("nothing happened to such learnings yet")
    for entry in found:
        typer.echo(harmless(_line(entry)))


def _line(entry: HistoryEntry) -> str:
    at = datetime.fromtimestamp(entry.at_us / 1_000_000, tz=UTC).astimezone()
    by = f" by {entry.other_id}" if entry.action == "superseded" else ""
    into = f" into {entry.other_id}" if entry.action == "merged" else ""
    said = f": {entry.content}" if entry.content else ""
    return f"{at:%Y-%m-%d %H:%M:%S}  {entry.user_id}  {entry.learning_id}  {entry.action}{by}{into}{said}"
