"""The program: its commands, each group in a module of its own."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from reflexio_middleware.cli import (
    about,
    backup,
    copying,
    delete,
    demo,
    doctor,
    history,
    learnings,
    playbooks,
    retrieval,
    sessions,
    transfer,
    usage,
    uses,
    worker,
)
from reflexio_middleware.cli.failing import OneLineErrors
from reflexio_middleware.cli.options import Store

NAME = "reflexio-middleware"

app = typer.Typer(
    name=NAME,
    cls=OneLineErrors,
    help="Look into the memory of your agents: what was said, what was learned, and what is recalled.",
    epilog="Exit codes: 0 done, 1 nothing found or changed (or findings), 2 bad input.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@app.callback(invoke_without_command=True)
def _program(context: typer.Context, store: Store = None) -> None:  # noqa: ARG001 - read by options.chosen_store
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command("demo")(demo.demo)
app.command("sessions")(sessions.sessions)
app.command("show")(sessions.show)
app.command("learnings")(learnings.learnings)
app.command("history")(history.history)
app.command("search")(retrieval.search)
app.command("recall")(retrieval.recall)
app.command("explain")(uses.explain)
app.command("outcome")(uses.outcome)
app.command("experiment")(uses.experiment)
app.add_typer(playbooks.app, name="playbooks")
app.add_typer(delete.app, name="delete")
app.command("export")(transfer.export)
app.command("import")(transfer.import_)
app.command("copy")(copying.copy)
app.command("backup")(backup.backup)
app.command("worker")(worker.worker)
app.command("usage")(usage.usage)
app.add_typer(doctor.app, name="doctor")
app.command("version")(about.version)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    code = app(args=arguments, prog_name=NAME, standalone_mode=False)
    return code if isinstance(code, int) else 0
