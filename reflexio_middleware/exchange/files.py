"""A file that appears when it is complete."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast


@contextmanager
def whole_file(file: str | os.PathLike[str], *, replace: bool = False) -> Iterator[BinaryIO]:
    """Where to write; the file appears at the end, only its owner can read it, and an error leaves none behind.

    Raises:
        FileExistsError: There is such a file (and ``replace`` is False).
        IsADirectoryError: There is a folder of that name.
        OSError: The folder is not there or not writable.
    """
    path = Path(file).absolute()
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}: make it, or name another file")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file")
    if not replace and path.exists():
        raise FileExistsError(f"{path} is there already: name another file")
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as made:
        try:
            yield cast(BinaryIO, made)
        except BaseException:
            made.close()
            Path(made.name).unlink()
            raise
    os.replace(made.name, path)
