"""Export and import: the functions, and the commands around them."""

from __future__ import annotations

import io
import json
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import reflexio_middleware as reflexio
from reflexio_middleware.exchange import copy, export_to, import_from, pages_of
from reflexio_store.contract import Applied, Change, Store
from reflexio_store.errors import ImportFileError
from reflexio_store.homes import open_store
from reflexio_store.models import (
    NEVER_EXPIRES,
    AgentPlaybook,
    Evidence,
    LearningQuery,
    SessionOutcome,
    Status,
    UserPlaybook,
    UserProfile,
)
from reflexio_store.moving import Dismissal, Erasure, Event, JobRecord, OptOut, Record, Stored
from reflexio_store.records import InteractionRecord, TurnRecord
from reflexio_store.terms import Usage
from tests.reflexio_server import ReflexioServer

from .conftest import Run, talk

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
    options=st.sampled_from([{}, {"evaluation_only": True}, {"force_extraction": True, "skip_aggregation": True}]),
    retrieval_experiment_id=st.none() | _id, retrieval_experiment_arm=st.sampled_from([None, "holdout"]),
    unread=st.dictionaries(st.sampled_from(["", "llm"]), st.booleans(), max_size=2),
)  # fmt: skip
_profile = st.builds(
    UserProfile, profile_id=_id, user_id=_id, content=_id, last_modified_timestamp=_second, status=_status,
    custom_features=st.none() | _json, source=st.none() | _text, tags=st.lists(_id, max_size=2, unique=True),
    evidence=_evidence, expiration_timestamp=st.sampled_from([NEVER_EXPIRES, 1]), superseded_by=st.none() | _id,
)  # fmt: skip
_playbook = st.builds(
    UserPlaybook, user_playbook_id=st.integers(1, 2**53), user_id=_id, content=_id, trigger=st.none() | _text,
    created_at=_second, status=_status, agent_version=_text, evidence=_evidence,
)  # fmt: skip
_shared = st.builds(
    AgentPlaybook, agent_playbook_id=st.integers(1, 2**53), agent_version=_text, content=_id, created_at=_second
)  # fmt: skip


