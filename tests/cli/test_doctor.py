"""``doctor``: it works whatever is wrong, and says what."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

import reflexio_middleware as reflexio
from reflexio_middleware.testing import ScriptedError, ScriptedModelServer
from reflexio_store.homes import open_store
from reflexio_store.records import InteractionRecord, TurnRecord
from reflexio_store.sql.dialects.sqlite_driver import driver as sqlite3

from .conftest import Run


def _errors(report: dict[str, Any]) -> list[str]:
    return [item["message"] for item in report["findings"] if item["level"] == "error"]


def test_it_says_where_things_are_and_where_each_setting_comes_from(
    run: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Argument, environment or default; keys are not shown."""
    monkeypatch.setenv("REFLEXIO_AGENT_VERSION", "v9")
    monkeypatch.setenv("REFLEXIO_LLM_API_KEY", "sk-very-secret")
    ran = run("--store", url, "doctor", "--json")
    report = ran.json
    assert ran.code == 0 and report["file"] == str(tmp_path / "talked.db") and report["file_bytes"] > 0
    origins = {item["name"]: (item["value"], item["origin"]) for item in report["settings"]}
    assert origins["store"] == (url, "argument")
    assert origins["agent_version"] == ("v9", "environment (REFLEXIO_AGENT_VERSION)")
    assert origins["extractor"] == ("statements", "default")
    assert report["counts"]["requests"] == 3 and "sqlite" in report["versions"]
    assert "sk-very-secret" not in ran.out + run("doctor", "--store", url).out


def test_it_prints_for_people_as_well(run: Run, url: str) -> None:
    """The same, in sections."""
    ran = run("doctor", "--store", url, columns=80)
    for part in ("Where things are", "Settings", "Versions", "What is stored", "What was found", "talked.db"):
        assert part in ran.out


def test_a_store_that_is_not_there_yet_is_no_error_and_is_not_made(run: Run, tmp_path: Path) -> None:
    """Looking changes nothing."""
    ran = run("doctor", "--json", "--store", f"sqlite:///{tmp_path / 'later.db'}")
    assert ran.code == 0 and any("no file yet" in item["message"] for item in ran.json["findings"])
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_a_finding(run: Run, tmp_path: Path) -> None:
    """It cannot be opened, and doctor says so instead of failing."""
    file = tmp_path / "bad.db"
    file.write_bytes(b"this is no database " * 500)
    ran = run("doctor", "--json", "--store", f"sqlite:///{file}")
    assert ran.code == 1 and len(_errors(ran.json)) == 1 and ran.json["counts"] == {}
    assert "What was found" in run("doctor", "--store", f"sqlite:///{file}").out


def test_a_database_of_a_newer_release_is_a_finding(run: Run, url: str, tmp_path: Path) -> None:
    """It says to upgrade."""
    with closing(sqlite3.connect(tmp_path / "talked.db")) as connection, connection:
        table = next(name for (name,) in connection.execute("SELECT name FROM sqlite_master") if "version" in name)
        connection.execute(f"UPDATE {table} SET version_num = '9999'")
    ran = run("doctor", "--json", "--store", url)
    assert ran.code == 1 and "pgrade" in " ".join(_errors(ran.json))


@pytest.mark.parametrize("store", ["nonsense", "", "mysql://me:secret@host/db"])
def test_an_unusable_url_is_a_finding_without_its_password(run: Run, store: str) -> None:
    """The forms that can be used are named."""
    ran = run("doctor", "--json", "--store", store)
    assert ran.code == 1 and "sqlite:///" in _errors(ran.json)[0]
    assert "me:secret" not in ran.json["store"] + str(ran.json["settings"])


