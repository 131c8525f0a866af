"""``sessions``, ``show``, ``learnings``, ``search`` and ``recall``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import reflexio_middleware as reflexio

from .conftest import Run, talk


def test_sessions_lists_the_newest_first_with_what_a_person_looks_for(run: Run, url: str) -> None:
    """Ids, users, version, counts, first words and a human time."""
    ran = run("--store", url, "sessions")
    lines = ran.out.splitlines()
    assert ran.code == 0
    assert [line.split()[1] for line in lines if line.startswith("chat")] == ["bob", "ann"]
    ann = next(line for line in lines if " ann " in line)
    assert ann.split()[2:4] == ["2", "4"] and "just now" in ann
    assert any("How far is it from Berlin" in line and "v1" in line for line in lines)


def test_sessions_as_json_is_one_document_with_stable_keys(run: Run, url: str) -> None:
    """Nothing but JSON on stdout."""
    found = run("sessions", "--json", "--user", "ann", "--store", url).json["sessions"]
    assert [list(item) for item in found] == [
        ["session_id", "user_id", "agent_version", "source", "requests", "interactions", "first_words", "first_at",
         "last_at"]
    ]  # fmt: skip
    assert (found[0]["requests"], found[0]["interactions"]) == (2, 4)


@pytest.mark.parametrize("columns", [80, 120])
def test_ids_can_be_copied_from_the_table(run: Run, tmp_path: Path, columns: int) -> None:
    """A UUID stays in one piece, whatever else must wrap."""
    store = f"sqlite:///{tmp_path / 'wide.db'}"
    session = "01a20897-928d-7b03-b783-cdef40706f11"
    with reflexio.ReflexioClient(store, learning="off") as client:
        talk(client, "customer-4711-of-the-northern-branch", session, "word " * 60, "ok")
    lines = run("sessions", "--store", store, columns=columns).out.splitlines()
    assert session in lines[1]
    assert max(map(len, lines)) <= columns


def test_limit_pages_through_the_sessions_and_says_that_there_are_more(run: Run, url: str) -> None:
    """The rest is told on stderr."""
    ran = run("sessions", "--limit", "1", "--store", url)
    assert "bob" in ran.out and "ann" not in ran.out
    assert "1 of 2 sessions" in ran.err


def test_show_tells_the_conversation_turn_by_turn(run: Run, url: str) -> None:
    """Words, tools (shortened), and what was learned from which turn."""
    ran = run("show", "chat", "--user", "ann", "--store", url)
    assert ran.code == 0
    for part in ("How far is it from Berlin", "546 miles.", "tool lookup", "learned", "Use kilometres", "Name is Ann"):
        assert part in ran.out
    assert "x" * 200 not in ran.out.replace("\n", "")
    whole = run("show", "chat", "--user", "ann", "--store", url, "--full", columns=2000)
    assert "x" * 900 in whole.out


def test_show_tells_what_was_recalled(run: Run, url: str) -> None:
    """The learnings that were in the prompt of a turn, in their words; deleted ones by their id."""
    with (
        reflexio.ReflexioClient(url, recall_timeout=5.0) as client,
        reflexio.session("next", user_id="ann", agent_version="v1", client=client),
        reflexio.turn() as turn,
    ):
        turn.user("How far is it from Paris to Madrid?")
        assert client.recall("How far is it from Paris to Madrid?")
        turn.retrieved([{"kind": "profile", "learning_id": "gone"}])
        turn.assistant("1,054 km.")
    ran = run("show", "next", "--store", url)
    assert "recalled   Use kilometres, not miles." in ran.out
    assert "profile gone (deleted since)" in ran.out


def test_show_as_json_holds_the_learnings_of_each_turn(run: Run, url: str) -> None:
    """The wire form of the requests, and ``learned`` beside it."""
    told = run("show", "chat", "--user", "ann", "--json", "--store", url).json
    assert [turn["interactions"][0]["content"][:9] for turn in told["requests"]] == ["How far i", "No, use k"]
    assert [len(turn["learned"]) for turn in told["requests"]] == [0, 2]


def test_show_asks_whose_session_is_meant(run: Run, url: str) -> None:
    """Two users have a session of that name."""
    ran = run("show", "chat", "--store", url)
    assert (ran.code, ran.out) == (2, "")
    assert "'ann'" in ran.err and "'bob'" in ran.err and "--user" in ran.err


def test_an_unknown_session_is_said_in_one_line(run: Run, url: str) -> None:
    """Exit code 1, nothing on stdout."""
    ran = run("show", "nope", "--store", url)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("error: no session 'nope'") and ran.err.count("\n") == 1


def test_learnings_come_with_their_evidence(run: Run, url: str) -> None:
    """What it says, and the request it rests on."""
    request = run("show", "chat", "--user", "ann", "--json", "--store", url).json["requests"][1]["request"][
        "request_id"
    ]
    ran = run("learnings", "--user", "ann", "--store", url)
    assert "Use kilometres, not miles." in ran.out and request in ran.out
    kinds = [item["kind"] for item in run("learnings", "--json", "--store", url).json["learnings"]]
    assert sorted(kinds) == ["agent_playbook", "profile", "user_playbook"]
    only = run("learnings", "--kind", "profile", "--json", "--store", url).json["learnings"]
    assert [(item["kind"], item["content"]) for item in only] == [("profile", "Name is Ann.")]


def test_search_finds_only_what_the_user_may_see(run: Run, url: str) -> None:
    """Ann's learnings are found for Ann, not for Bob, and not for nobody."""
    assert "Use kilometres" in run("search", "kilometres", "--user", "ann", "--store", url).out
    for other in (["--user", "bob"], []):
        ran = run("search", "kilometres", *other, "--store", url)
        assert (ran.code, ran.out) == (1, "")


