"""``delete``: requests, sessions and users, with what was learned from them alone."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated

import typer

from reflexio_middleware.cli.failing import BAD_INPUT, CommandError
from reflexio_middleware.cli.home import stored
from reflexio_middleware.cli.options import Json, Store, User, Yes, chosen_store
from reflexio_middleware.cli.screen import harmless, many, print_json
from reflexio_middleware.cli.sessions import the_session
from reflexio_store.contract import Receipt

app = typer.Typer(help="Delete a session, a request or a user for good.")


@app.command()
def session(
    context: typer.Context,
    session_id: Annotated[str, typer.Argument(metavar="ID", help="The session's id.")],
    user: User = None,
    yes: Yes = False,
    as_json: Json = False,
    store: Store = None,
) -> None:
    """Delete a session."""
    with stored(chosen_store(context, store)) as client:
        found = the_session(client, session_id, user)
        turns = many(len(found.requests), "request")
        _confirm(f"Delete session {session_id} of {found.user_id or 'nobody known'} ({turns})?", yes)
        _report(client.store.delete_session(session_id, user_id=found.user_id), as_json)


@app.command()
def request(
    context: typer.Context,
    request_id: Annotated[str, typer.Argument(metavar="ID", help="The request's id.")],
    yes: Yes = False,
    as_json: Json = False,
    store: Store = None,
) -> None:
    """Delete one request."""
    with stored(chosen_store(context, store)) as client:
        found = client.get_requests(request_id=request_id).sessions
        if not found:
            raise CommandError(f"no request {request_id!r} is stored; nothing was changed")
        of = f"session {found[0].session_id} of {found[0].user_id or 'nobody known'}"
        _confirm(f"Delete request {request_id} ({of})?", yes)
        _report(client.store.delete_requests([request_id]), as_json)


@app.command()
def user(
    context: typer.Context,
    user_id: Annotated[str, typer.Argument(metavar="ID", help="The user's id.")],
    yes: Yes = False,
    as_json: Json = False,
    store: Store = None,
) -> None:
    """Delete everything that is held on a user."""
    with stored(chosen_store(context, store)) as client:
        _confirm(f"Delete everything that is held on user {user_id}?", yes)
        receipt = Receipt(**client.clear_user_data(user_id).deleted_counts)
        if receipt == Receipt():
            raise CommandError(f"nothing is held on user {user_id!r}; nothing was changed")
        _report(receipt, as_json)


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError("nothing was deleted: nobody can be asked here, so say --yes", BAD_INPUT)
    if not typer.confirm(harmless(question), err=True):
        raise CommandError("nothing was deleted")


def _report(receipt: Receipt, as_json: bool) -> None:
    counts = dataclasses.asdict(receipt)
    if as_json:
        print_json(counts)
        return
    names = {"requests": "request", "interactions": "message", "profiles": "profile",
             "user_playbooks": "user playbook", "jobs": "job", "agent_playbooks_retired": "agent playbook",
             "spooled": "turn that waited"}  # fmt: skip
    told = [many(counts[name], names[name]) for name in names if counts[name]]
    typer.echo(f"deleted {', '.join(told)}")
