"""``doctor``: where things are, what is configured, what is wrong and how to mend it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from reflexio_middleware.cli.failing import NOTHING, CommandError
from reflexio_middleware.cli.home import stored
from reflexio_middleware.cli.options import Json, Store, chosen_store
from reflexio_middleware.cli.screen import many, print_json, said, screen
from reflexio_middleware.delivery.writer import Resent

if TYPE_CHECKING:
    from reflexio_middleware.cli.diagnosis import Diagnosis
    from reflexio_store.contract import JobState

app = typer.Typer(help="Say where things are and what is wrong.", invoke_without_command=True)

_MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "error": ("error", "bold red")}


@app.callback()
def doctor(context: typer.Context, as_json: Json = False, store: Store = None) -> None:
    """Say where things are and what is wrong.

    Also what is configured and from where, and how to mend what is wrong. Looking changes nothing.
    """
    if context.invoked_subcommand is not None:
        return
    from reflexio_middleware.cli.diagnosis import diagnose

    found = diagnose(chosen_store(context, store))
    if as_json:
        print_json(_as_json(found))
    else:
        _print(found)
    if found.failed:
        raise typer.Exit(NOTHING)


@app.command()
def retry(context: typer.Context, store: Store = None) -> None:
    """Try again what was given up: turns that the store refused, and learning that failed."""
    with stored(chosen_store(context, store)) as client:
        resent = client.sink.retry_dead_letters(client.settings.flush_timeout)
        jobs = client.store.retry_dead_jobs()
    if resent == Resent() and not jobs:
        raise CommandError("no turn was refused and no job is dead; nothing was changed")
    if resent.stored:
        typer.echo(f"{many(resent.stored, 'turn')} stored")
    if jobs:
        typer.echo(f"{many(jobs, 'job')} will be tried again by the next process that learns")
    if resent.refused or resent.waiting:
        left = f"{many(resent.refused, 'turn')} refused again (see: reflexio-middleware doctor)"
        raise CommandError(left if resent.refused else f"{many(resent.waiting, 'turn')} still waiting in the spool")


def _as_json(found: Diagnosis) -> dict[str, Any]:
    return {
        "store": found.store,
        "file": str(found.file) if found.file else None,
        "file_bytes": found.file_bytes,
        "spool": str(found.spool) if found.spool else None,
        "spools": found.spools,
        "spool_bytes": found.spool_bytes,
        "data_folder": str(found.data_folder),
        "settings": [dataclasses.asdict(item) for item in found.settings],
        "versions": found.versions,
        "counts": found.counts,
        "dead_jobs": [dataclasses.asdict(item) for item in found.dead_jobs],
        "dead_letters": [
            {"at": item.at, "request_id": item.request_id, "error": item.error} for item in found.dead_letters
        ],
        "findings": [dataclasses.asdict(item) for item in found.findings],
    }


def _print(found: Diagnosis) -> None:
    to = screen()
    to.print(_section("Where things are", _places(found)))
    to.print(_section("Settings", [(item.name, item.value, _origin(item.origin)) for item in found.settings]))
    to.print(_section("Versions", [(name, version, "") for name, version in found.versions.items()]))
    if found.counts:
        to.print(_section("What is stored", _counted(found)))
    findings = Table.grid(padding=(0, 2))
    for item in sorted(found.findings, key=lambda item: ("ok", "warning", "error").index(item.level)):
        findings.add_row(Text(*_MARKS[item.level]), said(item.subject), said(item.message))
    for job in found.dead_jobs:
        findings.add_row(Text("dead job", "red"), said(_named(job)), said(job.last_error))
    for letter in found.dead_letters:
        findings.add_row(Text("refused", "red"), said(f"turn {letter.request_id or '?'}"), said(letter.error))
    to.print()
    to.print(Text("What was found", "bold"))
    to.print(findings)
    if found.dead_jobs or found.dead_letters:
        to.print("Once the cause is mended: reflexio-middleware doctor retry")
    to.print(_verdict(found))


def _named(job: JobState) -> str:
    place = f"{job.user_id}, session {job.key}" if job.user_id else job.key
    return f"{job.kind}: {place}"


def _places(found: Diagnosis) -> list[tuple[str, str, str]]:
    size = f"{found.file_bytes:,} bytes" if found.file_bytes else ""
    waits = f"{found.spool_bytes:,} bytes wait" if found.spool_bytes else "nothing waits"
    places = [("store", found.store, size)]
    if found.file:
        places.append(("file", str(found.file), "" if found.file_bytes else "not made yet"))
    places.append(("spool", str(found.spool or "in memory"), waits))
    return [*places, ("data folder", str(found.data_folder), "")]


def _counted(found: Diagnosis) -> list[tuple[str, str, str]]:
    from reflexio_middleware.cli.moving import NAMES

    names = {f"{kind}s": f"{name}s" for kind, name in NAMES.items()}
    return [(names.get(name, name.replace("_", " ")), f"{count:,}", "") for name, count in found.counts.items()]


def _origin(origin: str) -> str:
    return "" if origin == "default" else origin


def _section(title: str, rows: list[tuple[str, str, str]]) -> Group:
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=16)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold", style="dim")
    for name, value, more in rows:
        table.add_row(name, said(value), more)
    return Group("", Text(title, "bold"), table)


def _verdict(found: Diagnosis) -> Text:
    errors = sum(item.level == "error" for item in found.findings)
    warnings = sum(item.level == "warning" for item in found.findings)
    if errors:
        return Text(f"{many(errors, 'error')} and {many(warnings, 'warning')}: mend the errors first", "bold red")
    return Text(f"No error, {many(warnings, 'warning')}." if warnings else "All is well.", "green")
