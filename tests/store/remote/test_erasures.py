"""The note of what was deleted on a server, beside the spool."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FULL_DISK = """
import pathlib, resource, sys
from reflexio_store.errors import StoreUnavailableError
from reflexio_store.remote.erasures import Erasures

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    Erasures(pathlib.Path(sys.argv[1])).note(f"{number:064}" for number in range(50))
except StoreUnavailableError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of a file's size")
def test_a_note_that_does_not_fit_on_the_disk_is_an_error(tmp_path: Path) -> None:
    """Nothing is deleted then: a part of it would let the rest come back."""
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "nothing was deleted" in done.stdout
