"""``backup``: a sound copy while others write, or one line that says why not."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import reflexio_middleware as reflexio
from reflexio_store.homes import open_store

from .conftest import Run, talk


def test_a_copy_is_made_while_others_write(run: Run, url: str, tmp_path: Path) -> None:
    """It is sound, holds what was stored before, and only its owner can read it."""
    over = threading.Event()
    with reflexio.ReflexioClient(url, learning="off") as client:

        def write_on() -> None:
            while not over.is_set():
                talk(client, "carl", "busy", "Still there?", "Yes.")
                client.flush()

        writing = threading.Thread(target=write_on)
        writing.start()
        ran = run("backup", str(tmp_path / "copy.db"), "--store", url)
        over.set()
        writing.join()
    assert ran.code == 0 and "copied" in ran.out
    assert sorted(path.name for path in tmp_path.iterdir() if "copy" in path.name) == ["copy.db"]
    assert (tmp_path / "copy.db").stat().st_mode & 0o077 == 0
    copy = open_store(f"sqlite:///{tmp_path / 'copy.db'}")
    assert copy.counts()["requests"] >= 3
    assert [finding for finding in copy.check() if finding.level == "error"] == []
    copy.close()


@pytest.mark.parametrize(
    ("to", "said"), [("talked.db", "is there already"), ("no/folder/copy.db", "there is no folder")]
)
def test_a_place_that_cannot_be_used_is_refused(run: Run, url: str, tmp_path: Path, to: str, said: str) -> None:
    """In one line."""
    ran = run("backup", str(tmp_path / to), "--store", url)
    assert ran.code == 2 and said in ran.err


def test_the_store_is_not_replaced_by_itself(run: Run, url: str, tmp_path: Path) -> None:
    """Whatever ``--force`` says; another file is replaced."""
    ran = run("backup", str(tmp_path / "talked.db"), "--force", "--store", url)
    assert ran.code == 2 and "is the store itself" in ran.err
    (tmp_path / "copy.db").write_text("old")
    assert run("backup", str(tmp_path / "copy.db"), "--force", "--store", url).code == 0


def test_a_damaged_store_makes_no_copy(run: Run, url: str, tmp_path: Path) -> None:
    """What is there stays as it is."""
    path = tmp_path / "talked.db"
    data = path.read_bytes()
    path.write_bytes(data[:8192] + b"\xff" * (len(data) - 8192))
    (tmp_path / "copy.db").write_text("old")
    ran = run("backup", str(tmp_path / "copy.db"), "--force", "--store", url)
    assert ran.code == 2 and "damaged" in ran.err
    assert (tmp_path / "copy.db").read_text() == "old"


def test_only_a_file_is_copied(run: Run, tmp_path: Path) -> None:
    """A database in memory has none."""
    ran = run("backup", str(tmp_path / "copy.db"), "--store", "sqlite://")
    assert ran.code == 2 and "only a SQLite file" in ran.err
