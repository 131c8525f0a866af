"""Export and import: the functions, and the commands around them."""

from __future__ import annotations

import io
import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reflexio_middleware.exchange import export_to, import_from
from reflexio_store.contract import Store
from reflexio_store.errors import ImportFileError
from reflexio_store.homes import open_store
from reflexio_store.models import (
    AgentPlaybook,
    Evidence,
    GetRequestsRequest,
    Learning,
    LearningQuery,
    Status,
    UserPlaybook,
    UserProfile,
)
from reflexio_store.records import InteractionRecord, TurnRecord

from .conftest import Run

_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
_id = st.text(st.characters(exclude_categories=("Cs", "Cc", "Z")), min_size=1, max_size=12)
_plain = st.one_of(_text, st.integers(), st.booleans(), st.none(), st.lists(_text, max_size=2))
_json = st.dictionaries(_text, _plain, max_size=3)
_second = st.integers(1_700_000_000, 1_700_000_002)
_evidence = st.lists(st.builds(Evidence, request_id=_id, interaction_index=st.integers(0, 9)), max_size=3, unique=True)
_status = st.sampled_from([None, *Status])

_tool = st.fixed_dictionaries({"tool_name": _text, "tool_data": _json, "status": _text})
_message = st.builds(
    InteractionRecord, role=_text, content=_text, created_at=_second, tools_used=st.lists(_tool, max_size=2),
    shadow_content=_text, citations=st.lists(
        st.fixed_dictionaries({"kind": st.just("profile"), "real_id": _id, "tag": _text, "title": _text}), max_size=1),
    retrieved_learnings=st.lists(st.fixed_dictionaries(
        {"kind": st.just("profile"), "learning_id": _id, "exposure_receipt": st.none()}), max_size=1),
)  # fmt: skip
_turn = st.builds(
    TurnRecord, request_id=_id, user_id=st.sampled_from(["", "ann", "bob"]), session_id=st.sampled_from(["s1", "s2"]),
    agent_version=_text, source=st.sampled_from(["", "web_app"]),
    created_at_us=st.integers(1_700_000_000_000_000, 1_700_000_002_000_000),
    interactions=st.lists(_message, max_size=3),
    status=st.sampled_from(["completed", "error"]), error=_text, metadata=_json,
    options=st.sampled_from([{}, {"evaluation_only": True}]),
)  # fmt: skip
_profile = st.builds(
    UserProfile, profile_id=_id, user_id=_id, content=_id, last_modified_timestamp=_second, status=_status,
    custom_features=st.none() | _json, source=st.none() | _text, tags=st.lists(_id, max_size=2, unique=True),
    evidence=_evidence,
)  # fmt: skip
_playbook = st.builds(
    UserPlaybook, user_playbook_id=st.integers(1, 2**53), user_id=_id, content=_id, trigger=st.none() | _text,
    created_at=_second, status=_status, agent_version=_text, evidence=_evidence,
)  # fmt: skip
_shared = st.builds(
    AgentPlaybook, agent_playbook_id=st.integers(1, 2**53), agent_version=_text, content=_id, created_at=_second
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    turns=st.lists(_turn, max_size=6, unique_by=lambda turn: turn.request_id),
    learnings=st.lists(st.one_of(_profile, _playbook, _shared), max_size=6),
)
def test_what_is_exported_comes_back_equal(turns: list[TurnRecord], learnings: list[Learning]) -> None:
    """Every request in its order, every learning of any status, and no job that would learn from it again."""
    first, second = open_store("sqlite://"), open_store("sqlite://")
    try:
        first.add_turns(turns, learn_after=None)
        first.add_learnings(learnings)
        file = io.BytesIO()
        export_to(first, file, release="0")
        done = import_from(second, file, "memory")
        assert (done.skipped, done.new) == (0, len(turns))
        assert _sessions(second) == _sessions(first)
        assert _learnings(second) == _learnings(first)
        assert second.counts()["jobs_ready"] == 0
        again = io.BytesIO()
        export_to(second, again, release="0")
        assert sorted(again.getvalue().splitlines()[1:]) == sorted(file.getvalue().splitlines()[1:])
        assert import_from(second, file, "memory").new == 0
        assert second.counts() == first.counts()
    finally:
        first.close()
        second.close()


