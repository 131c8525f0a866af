"""``explain``, ``outcome`` and ``experiment``: whether what is recalled helps."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer
from rich.text import Text

from reflexio_middleware.cli.cards import STYLES
from reflexio_middleware.cli.failing import CommandError
from reflexio_middleware.cli.home import stored
from reflexio_middleware.cli.options import Json, Store, chosen_store
from reflexio_middleware.cli.screen import indented, many, one_line, print_json, said, screen, table
from reflexio_middleware.recall.experiment import ArmSummary, ExperimentReport
from reflexio_middleware.recall.explanation import Explanation, Shown
from reflexio_middleware.recall.explanation import explain as explanation

_WIDTH = 80


def explain(
    context: typer.Context,
    request_id: Annotated[str, typer.Argument(metavar="REQUEST", help="The id of a turn (see `show`).")],
    as_json: Json = False,
    store: Store = None,
) -> None:
    """Say why a turn was shown what recall put into its prompt, and which messages that was learned from."""
    with stored(chosen_store(context, store)) as client:
        found = explanation(client.store, request_id)
    if found is None:
        raise CommandError(f"no turn {request_id!r} is stored")
    if as_json:
        print_json({**_plain(found, "shown"), "shown": [_shown_json(item) for item in found.shown]})
        return
    to = screen()
    to.print(Text.assemble(("asked  ", "dim"), said(one_line(found.question, 4 * _WIDTH))))
    if found.arm:
        to.print(Text.assemble(("arm    ", "dim"), found.arm))
    if not found.shown:
        to.print("Nothing was recalled for this turn.")
    for item in found.shown:
        _print_shown(item)


def outcome(
    context: typer.Context,
    session_id: Annotated[str, typer.Argument(metavar="SESSION", help="Which session.")],
    said_outcome: Annotated[str, typer.Argument(metavar="OUTCOME", help="success, failure or unknown.")],
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="Whose, where several have it.")] = None,
    label: Annotated[str | None, typer.Option("--label", metavar="WORD", help="A word of yours.")] = None,
    value: Annotated[float | None, typer.Option("--value", metavar="NUMBER", help="A measure of yours.")] = None,
    store: Store = None,
) -> None:
    """Report how a session ended. The first report stands."""
    with stored(chosen_store(context, store)) as client:
        answer = client.mark_session_outcome(session_id, said_outcome, label=label, value=value, user_id=user)
    if not answer.success:
        raise CommandError(f"nothing was recorded: {answer.message}")
    of = answer.user_id or "nobody"
    typer.echo(f"{answer.message}: the outcome of session {session_id} of {of} is {said_outcome}.")


def experiment(
    context: typer.Context,
    experiment_id: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Which experiment.  [default: the settings]")
    ] = None,
    as_json: Json = False,
    store: Store = None,
) -> None:
    """Compare users with and without recall, by the outcomes that were reported."""
    with stored(chosen_store(context, store)) as client:
        report = client.retrieval_experiment_report(experiment_id)
    if as_json:
        print_json(dataclasses.asdict(report))
    if not (report.treatment.sessions or report.holdout.sessions):
        raise CommandError(f"no turn takes part in the experiment {report.experiment_id!r}")
    if not as_json:
        _print_report(report)


def _shown_json(item: Shown) -> dict[str, object]:
    messages = [message.model_dump(mode="json") for message in item.evidence]
    return {**_plain(item, "use", "evidence"), "use": dataclasses.asdict(item.use), "evidence": messages}


def _plain(value: Shown | Explanation, *without: str) -> dict[str, object]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__ if name not in without}


def _print_shown(item: Shown) -> None:
    to = screen()
    numbers = {"score": item.score, "coverage": item.coverage, "similarity": item.similarity}
    told = [f"{name} {number:.2f}" for name, number in numbers.items() if number is not None]
    told += [item.reason] if item.reason else []
    told += ["cited" if item.cited else "not cited", f"shown {many(item.use.shown, 'time')} in all"]
    kind = Text(item.kind.replace("_", " "), STYLES[item.kind])
    to.print(Text(" · ").join([Text.assemble((f"[{item.tag}] ", "bold"), kind), *map(said, told)]))
    to.print(indented(said(item.text) if item.text else Text("(forgotten since)", "dim")))
    for message in item.evidence:
        words = said(one_line(message.content, _WIDTH))
        to.print(indented(Text.assemble(("from   ", "dim"), said(message.request_id), "  “", words, "”")))


def _print_report(report: ExperimentReport) -> None:
    to = screen()
    made = table("arm", "users", "sessions", "reported", "success rate", right=("users", "sessions", "reported"))
    for name, arm in (("with recall", report.treatment), ("without", report.holdout)):
        made.add_row(name, str(arm.users), str(arm.sessions), str(arm.reported), _rate(arm))
    to.print(made)
    if report.difference is None or report.low is None or report.high is None:
        to.print("Each arm needs two users with a reported session (`reflexio-middleware outcome`).")
        return
    to.print(f"difference {report.difference:+.3f}  (95 % interval {report.low:+.3f} to {report.high:+.3f})")
    if report.low <= 0 <= report.high:
        to.print("This shows no difference yet.")
    if not report.enough:
        to.print("Fewer than 30 users in an arm: the true interval is wider.")


def _rate(arm: ArmSummary) -> str:
    return "-" if arm.success_rate is None else f"{arm.success_rate:.3f}"