def test_recall_prints_the_block_and_nothing_else(run: Run, url: str) -> None:
    """It can be piped into a prompt; where nothing fits, stdout stays empty."""
    ran = run("recall", "How far is it to Rome?", "--user", "ann", "--agent-version", "v1", "--store", url)
    assert ran.out.startswith("<reflexio_memory>") and ran.out.endswith("</reflexio_memory>\n")
    other = run("recall", "How far is it to Rome?", "--user", "bob", "--agent-version", "v1", "--store", url)
    assert (other.code, other.out) == (1, "") and "nothing that was learned fits" in other.err


def test_what_users_wrote_cannot_steer_the_terminal(run: Run, tmp_path: Path) -> None:
    """Escape sequences and markup are shown, not obeyed."""
    store = f"sqlite:///{tmp_path / 'odd.db'}"
    with reflexio.ReflexioClient(store, learning="off") as client:
        talk(client, "eve", "[red]odd", "\x1b[2Jgone [bold]not bold[/bold]\x07 \u202e", "ok")
    for command in (["sessions"], ["show", "[red]odd"]):
        ran = run(*command, "--store", store)
        assert not {"\x1b", "\x07", "\u202e"} & set(ran.out)
        assert "[red]odd" in ran.out and "[bold]not bold[/bold]" in ran.out


def test_a_store_that_is_not_there_is_not_made(run: Run, tmp_path: Path) -> None:
    """Looking at a mistyped name says so, and leaves no file behind."""
    ran = run("sessions", "--store", f"sqlite:///{tmp_path / 'typo.db'}")
    assert ran.code == 1 and "no such file" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_turns_of_a_process_that_was_killed_are_seen_and_learned_from(run: Run, tmp_path: Path) -> None:
    """What it left in the spool is let in, with the job that learns from it."""
    code = """
import os, sys, orjson
from pathlib import Path
from reflexio_middleware.delivery.spool import FileSpool
from reflexio_store.records import InteractionRecord, TurnRecord
said = [InteractionRecord("user", "My name is Ann.")]
turn = TurnRecord("turn-1", "ann", "s1", "v1", "", 1_750_000_000_000_000, said)
FileSpool(Path(sys.argv[1])).append(orjson.dumps(turn))
os._exit(9)
"""
    folder = tmp_path / "left.db-spool"
    assert subprocess.run([sys.executable, "-c", code, str(folder)], env=dict(os.environ)).returncode == 9
    store = f"sqlite:///{tmp_path / 'left.db'}"
    assert "My name is Ann." in run("sessions", "--store", store).out
    assert "Name is Ann." in run("learnings", "--user", "ann", "--store", store).out