def _sessions(store: Store) -> dict[tuple[str, str], Any]:
    places = [(user, session) for user in ("", "ann", "bob") for session in ("s1", "s2")]
    return {place: store.read_session(*place) for place in places}


def _learnings(store: Store) -> list[list[str]]:
    query = LearningQuery(status_filter=[None, *Status])
    kinds = ("profile", "user_playbook", "agent_playbook")
    return [sorted(item.model_dump_json() for item in store.get_learnings(kind, query)) for kind in kinds]


def test_sessions_keep_their_order_though_all_began_in_one_millisecond() -> None:
    """Times are known to the second only, and yet the newest session is listed first again."""
    first, second = open_store("sqlite://"), open_store("sqlite://")
    at = 1_700_000_000_000_000
    for number in (3, 1, 2, 0, 4):
        said = [InteractionRecord("user", "hi", at // 1_000_000)]
        first.add_turns(
            [TurnRecord(f"r{number}-{part}", "ann", f"s{number}", "v1", "", at + part, said) for part in (1, 0)]
        )
        at += 1
    file = io.BytesIO()
    export_to(first, file, release="0")
    import_from(second, file, "memory")
    assert second.get_requests(GetRequestsRequest()) == first.get_requests(GetRequestsRequest())
    first.close()
    second.close()


def test_more_learnings_of_one_second_than_a_page_holds_are_all_exported() -> None:
    """1,300 of the same second, and some of seconds no calendar holds."""
    store = open_store("sqlite://")
    seconds = [1_700_000_000] * 1300 + [1_700_000_001] * 3 + [10**15] * 5
    many = [
        UserProfile(profile_id=f"p{at}", user_id="ann", content="x", last_modified_timestamp=second)
        for at, second in enumerate(seconds)
    ]
    store.add_learnings(many)
    file = io.BytesIO()
    assert export_to(store, file, release="0").counts["profile"] == len(seconds)
    ids = {json.loads(line)["profile_id"] for line in file.getvalue().splitlines()[1:]}
    assert len(ids) == len(seconds)
    store.close()


_HEADER = b'{"format":"reflexio-middleware-export","version":1,"release":"0","exported_at":0,"user_id":null}\n'
_TURN = (
    b'{"type":"request","request_id":"r1","user_id":"ann","session_id":"s1","created_at_us":1,'
    b'"interactions":[{"role":"user","content":"hi"}]}\n'
)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{broken\n", "is no JSON"),
        (b'"text"\n', "is no JSON object"),
        (b"\xff\xfe\n", "is no UTF-8 text"),
        (b'{"type":"request"}\n', "request_id: Field required"),
        (b'{"type":"song"}\n', "the type 'song' is not known"),
        (b'{"type":"profile","user_id":"ann","content":""}\n', "content: String should have at least 1 character"),
        (_TURN.replace(b'"hi"', b"7"), "interactions[0].content: Input should be a valid string"),
        (_TURN.replace(b'"hi"', b"NaN"), "NaN is no JSON number"),
        (_TURN.replace(b'"hi"', b'"' + b"x" * 1_000_001 + b'"'), "at most 1000000 characters"),
        (b'{"type":"request","metadata":' + b"[" * 100_000 + b"\n", "is n"),
        (_TURN[:-20], "is no JSON"),
    ],
)
def test_a_broken_line_is_named_and_nothing_is_imported(line: bytes, reason: str) -> None:
    """The good lines around it are importable on request."""
    store = open_store("sqlite://")
    file = io.BytesIO(_HEADER + _TURN + line)
    with pytest.raises(ImportFileError) as caught:
        import_from(store, file, "some.jsonl")
    assert caught.value.line == 3 and str(caught.value).startswith("some.jsonl, line 3: ")
    assert reason in caught.value.reason
    assert store.counts()["requests"] == 0
    done = import_from(store, file, "some.jsonl", skip_broken=True)
    assert (done.new, done.skipped, [error.line for error in done.broken]) == (1, 1, [3])
    assert store.counts()["requests"] == 1
    store.close()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (_HEADER.replace(b'"version":1', b'"version":9') + _TURN, "upgrade reflexio-middleware"),
        (_HEADER.replace(b"reflexio-", b"other-") + _TURN, "the format is not"),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused_whole(content: bytes, reason: str) -> None:
    """Even where broken lines may be skipped."""
    store = open_store("sqlite://")
    with pytest.raises(ImportFileError, match=reason):
        import_from(store, io.BytesIO(content), "some.jsonl", skip_broken=True)
    assert store.counts()["requests"] == 0
    store.close()


def test_the_commands_carry_a_store_to_another_one(run: Run, url: str, tmp_path: Path) -> None:
    """Export to a file that only its owner reads, import, and all is there; a second time nothing changes."""
    file, other = str(tmp_path / "memory.jsonl"), f"sqlite:///{tmp_path / 'other.db'}"
    told = "3 requests, 1 profile, 1 user playbook, 1 agent playbook"
    assert run("export", file, "--store", url).out == f"exported {told} to {file}\n"
    assert stat.S_IMODE(Path(file).stat().st_mode) == 0o600
    assert run("import", file, "--store", other).out == f"imported {told}\n"
    for command in (["sessions"], ["show", "chat", "--user", "ann"], ["learnings"]):
        assert run(*command, "--json", "--store", other).json == run(*command, "--json", "--store", url).json
    again = run("import", file, "--json", "--store", other).json
    assert (again["requests"], again["requests_new"], again["skipped_lines"]) == (3, 0, 0)


def test_export_and_import_work_in_a_pipe(run: Run, url: str, tmp_path: Path) -> None:
    """Only lines on stdout; the counts are told on stderr."""
    ran = run("export", "-", "--user", "ann", "--store", url)
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert [line.get("type") for line in lines] == [None, "request", "request", "profile", "user_playbook"]
    assert ran.err == "exported 2 requests, 1 profile, 1 user playbook\n"
    other = f"sqlite:///{tmp_path / 'other.db'}"
    assert run("import", "-", "--store", other, stdin=ran.out).code == 0
    assert [item["user_id"] for item in run("sessions", "--json", "--store", other).json["sessions"]] == ["ann"]


def test_export_replaces_no_file_unless_it_is_told_to(run: Run, url: str, tmp_path: Path) -> None:
    """An unknown folder is said, too; nothing is left behind."""
    file = tmp_path / "memory.jsonl"
    file.write_text("mine")
    assert run("export", str(file), "--store", url).code == 2
    assert file.read_text() == "mine"
    assert run("export", str(file), "--force", "--store", url).code == 0
    assert "there is no folder" in run("export", str(tmp_path / "no" / "x"), "--store", url).err
    assert sorted(path.name for path in tmp_path.glob("*jsonl*")) == ["memory.jsonl"]


def test_a_refused_import_makes_no_store(run: Run, tmp_path: Path) -> None:
    """The line is named, the exit code is 2; with --skip-broken it is 1 and the good lines are in."""
    file, store = tmp_path / "broken.jsonl", tmp_path / "new.db"
    file.write_bytes(_HEADER + b"{broken\n" + _TURN)
    ran = run("import", str(file), "--store", f"sqlite:///{store}")
    assert (ran.code, ran.out) == (2, "") and f"{file}, line 2: is no JSON" in ran.err
    assert not store.exists()
    ran = run("import", str(file), "--skip-broken", "--store", f"sqlite:///{store}")
    assert ran.code == 1 and "line 2" in ran.err and ran.out == "imported 1 request\n"


def test_a_reader_that_leaves_ends_the_export_quietly(url: str) -> None:
    """As with ``| head -1``: no traceback."""
    command = [sys.executable, "-c", "import sys; from reflexio_middleware.cli import main; sys.exit(main())"]
    command += ["export", "-", "--store", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as ran:
        assert ran.stdout is not None and ran.stderr is not None
        ran.stdout.close()
        assert b"Traceback" not in ran.stderr.read()
