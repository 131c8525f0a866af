"""``search`` and ``recall``: what an agent would find."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from reflexio_middleware.cli.cards import as_json as learning_json
from reflexio_middleware.cli.cards import card
from reflexio_middleware.cli.failing import CommandError
from reflexio_middleware.cli.home import stored
from reflexio_middleware.cli.options import Json, Store, User, chosen_store
from reflexio_middleware.cli.screen import harmless, print_json, screen
from reflexio_store.models import Learning

_SECONDS = 10.0  # a person waits longer than an agent does

Query = Annotated[str, typer.Argument(metavar="QUERY", help="What is looked for, in plain words.")]


def search(
    context: typer.Context,
    query: Query,
    user: User = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100, metavar="N", help="Most of each kind.")] = 5,
    as_json: Json = False,
    store: Store = None,
) -> None:
    """Search what was learned, best match first.

    Without --user, only what all users share (approved agent playbooks) is searched.
    """
    with stored(chosen_store(context, store), learned=True) as client:
        answer = client.search(query, user_id=user, top_k=limit)
    found: list[Learning] = [*answer.profiles, *answer.user_playbooks, *answer.agent_playbooks]
    if as_json:
        print_json({"learnings": [learning_json(item) for item in found]})
    if not found:
        hint = "" if user else " (personal learnings are searched with --user only)"
        raise CommandError(f"nothing that was learned matches {query!r}{hint}")
    if not as_json:
        to = screen()
        for item in found:
            to.print(card(item))


def recall(
    context: typer.Context,
    query: Query,
    user: Annotated[str, typer.Option("--user", metavar="ID", help="Whose learnings.")],
    agent_version: Annotated[
        str | None, typer.Option("--agent-version", metavar="V", help="Of this version.  [default: the settings]")
    ] = None,
    as_json: Json = False,
    store: Store = None,
) -> None:
    """Print what would be put into the prompt for a message.

    The block is printed as it is; when nothing fits, nothing is.
    """
    with stored(chosen_store(context, store), learned=True) as client:
        found = client.recall(query, user_id=user, agent_version=agent_version, timeout=_SECONDS)
        version = agent_version or client.settings.agent_version
    if as_json:
        print_json({"text": found.text, "learnings": [learning_json(item) for item in found.learnings]})
    if found.reason:
        raise CommandError(f"the recall failed ({found.reason}): see `reflexio-middleware doctor`")
    if not found:
        raise CommandError(f"nothing that was learned fits {query!r} (user {user!r}, agent version {version!r})")
    if not as_json:
        typer.echo(harmless(found.text) if sys.stdout.isatty() else found.text)
