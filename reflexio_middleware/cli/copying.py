"""``copy``: everything from one home to another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from reflexio_middleware.cli.failing import BAD_INPUT, NOTHING, CommandError
from reflexio_middleware.cli.home import made_if_missing, sqlite_file, stored
from reflexio_middleware.cli.moving import NAMES, counts_of, progress_bar, tell_losses
from reflexio_middleware.cli.options import Json
from reflexio_middleware.cli.screen import note, print_json, screen, table
from reflexio_store.moving import RecordKind

Rows = Mapping[RecordKind, Mapping[str, Any]]

_COLUMNS = ("there", "copied", "known", "replaced", "differ", "lost", "in TO")


def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The store to copy, such as sqlite:///memory.db.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="The store to copy into; it is made if it is not there.")],
    as_json: Json = False,
) -> None:
    """Copy everything from one store into another.

    Run it again after an interruption: only what is missing is stored. FROM is not changed; what only TO has stays.
    """
    from reflexio_middleware.exchange import copy as copy_all

    if _place(source) == _place(target):
        raise CommandError("FROM and TO are the same store: name two", BAD_INPUT)
    with stored(source) as old, made_if_missing(target) as new:
        if old.stats()["pending"]:
            note("note: some turns of FROM are still on their way; copy again when they are stored")
        tell_losses(old.store)
        tell_losses(new.store)
        total = sum(count or 0 for count in counts_of(old.store).values())
        with progress_bar("copying", total) as advance:
            moved = copy_all(old.store, new.store, progress=advance)
        held = counts_of(new.store)
    rows: Rows = {
        kind: {"there": done.total, "copied": done.new, "known": done.same, "replaced": done.replaced,
               "differ": done.differ, "lost": done.lost, "in TO": held[kind]}
        for kind in NAMES for done in [moved.kinds[kind]]
    }  # fmt: skip
    if as_json:
        print_json({f"{kind}s": {name.replace(" ", "_").lower(): row[name] for name in row}
                    for kind, row in rows.items()})  # fmt: skip
    else:
        _show(rows)
    _check(rows)
    note("the copy is complete" + (", but for what is lost" if any(row["lost"] for row in rows.values()) else ""))


def _place(url: str) -> Path | str:
    file = sqlite_file(url)
    return url.strip() if file is None else file.resolve()


def _show(rows: Rows) -> None:
    made = table("", *_COLUMNS, right=_COLUMNS)
    for kind, row in rows.items():
        if not any(row.values()) and kind != "request":
            continue
        made.add_row(f"{NAMES[kind]}s", *("-" if row[name] is None else f"{row[name]:,}" for name in _COLUMNS))
    screen().print(made)


def _check(rows: Rows) -> None:
    """Raises where the counts do not agree."""
    wrong = []
    for kind, row in rows.items():
        if row["differ"]:
            wrong.append(f"{row['differ']} {NAMES[kind]}s are in TO with other content, which was kept")
        wanted = row["there"] - row["lost"]
        if row["in TO"] is not None and row["in TO"] < wanted:
            wrong.append(f"TO holds {row['in TO']} of {wanted} {NAMES[kind]}s")
    if wrong:
        raise CommandError(f"the copy is not complete: {'; '.join(wrong)}", NOTHING)