_dismissal = st.builds(
    Dismissal, user_id=_id, kind=st.sampled_from(["profile", "user_playbook"]), sameness=_id, request_id=_id,
    interaction_index=st.integers(0, 9),
)  # fmt: skip
_job = st.builds(
    JobRecord, user_id=_text, kind=_id, key=_text, state=st.sampled_from(["ready", "done", "dead"]),
    due_us=st.integers(0, 2**62), attempts=st.integers(0, 9), last_error=_text, payload=_json, result=_json,
)  # fmt: skip
_outcome = st.builds(
    SessionOutcome, session_id=_id, outcome=st.sampled_from(["success", "failure", "unknown"]), occurred_at=_second,
    user_id=_text, source=_text, label=st.none() | _id, value=st.none() | st.floats(allow_nan=False, width=32,
    allow_infinity=False), metadata=st.none() | _json, created_at=_second,
)  # fmt: skip
_event = st.builds(
    Event, user_id=_text, entry_id=_id, at_us=st.integers(0, 2**62), kind=st.sampled_from(["profile", "user_playbook"]),
    learning_id=_id, action=_id, content=_text, other_id=_text, request_id=_text,
)  # fmt: skip
_count = st.integers(0, 2**62)
_usage = st.builds(
    Usage, user_id=_text, day=st.sampled_from(["2026-01-01", "2026-01-02"]), extractor=_text, model=_text, calls=_count,
    prompt_tokens=_count, completion_tokens=_count, cost_micros=_count,
)  # fmt: skip
_record = st.one_of(
    _turn, _profile, _playbook, _shared, _dismissal, _outcome, _job, _event, _usage,
    st.builds(Erasure, digest=_id, at_us=st.integers(0, 2**62)), st.builds(OptOut, user_id=_id, at_us=_second),
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(records=st.lists(_record, max_size=8))
def test_what_is_exported_and_imported_is_exported_as_the_same_bytes(records: list[Record]) -> None:
    """Requests to the microsecond, learnings of any status and age, dismissals, jobs; and it is the same file."""
    with opened() as first, opened() as second, opened() as third:
        first.put_records(records)
        file = exported(first)
        done = import_from(second, file, "memory")
        assert done.skipped == 0 and all(stored.total == stored.new for stored in done.kinds.values())
        assert exported(second).getvalue() == file.getvalue()
        assert second.counts() == first.counts()
        again = import_from(second, file, "memory")
        assert again.counts == done.counts and all(stored.total == stored.same for stored in again.kinds.values())
        copy(first, third)
        assert exported(third).getvalue() == file.getvalue()
        assert [finding for finding in third.check() if finding.level == "error"] == []


@contextmanager
def opened(url: str = "sqlite://") -> Iterator[Store]:
    with closing(open_store(url)) as store:
        yield store


def exported(store: Store, user_id: str | None = None) -> io.BytesIO:
    file = io.BytesIO()
    export_to(store, file, release="0", exported_at=0, user_id=user_id)
    return file


def lines_of(file: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.getvalue().splitlines()]


def test_what_a_live_home_holds_survives_the_move(client: reflexio.ReflexioClient) -> None:
    """What is superseded, expired, dismissed, waiting: the other home answers and behaves alike."""
    talk(client, "ann", "s1", "My name is Ann.", "Hello.")
    talk(client, "ann", "s1", "Actually, my name is Anna. I prefer aisle seats.", "Noted.")
    assert client.flush(10, learn_now=True).complete
    seat = next(item for item in client.get_profiles("ann").user_profiles if "aisle" in item.content)
    client.delete_profile("ann", seat.profile_id)
    expired = UserProfile(profile_id="old", user_id="ann", content="Is in Rome.", expiration_timestamp=1)
    client.store.add_learnings([expired])
    with opened() as other:
        done = copy(client.store, other)
        assert done.kinds["dismissal"].new == 1 and done.kinds["job"].new == 2  # to learn, and to delete what expired
        wanted = LearningQuery(user_id="ann", status_filter=[None, *Status])
        assert other.get_learnings("profile", wanted) == client.store.get_learnings("profile", wanted)
        assert b'"old"' in exported(other).getvalue()
        assert exported(other).getvalue() == exported(client.store).getvalue()
        assert other.job_states("learn")[0].state == "done"
        evidence = tuple(seat.evidence)
        again = Change("add", "profile", UserProfile(user_id="ann", content=seat.content), evidence=evidence)
        assert other.apply("ann", [again]) == Applied()


def test_history_accounts_and_erasures_survive_the_move(client: reflexio.ReflexioClient) -> None:
    """What happened to learnings, what models took, and what must not come back; and what is read is not read again."""
    talk(client, "ann", "s1", "My name is Ann.", "Hello.")
    talk(client, "ann", "s2", "Forget this.", "Done.")
    assert client.flush(10, learn_now=True).complete
    client.store.add_usage(Usage("ann", "2026-01-01", "llm", "small", 1, 20, 3, 4))
    late = next(page for page in pages_of(client.store, "ann") if isinstance(page[0], TurnRecord))[1]
    client.delete_session("s2", user_id="ann")
    with opened() as other:
        done = copy(client.store, other).kinds
        assert (done["event"].new, done["usage"].new, done["erasure"].new) == (1, 1, 1)
        assert exported(other).getvalue() == exported(client.store).getvalue()
        assert other.history("profile", user_id="ann") == client.store.history("profile", user_id="ann")
        assert other.spent("2026-01-01", user_id="ann") == (23, 4)
        assert isinstance(late, TurnRecord) and other.add_turns([late]) == 0
        assert other.counts() == client.store.counts() and other.unlearned("ann", "s1") == []


def test_an_export_of_an_earlier_release_lets_its_open_sessions_be_read_as_a_whole() -> None:
    """It did not say which turns were read."""
    job = b'{"type":"job","user_id":"ann","kind":"learn","key":"s1"}\n'
    end = b'{"type":"end","counts":{"request":1,"job":1}}\n'
    with opened() as store:
        file = io.BytesIO(_HEADER.replace(b'"version":1', b'"version":2') + _TURN + job + end)
        import_from(store, file, "some.jsonl")
        assert [turn.request_id for turn in store.unlearned("ann", "s1")] == ["r1"]


def test_work_that_somebody_holds_is_free_where_it_arrives() -> None:
    """A running job belongs to a worker of the old home; in the new one anybody may take it."""
    with opened() as first, opened() as second:
        first.add_turns([TurnRecord("r1", "ann", "s1", "v1", "", 1, [])])
        assert first.claim_job("learn", lease_seconds=60) is not None
        copy(first, second)
        job = second.claim_job("learn", lease_seconds=60)
        assert job is not None and (job.user_id, job.key) == ("ann", "s1")


def test_a_user_can_be_exported_alone() -> None:
    """Requests, learnings, dismissals and jobs of this user, and no word of another."""
    with opened() as store:
        for user in ("ann", "bob"):
            turn = TurnRecord(f"r-{user}", user, "s1", "v1", "", 1, [InteractionRecord("user", f"I am {user}")])
            store.add_turns([turn])
            profile = UserProfile(profile_id=f"p-{user}", user_id=user, content=f"Is {user}.")
            store.put_records([profile, Dismissal(user, "profile", "x", f"r-{user}", 0)])
        file = exported(store, "ann")
        assert b"bob" not in file.getvalue()
        kinds = [line.get("type") for line in lines_of(file)]
        assert kinds == [None, "request", "profile", "dismissal", "job", "end"]
        with opened() as other:
            import_from(other, file, "memory")
            assert exported(other, "ann").getvalue() == file.getvalue()


def test_large_requests_are_read_a_few_at_a_time() -> None:
    """A page holds some eight million characters of messages, however many requests were asked for."""
    with opened() as first, opened() as second:
        picture = InteractionRecord("user", "look", image_encoding="x" * 3_000_000)
        first.add_turns([TurnRecord(f"r{at}", "ann", "s1", "v1", "", at, [picture]) for at in range(8)])
        assert [len(page) for page in pages_of(first) if isinstance(page[0], TurnRecord)] == [3, 3, 2]
        assert copy(first, second).kinds["request"] == Stored(new=8)


def test_copying_tells_what_differs_and_changes_no_request() -> None:
    """A learning of the source takes the place of another value; what only the target has stays."""
    with opened() as first, opened() as second:
        said = TurnRecord("r1", "ann", "s1", "v1", "", 1, [InteractionRecord("user", "one")])
        other = TurnRecord("r1", "ann", "s1", "v1", "", 1, [InteractionRecord("user", "two")])
        first.put_records([said, UserProfile(profile_id="p", user_id="ann", content="New.")])
        second.put_records([other, UserProfile(profile_id="p", user_id="ann", content="Old.")])
        second.put_records([UserProfile(profile_id="mine", user_id="ann", content="Stays.")])
        done = copy(first, second).kinds
        assert (done["request"], done["profile"]) == (Stored(differ=1), Stored(replaced=1))
        assert second.read_session("ann", "s1")[0].interactions[0].content == "two"
        found = second.get_learnings("profile", LearningQuery(user_id="ann"))
        assert sorted(item.content for item in found if isinstance(item, UserProfile)) == ["New.", "Stays."]
        assert second.search_learnings("profile", LearningQuery(user_id="ann", query="old")) == []


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
    assert (done.kinds["request"].new, done.skipped, [error.line for error in done.broken]) == (1, 1, [3])
    assert store.counts()["requests"] == 1
    store.close()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"\n\n", "the file is empty"),
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


