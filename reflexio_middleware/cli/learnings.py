"""``learnings``: what was learned."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import typer

from reflexio_middleware.cli.cards import as_json as learning_json
from reflexio_middleware.cli.cards import card, learned_at
from reflexio_middleware.cli.home import stored
from reflexio_middleware.cli.options import Json, Store, User, chosen_store
from reflexio_middleware.cli.screen import note, print_json, screen
from reflexio_store.contract import Store as Home
from reflexio_store.models import Learning, LearningKind, LearningQuery, Status

_KINDS: Final[tuple[LearningKind, ...]] = ("profile", "user_playbook", "agent_playbook")


def learnings(
    context: typer.Context,
    user: User = None,
    kind: Annotated[
        Literal["profile", "user_playbook", "agent_playbook"] | None, typer.Option("--kind", help="Only this kind.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, metavar="N", help="Most learnings to list.")] = 30,
    retired: Annotated[bool, typer.Option("--all", help="Those no longer current as well.")] = False,
    as_json: Json = False,
    store: Store = None,
) -> None:
    """List what was learned, and which messages it rests on."""
    kinds = _KINDS if kind is None else (kind,)
    with stored(chosen_store(context, store), learned=True) as client:
        found = newest(client.store, kinds, user, limit, retired)
    if as_json:
        print_json({"learnings": [learning_json(item) for item in found]})
        return
    if not found:
        note("nothing was learned" + (f" of user {user!r}" if user is not None else "") + " yet")
    to = screen()
    for item in found:
        to.print(card(item))


def newest(store: Home, kinds: tuple[LearningKind, ...], user: str | None, limit: int, retired: bool) -> list[Learning]:
    """The newest learnings of some kinds: of one user (who has no agent playbooks), or of all."""
    statuses: list[Status | None] = [None, *Status] if retired else [None]
    found: list[Learning] = []
    for kind in kinds:
        if user is None or kind != "agent_playbook":
            found += store.get_learnings(kind, LearningQuery(user_id=user, status_filter=statuses, top_k=limit))
    return sorted(found, key=learned_at, reverse=True)[:limit]
