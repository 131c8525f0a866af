"""The command line, ``reflexio-middleware``. Its packages (extra ``cli``) are imported when it runs, not before."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from reflexio_store.errors import MissingExtraError

_EXTRA = ("typer", "click", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 nothing found or changed (or findings), 2 bad input.

    Args:
        arguments: What was typed after the name of the program; None: this process's own.
    """
    try:
        import rich  # noqa: F401 - typer runs without it, our tables do not

        from reflexio_middleware.cli.app import run
    except ImportError as error:
        if (error.name or "").split(".")[0] not in _EXTRA:
            raise
        sys.stderr.write(f"error: {MissingExtraError('The command line', 'cli')}\n")
        return 2
    return run(arguments)