@pytest.mark.parametrize(
    ("damage", "line", "reason"),
    [
        (lambda lines: lines[:-1], 4, "the file was cut off"),
        (lambda lines: lines[:-2], 3, "the file was cut off"),
        (lambda lines: [*lines[:1], *lines[2:]], 3, "the export had 2 lines of the type 'request', here are 1"),
        (lambda lines: [*lines, lines[1]], 5, "a line after the end"),
        (lambda lines: [*lines[:-1], lines[-1][:9]], 4, "is no JSON"),
        (lambda lines: [b"\n", *lines[1:]], 2, "the header of the export is missing"),
    ],
)
def test_a_damaged_export_is_refused_and_nothing_is_imported(damage: Any, line: int, reason: str) -> None:
    """Cut off at the end of a line, within one, or with a line less: each is seen."""
    with opened() as first, opened() as second:
        first.add_turns([TurnRecord(f"r{at}", "ann", "s1", "v1", "", at, []) for at in range(2)], learn_after=None)
        lines = exported(first).getvalue().splitlines(keepends=True)
        file = io.BytesIO(b"".join(damage(lines)))
        with pytest.raises(ImportFileError, match=reason) as caught:
            import_from(second, file, "some.jsonl")
        assert caught.value.line == line
        assert second.counts()["requests"] == 0