def test_unusable_and_mistyped_settings_are_findings(run: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the report is still there."""
    monkeypatch.setenv("REFLEXIO_RECALL_TOKENS", "many")
    monkeypatch.setenv("REFLEXIO_STROE", "sqlite:///x.db")
    ran = run("doctor", "--json", "--store", url)
    assert ran.code == 1 and ran.json["counts"]["requests"] == 3
    assert _errors(ran.json)[0].startswith("REFLEXIO_RECALL_TOKENS: ")
    assert any("did you mean REFLEXIO_STORE?" in item["message"] for item in ran.json["findings"])


def test_what_waits_and_what_was_refused_is_told(run: Run, url: str, tmp_path: Path) -> None:
    """Bytes in the spool, and the file with the refused turns."""
    folder = tmp_path / "talked.db-spool"
    folder.mkdir(exist_ok=True)
    (folder / "dead_letters.jsonl").write_text('{"error": "x"}\n')
    (folder / "a.spool").write_bytes(b"RFXSPL1\n" + bytes(100))
    ran = run("doctor", "--json", "--store", url)
    assert (ran.json["spools"], ran.json["spool_bytes"]) == (1, 100)
    assert "the store refused 1 turns" in _errors(ran.json)[0]


def test_a_spool_of_a_newer_release_is_told_and_left_alone(run: Run, url: str, tmp_path: Path) -> None:
    """It says to upgrade; so is a damaged part that was set aside."""
    folder = tmp_path / "talked.db-spool"
    folder.mkdir(exist_ok=True)
    (folder / "a.spool").write_bytes(b"RFXSPL9\nfrom the future")
    (folder / "b.broken").write_bytes(b"damaged")
    ran = run("doctor", "--json", "--store", url)
    assert ran.code == 1 and "newer release" in _errors(ran.json)[0] and "b.broken" in _errors(ran.json)[1]
    run("sessions", "--store", url)
    assert (folder / "a.spool").read_bytes() == b"RFXSPL9\nfrom the future"


def test_refused_turns_are_shown_with_their_reason_and_can_be_sent_again(run: Run, url: str, tmp_path: Path) -> None:
    """``doctor retry`` says what came of it; one that cannot be read stays."""
    turn = TurnRecord("r9", "zoe", "s1", "v1", "", 1_750_000_000_000_000, [InteractionRecord("user", "hello")])
    letter = {"at": 1, "error": "a number does not fit", "turn": orjson.dumps(turn).decode()}
    letters = tmp_path / "talked.db-spool" / "dead_letters.jsonl"
    letters.parent.mkdir(exist_ok=True)
    letters.write_bytes(orjson.dumps(letter) + b"\n" + b"torn li\n")
    ran = run("doctor", "--store", url)
    assert ran.code == 1 and "r9" in ran.out and "a number does not fit" in ran.out and "doctor retry" in ran.out
    assert run("doctor", "--json", "--store", url).json["dead_letters"][0]["request_id"] == "r9"
    again = run("--store", url, "doctor", "retry")
    assert again.code == 1 and again.out == "1 turn stored\n" and "1 turn refused again" in again.err
    assert "zoe" in run("sessions", "--store", url).out
    assert "r9" not in letters.read_text()


def test_dead_jobs_are_shown_with_their_reason_and_can_be_retried(run: Run, tmp_path: Path) -> None:
    """After ``doctor retry`` the session is learned from."""
    url = f"sqlite:///{tmp_path / 'dead.db'}"
    store = open_store(url)
    said = [InteractionRecord("user", "My name is Ann.")]
    store.add_turns([TurnRecord("r1", "ann", "s1", "v1", "", 1_750_000_000_000_000, said)])
    job = store.claim_job("learn", lease_seconds=60)
    assert job is not None and store.fail_job(job, "ExtractionError: the key is wrong", retry_after=None)
    store.close()
    ran = run("doctor", "--store", url)
    assert "the key is wrong" in ran.out and "doctor retry" in ran.out
    assert run("doctor", "--json", "--store", url).json["dead_jobs"][0]["key"] == "s1"
    assert run("--store", url, "doctor", "retry").out.startswith("1 job will be tried again")
    assert "Name is Ann." in run("learnings", "--store", url).out
    again = run("doctor", "retry", "--store", url)
    assert again.code == 1 and "nothing was changed" in again.err


@pytest.mark.parametrize("kind", ["generate", "aggregate", "purge", "learn.llm"])
def test_a_dead_job_of_any_kind_is_shown_with_its_reason(run: Run, tmp_path: Path, kind: str) -> None:
    """Whoever is told to mend the reason can read it."""
    url = f"sqlite:///{tmp_path / 'dead.db'}"
    store = open_store(url)
    store.put_job(kind, "v1")
    job = store.claim_job(kind, lease_seconds=60)
    assert job is not None and store.fail_job(job, "ExtractionError: the embedder is away", retry_after=None)
    store.close()
    assert "the embedder is away" in run("doctor", "--store", url).out


@pytest.mark.parametrize(("name", "value"), [("LEARN_WINDOW", "many"), ("LEARN_STRIDE", "20"), ("RECALL_TOP_K", "0")])
def test_an_unusable_setting_is_a_finding_whatever_its_default(
    run: Run, url: str, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """None, a number, or what another setting allows; all else is looked at as ever."""
    monkeypatch.setenv(f"REFLEXIO_{name}", value)
    ran = run("doctor", "--json", "--store", url)
    assert ran.code == 1 and ran.json["counts"]["requests"] == 3
    [error] = _errors(ran.json)
    assert error.startswith(f"REFLEXIO_{name}: ")


def test_a_folder_that_is_a_file_is_a_finding(run: Run, tmp_path: Path) -> None:
    """The place cannot hold a database."""
    (tmp_path / "file").write_text("")
    ran = run("doctor", "--json", "--store", f"sqlite:///{tmp_path / 'file' / 'memory.db'}")
    assert ran.code == 1 and "is a file, but a folder is needed" in " ".join(_errors(ran.json))


def test_the_llm_extractor_without_a_key_is_a_warning(run: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what happens instead."""
    monkeypatch.setenv("REFLEXIO_EXTRACTOR", "llm")
    messages = [item["message"] for item in run("doctor", "--json", "--store", url).json["findings"]]
    assert any("REFLEXIO_LLM_API_KEY" in message for message in messages)
    with reflexio.ReflexioClient(url, learning="off") as client:
        assert client.settings.extractor == "llm"


def test_an_embeddings_endpoint_that_refuses_the_key_is_an_error(
    run: Run, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that answers is all right; a missing key is an error, too."""
    monkeypatch.setenv("REFLEXIO_EMBEDDER", "openai")
    assert any("embedding_api_key" in message for message in _errors(run("doctor", "--json", "--store", url).json))
    with ScriptedModelServer() as server:
        monkeypatch.setenv("REFLEXIO_EMBEDDING_BASE_URL", server.base_url)
        found = run("doctor", "--json", "--store", url)
        assert found.code == 0 and "with 256 numbers" in str(found.json["findings"])
        server.embeddings = ScriptedError(401, "Incorrect API key provided")
        ran = run("doctor", "--json", "--store", url)
        assert ran.code == 1 and any("Incorrect API key provided" in message for message in _errors(ran.json))
