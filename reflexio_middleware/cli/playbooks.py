"""``playbooks``: the rules shared by all users of an agent, which a person approves."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from reflexio_middleware.cli.cards import as_json as learning_json
from reflexio_middleware.cli.cards import card
from reflexio_middleware.cli.failing import CommandError
from reflexio_middleware.cli.home import stored
from reflexio_middleware.cli.options import Json, Store, chosen_store
from reflexio_middleware.cli.screen import note, print_json, screen
from reflexio_store.models import LearningQuery, PlaybookStatus

app = typer.Typer(help="List, approve and reject what all users share.")

PlaybookId = Annotated[int, typer.Argument(metavar="ID", min=1, help="The playbook's number.")]


@app.command("list")
def list_(
    context: typer.Context,
    status: Annotated[
        Literal["pending", "approved", "rejected"] | None, typer.Option("--status", help="Only these.")
    ] = None,
    agent_version: Annotated[
        str | None, typer.Option("--agent-version", metavar="V", help="Only of this version.")
    ] = None,
    as_json: Json = False,
    store: Store = None,
) -> None:
    """List agent playbooks, newest first."""
    wanted = None if status is None else [PlaybookStatus(status)]
    query = LearningQuery(agent_version=agent_version, playbook_status_filter=wanted)
    with stored(chosen_store(context, store), learned=True) as client:
        found = client.store.get_learnings("agent_playbook", query)
    if as_json:
        print_json({"playbooks": [learning_json(item) for item in found]})
        return
    if not found:
        note("there are no such agent playbooks")
    to = screen()
    for item in found:
        to.print(card(item))


@app.command()
def approve(context: typer.Context, playbook_id: PlaybookId, store: Store = None) -> None:
    """Approve an agent playbook: from now on it is recalled for every user."""
    _decide(chosen_store(context, store), playbook_id, PlaybookStatus.APPROVED)


@app.command()
def reject(context: typer.Context, playbook_id: PlaybookId, store: Store = None) -> None:
    """Reject an agent playbook: it is not recalled."""
    _decide(chosen_store(context, store), playbook_id, PlaybookStatus.REJECTED)


@app.command()
def aggregate(
    context: typer.Context,
    agent_version: Annotated[str, typer.Argument(metavar="VERSION", help="The agent's version.")],
    store: Store = None,
) -> None:
    """Look for rules that several users of a version share, and make agent playbooks of them."""
    with stored(chosen_store(context, store), learned=True) as client:
        typer.echo(client.run_playbook_aggregation(agent_version).message)


@app.command()
def promote(
    context: typer.Context,
    from_version: Annotated[str, typer.Argument(metavar="FROM", help="The version that has them.")],
    to_version: Annotated[str, typer.Argument(metavar="TO", help="The version that is to have them, too.")],
    store: Store = None,
) -> None:
    """Copy approved agent playbooks to another version of the agent."""
    with stored(chosen_store(context, store)) as client:
        count = client.promote_agent_playbooks(from_version, to_version)
    typer.echo(f"{count} agent playbook(s) are new in {to_version}")


def _decide(store: str | None, playbook_id: int, status: PlaybookStatus) -> None:
    with stored(store) as client:
        if not client.update_agent_playbook_status(playbook_id, status).success:
            raise CommandError(f"no agent playbook {playbook_id} is stored; nothing was changed")
    typer.echo(f"agent playbook {playbook_id} is {status}")