def test_the_commands_carry_a_store_to_another_one(run: Run, url: str, tmp_path: Path) -> None:
    """Export to a file that only its owner reads, import, and all is there; a second time nothing changes."""
    file, other = str(tmp_path / "memory.jsonl"), f"sqlite:///{tmp_path / 'other.db'}"
    told = "3 requests, 1 profile, 1 user playbook, 1 agent playbook, 2 history events, 2 jobs"
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
    assert [line.get("type") for line in lines] == [
        None,
        "request",
        "request",
        "profile",
        "user_playbook",
        "event",
        "event",
        "job",
        "end",
    ]
    assert ran.err == "exported 2 requests, 1 profile, 1 user playbook, 2 history events, 1 job\n"
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
    (tmp_path / "folder.jsonl").mkdir()
    assert "is a folder" in run("export", str(tmp_path / "folder.jsonl"), "--force", "--store", url).err
    (tmp_path / "folder.jsonl").rmdir()
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


def test_copy_carries_a_store_to_another_one(run: Run, url: str, tmp_path: Path) -> None:
    """The table says what was there and what was copied; a second time nothing is."""
    other = f"sqlite:///{tmp_path / 'other.db'}"
    ran = run("copy", url, other)
    assert ran.code == 0 and ["requests", "3", "3", "0", "0", "0", "0", "3"] in [
        row.split() for row in ran.out.splitlines()
    ]
    for command in (["sessions"], ["show", "chat", "--user", "ann"], ["learnings"]):
        assert run(*command, "--json", "--store", other).json == run(*command, "--json", "--store", url).json
    again = run("copy", url, other, "--json").json
    assert again["requests"] == {"there": 3, "copied": 0, "known": 3, "replaced": 0, "differ": 0, "lost": 0, "in_to": 3}


def test_a_copy_is_complete_though_some_of_it_has_expired(run: Run, tmp_path: Path) -> None:
    """Profiles whose time is over move, too, and are counted."""
    url, other = f"sqlite:///{tmp_path / 'old.db'}", f"sqlite:///{tmp_path / 'new.db'}"
    with opened(url) as first:
        first.add_learnings([UserProfile(user_id="ann", content="Was in Rome.", expiration_timestamp=1)])
    ran = run("copy", url, other, "--json")
    assert ran.code == 0 and ran.json["profiles"]["in_to"] == 1


def test_an_empty_line_before_an_export_is_no_part_of_it() -> None:
    """An editor may leave one."""
    with opened() as store:
        done = import_from(store, io.BytesIO(b"\n" + _HEADER + _TURN), "some.jsonl")
        assert done.kinds["request"].new == 1


