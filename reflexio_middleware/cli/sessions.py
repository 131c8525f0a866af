"""``sessions`` and ``show``: what was said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from reflexio_middleware.cli.conversation import Conversation, conversation_json, print_conversation
from reflexio_middleware.cli.failing import BAD_INPUT, CommandError
from reflexio_middleware.cli.home import stored
from reflexio_middleware.cli.options import Json, Store, User, chosen_store
from reflexio_middleware.cli.screen import ago, harmless, many, note, one_line, print_json, said, screen, table
from reflexio_store.models import Session

if TYPE_CHECKING:
    from reflexio_middleware.client import ReflexioClient

_PAGE = 100
_WORDS = 200
_ID = 36  # characters of a UUID: people copy ids, so these stay in one piece


def sessions(
    context: typer.Context,
    user: User = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, metavar="N", help="Most sessions to list.")] = 20,
    as_json: Json = False,
    store: Store = None,
) -> None:
    """List sessions, newest first."""
    with stored(chosen_store(context, store)) as client:
        found = [_summary(session) for session in _newest(client, user, limit)]
        total = client.store.counts()["sessions"] if user is None else None
    if as_json:
        print_json({"sessions": found})
        return
    if not found:
        note("no sessions are stored" + (f" of user {user!r}" if user is not None else ""))
        return
    rows = table("session", "user", "turns", "messages", "last turn", right=("turns", "messages"))
    rows.columns[0].min_width = min(_ID, max(len(item["session_id"]) for item in found))
    for item in found:
        words = Text(harmless(item["first_words"]), style="dim", no_wrap=True, overflow="ellipsis")
        rows.add_row(
            Group(said(item["session_id"], "bold"), words),
            Group(said(item["user_id"] or "-"), said(item["agent_version"], "dim")),
            str(item["requests"]),
            str(item["interactions"]),
            ago(item["last_at"]),
        )
    screen().print(rows)
    if total is not None and total > len(found):
        note(f"the newest {len(found)} of {many(total, 'session')}; more with --limit")


def _newest(client: ReflexioClient, user: str | None, limit: int) -> Iterator[Session]:
    cursor = None
    while limit > 0:
        page = client.get_requests(user_id=user, top_k=min(limit, _PAGE), cursor=cursor)
        yield from page.sessions
        limit -= len(page.sessions)
        cursor = page.next_cursor
        if cursor is None:
            return


def _summary(session: Session) -> dict[str, Any]:
    newest, oldest = session.requests[0].request, session.requests[-1]
    words = next((item.content for item in oldest.interactions if item.content.strip()), "")
    return {
        "session_id": session.session_id,
        "user_id": session.user_id,
        "agent_version": newest.agent_version,
        "source": newest.source,
        "requests": len(session.requests),
        "interactions": sum(len(data.interactions) for data in session.requests),
        "first_words": one_line(words, _WORDS),
        "first_at": oldest.request.created_at,
        "last_at": newest.created_at,
    }


def show(
    context: typer.Context,
    session_id: Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.")],
    user: User = None,
    full: Annotated[bool, typer.Option("--full", help="Cut nothing short.")] = False,
    as_json: Json = False,
    store: Store = None,
) -> None:
    """Show a conversation, with what was recalled and learned.

    Turn by turn: what was said, which tools were called with what, how it ended, what recall put into the prompt, and
    what was learned from it.
    """
    with stored(chosen_store(context, store), learned=True) as client:
        session = the_session(client, session_id, user)
        told = Conversation.of(client.store, session.user_id, session_id)
    if as_json:
        print_json(conversation_json(told))
    else:
        print_conversation(told, full=full)


def the_session(client: ReflexioClient, session_id: str, user: str | None) -> Session:
    """The one session of that id.

    Raises:
        CommandError: There is none; or several users have one, and none was named.
    """
    found = client.get_requests(session_id=session_id, user_id=user, top_k=_PAGE).sessions
    if not found:
        of = f" of user {user!r}" if user is not None else ""
        raise CommandError(f"no session {session_id!r}{of} is stored (`reflexio-middleware sessions` lists them)")
    if len(found) > 1:
        users = ", ".join(repr(session.user_id) for session in found[:5])
        raise CommandError(
            f"{len(found)} users have a session {session_id!r} ({users}): name one with --user", BAD_INPUT
        )
    return found[0]
