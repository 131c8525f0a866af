"""``delete`` and ``playbooks``."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import reflexio_middleware as reflexio

from .conftest import Run


def test_delete_session_of_one_user_leaves_the_other_one_alone(run: Run, url: str) -> None:
    """The receipt counts what is gone, with what was learned from it alone."""
    ran = run("delete", "session", "chat", "--user", "ann", "--yes", "--json", "--store", url)
    gone = {"requests": 2, "interactions": 4, "profiles": 1, "user_playbooks": 1, "jobs": 1}
    assert ran.json == gone | {"agent_playbooks_retired": 0, "agent_playbooks_lowered": 0, "spooled": 0}
    assert [item["user_id"] for item in run("sessions", "--json", "--store", url).json["sessions"]] == ["bob"]


def test_delete_session_of_several_users_needs_a_name(run: Run, url: str) -> None:
    """Nothing is deleted by guessing."""
    ran = run("delete", "session", "chat", "--yes", "--store", url)
    assert ran.code == 2 and "--user" in ran.err
    assert len(run("sessions", "--json", "--store", url).json["sessions"]) == 2


def test_delete_request_by_its_id(run: Run, url: str) -> None:
    """One turn goes, the other stays."""
    turns = run("show", "chat", "--user", "ann", "--json", "--store", url).json["requests"]
    ran = run("delete", "request", turns[1]["request"]["request_id"], "--yes", "--store", url)
    assert ran.out.startswith("deleted 1 request, 2 messages, 1 profile, 1 user playbook")
    left = run("show", "chat", "--user", "ann", "--json", "--store", url).json["requests"]
    assert [turn["request"] for turn in left] == [turns[0]["request"]]


def test_delete_user_forgets_everything(run: Run, url: str) -> None:
    """A second time there is nothing to delete, and it says so."""
    assert run("delete", "user", "ann", "--yes", "--store", url).code == 0
    assert run("learnings", "--user", "ann", "--json", "--store", url).json == {"learnings": []}
    again = run("delete", "user", "ann", "--yes", "--store", url)
    assert again.code == 1 and "nothing is held" in again.err


def test_delete_refuses_where_nobody_can_be_asked(run: Run, url: str) -> None:
    """A script must say --yes."""
    ran = run("delete", "user", "ann", "--store", url)
    assert (ran.code, ran.out) == (2, "") and "--yes" in ran.err
    assert len(run("sessions", "--json", "--store", url).json["sessions"]) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
@pytest.mark.parametrize(("answer", "code", "left"), [(b"y\n", 0, 1), (b"n\n", 1, 2)])
def test_delete_asks_on_a_terminal(run: Run, url: str, answer: bytes, code: int, left: int) -> None:
    """It deletes on yes, and only then."""
    import pty

    ours, theirs = pty.openpty()
    program = "import sys; from reflexio_middleware.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "delete", "user", "ann", "--store", url]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as ran:
        os.write(ours, answer)
        _, err = ran.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert (ran.returncode, b"held on user ann?" in err) == (code, True)
    assert len(run("sessions", "--json", "--store", url).json["sessions"]) == left


def test_delete_of_what_is_unknown_changes_nothing(run: Run, url: str) -> None:
    """Exit code 1."""
    for which in (["request", "nope"], ["session", "nope"]):
        ran = run("delete", *which, "--yes", "--store", url)
        assert ran.code == 1 and ran.err.startswith("error: no ")


def test_an_agent_playbook_is_recalled_once_it_is_approved(run: Run, url: str) -> None:
    """Approve, recall, reject, recall no more."""
    asked = ["recall", "What are the opening hours?", "--user", "bob", "--agent-version", "v1", "--store", url]
    assert run("playbooks", "list", "--json", "--store", url).json["playbooks"][0]["playbook_status"] == "pending"
    assert run(*asked).code == 1
    assert run("playbooks", "approve", "7", "--store", url).out == "agent playbook 7 is approved\n"
    assert "Check the time zone." in run(*asked).out
    assert run("playbooks", "reject", "7", "--store", url).code == 0
    assert run(*asked).code == 1
    assert "rejected" in run("playbooks", "list", "--status", "rejected", "--store", url).out
    assert run("playbooks", "list", "--status", "approved", "--store", url).out == ""


def test_an_unknown_playbook_is_said(run: Run, url: str) -> None:
    """Exit code 1, and nothing changed."""
    ran = run("playbooks", "approve", "12345", "--store", url)
    assert ran.code == 1 and "no agent playbook 12345" in ran.err
    with reflexio.ReflexioClient(url, learning="off") as client:
        assert [item.playbook_status for item in client.get_agent_playbooks().agent_playbooks] == ["pending"]