def test_what_a_server_does_not_keep_is_counted(run: Run, url: str, tmp_path: Path) -> None:
    """By a copy as by an import; the rest is complete."""
    file = str(tmp_path / "memory.jsonl")
    run("export", file, "--store", url)
    with ReflexioServer() as server:
        ran = run("copy", url, server.url, "--json")
        assert ran.code == 0 and "the copy is complete, but for what is lost" in ran.err
        assert (ran.json["requests"]["lost"], ran.json["events"]["lost"], ran.json["jobs"]["lost"]) == (0, 2, 2)
        again = run("import", file, "--store", server.url)
        told = "imported 3 requests, 1 profile, 1 user playbook, 1 agent playbook; 3 requests known already\n"
        assert again.out == told
        assert "the store keeps none of these: 2 history events, 2 jobs\n" in again.err


def test_copy_fails_when_the_counts_differ(run: Run, url: str, tmp_path: Path) -> None:
    """A request of the same id with other words is kept, said, and makes the exit code 1."""
    other = f"sqlite:///{tmp_path / 'other.db'}"
    with opened(url) as first, opened(other) as second:
        page = first.read_records("request", limit=1)
        assert isinstance(page.records[0], TurnRecord)
        page.records[0].interactions = [InteractionRecord("user", "other words")]
        second.put_records(page.records)
    ran = run("copy", url, other)
    assert ran.code == 1 and "1 requests are in TO with other content, which was kept" in ran.err


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("sqlite:///{0}/talked.db", "sqlite:///{0}/../{1}/talked.db", "FROM and TO are the same store"),
        ("sqlite:///{0}/none.db", "sqlite:///{0}/new.db", "there is no such file"),
        ("sqlite:///{0}/talked.db", "mysql://somewhere", "is not understood"),
        ("nonsense", "sqlite:///{0}/new.db", "is not understood"),
    ],
)
def test_copy_refuses_what_it_cannot_do(
    run: Run, url: str, tmp_path: Path, source: str, target: str, message: str
) -> None:
    """One line that says what to mend, exit code 2 (or 1 where nothing is there), and no store is made."""
    ran = run("copy", source.format(tmp_path, tmp_path.name), target.format(tmp_path, tmp_path.name))
    assert ran.code in (1, 2) and message in ran.err
    assert not (tmp_path / "new.db").exists()


def test_a_copy_that_was_killed_is_finished_by_running_it_again(run: Run, tmp_path: Path) -> None:
    """Killed once a part is there: the second run stores the rest, and both homes hold the same."""
    url, other = f"sqlite:///{tmp_path / 'old.db'}", f"sqlite:///{tmp_path / 'new.db'}"
    with opened(url) as first:
        said = [InteractionRecord("user", "words " * 40)] * 4
        for user in range(10):
            first.add_turns([TurnRecord(f"r{at}", f"u{user}", "s", "v1", "", at, said) for at in range(600)])
        profiles = [UserProfile(profile_id=f"p{at}", user_id=f"u{at % 10}", content=f"Fact {at}.") for at in range(50)]
        first.add_learnings(profiles)
    command = [sys.executable, "-c", "import sys; from reflexio_middleware.cli import main; sys.exit(main())"]
    with opened(other) as second, subprocess.Popen([*command, "copy", url, other], stderr=subprocess.PIPE) as ran:
        while second.counts()["requests"] == 0 and ran.poll() is None:
            pass
        ran.send_signal(signal.SIGKILL)
        ran.wait()
        part = second.counts()["requests"]
    assert 0 < part <= 6000
    rows = run("copy", url, other, "--json").json
    assert rows["requests"]["copied"] == 6000 - part and rows["requests"]["known"] == part
    with opened(url) as first, opened(other) as second:
        assert exported(second).getvalue() == exported(first).getvalue()
        assert [finding for finding in second.check() if finding.level == "error"] == []
