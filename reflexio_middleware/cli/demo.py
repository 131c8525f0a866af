"""``demo``: the whole circle in one go. What a user says in one conversation is in the prompt of the next."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final

import typer
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from reflexio_middleware.cli.cards import STYLES, content_of
from reflexio_middleware.cli.failing import BAD_INPUT, CommandError
from reflexio_middleware.cli.options import Store, chosen_store
from reflexio_middleware.cli.screen import many, said, screen
from reflexio_middleware.recall.render import CLOSE, OPEN, kind_of
from reflexio_store.models import LearningQuery

if TYPE_CHECKING:
    from reflexio_middleware.client import ReflexioClient

NAME: Final = "reflexio-middleware"
DEFAULT: Final = "sqlite:///reflexio-demo.db"
_ANN, _BOB = "demo-ann", "demo-bob"
_VERSION: Final = "demo-v1"
_FIRST: Final = (
    "Hello, my name is Ann. How far is it from Berlin to Paris?",
    "No, use kilometres, not miles. And I prefer trains to planes.",
)
_NEXT: Final = "How far is it from Paris to Madrid, and is there a train?"
_PATIENCE: Final = 10.0


def demo(context: typer.Context, store: Store = None) -> None:
    """Show the whole circle in one go: correct, learn, recall.

    Offline, without any key. Without --store it writes reflexio-demo.db in this folder.
    """
    from reflexio_middleware.client import ReflexioClient

    if os.environ.get("REFLEXIO_CAPTURE") == "off":
        raise CommandError("capture is switched off: unset REFLEXIO_CAPTURE for the demo", BAD_INPUT)
    given = chosen_store(context, store)
    url = DEFAULT if given is None else given
    with ReflexioClient(
        url, extractor="statements", learning="thread", learn_after=0.0, recall_tokens=400, recall_top_k=5
    ) as client:
        for user in (_ANN, _BOB):
            client.clear_user_data(user)
        _run(client, screen())
    _where_to_look(screen(), url, client.url)


def _run(client: ReflexioClient, to: Console) -> None:
    _title(to, "Conversation 1: Ann corrects the agent")
    _converse(client, to, _ANN, "demo-1", _FIRST)
    _learned(client, to)
    _title(to, "Conversation 2: a new session of Ann. This is the prompt the model gets")
    _print_prompt(to, *_converse(client, None, _ANN, "demo-2", [_NEXT]))
    _title(to, "Another user asks the same: nothing of Ann's is in the prompt")
    _print_prompt(to, *_converse(client, None, _BOB, "demo-3", [_NEXT]))


def _converse(
    client: ReflexioClient, to: Console | None, user: str, session_id: str, questions: tuple[str, ...] | list[str]
) -> tuple[list[dict[str, Any]], str]:
    """One conversation; its last prompt and answer."""
    import reflexio_middleware as reflexio
    from reflexio_middleware.cli.demo_agent import TravelAgent

    agent = TravelAgent(client)
    answer = ""
    grid = _grid()
    with reflexio.session(session_id, user_id=user, agent_version=_VERSION, source="demo", client=client):
        for question in questions:
            answer = agent.ask(question)
            grid.add_row(Text("user", "bold"), said(question))
            grid.add_row(Text("agent", "bold blue"), said(answer))
    if to is not None:
        to.print(grid)
    return agent.prompts[-1], answer


def _learned(client: ReflexioClient, to: Console) -> None:
    started = time.perf_counter()
    if not client.flush(_PATIENCE, learn_now=True).complete:
        raise CommandError("learning did not end in time: see `reflexio-middleware doctor`", BAD_INPUT)
    milliseconds = (time.perf_counter() - started) * 1000
    query = LearningQuery(user_id=_ANN)
    found = [*client.store.get_learnings("profile", query), *client.store.get_learnings("user_playbook", query)]
    if not found:
        raise CommandError("nothing was learned: see `reflexio-middleware doctor`", BAD_INPUT)
    _title(to, f"Learned from it: {many(len(found), 'thing')} in {milliseconds:.0f} ms, without a model")
    grid = _grid(width=13)
    for learning in found:
        grid.add_row(Text(kind_of(learning).replace("_", " "), STYLES[kind_of(learning)]), said(content_of(learning)))
    to.print(grid)


def _print_prompt(to: Console, prompt: list[dict[str, Any]], answer: str) -> None:
    grid = _grid()
    for message in prompt:
        content = said(message["content"])
        start, end = message["content"].find(OPEN), message["content"].find(CLOSE)
        if 0 <= start < end:
            content.stylize("green", start, end + len(CLOSE))
        grid.add_row(Text(message["role"], "bold"), content)
    grid.add_row(Text("agent", "bold blue"), said(answer))
    to.print(grid)


def _title(to: Console, text: str) -> None:
    to.print()
    to.print(Rule(Text(text, "bold"), align="left", style="dim"))


def _grid(width: int = 6) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(width=width)
    grid.add_column(overflow="fold")
    return grid


def _where_to_look(to: Console, given: str, url: str) -> None:
    """The commands that look into what was stored, ready to be copied: they are never wrapped."""
    _title(to, "Look into it")
    if url in ("sqlite://", "sqlite:///:memory:"):
        to.print("This store was in memory and is gone: name a file with --store to keep one.")
        return
    to.print(said(f"It is all in {url}"), soft_wrap=True)
    for command in ("sessions", "show demo-1", f"learnings --user {_ANN}", f"delete user {_ANN}"):
        to.print(said(f"  {_program()} --store {_quoted(given)} {command}", "cyan"), soft_wrap=True)


def _program() -> str:
    """How this command line can be called: by its name where that is on the path, else as it was."""
    import shutil
    import sys

    called = sys.argv[0]
    off_path = os.path.basename(called) == NAME and os.path.exists(called) and not shutil.which(NAME)
    return called if off_path else NAME


def _quoted(url: str) -> str:
    import shlex

    return shlex.quote(url) if os.name != "nt" else f'"{url}"'
