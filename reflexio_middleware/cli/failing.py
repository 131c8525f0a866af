"""Errors of a command: one line on stderr, which says how to mend it, and an exit code. Never a traceback."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

import typer
from typer.core import TyperGroup

from reflexio_middleware.cli.screen import harmless
from reflexio_store.errors import ReflexioError

NOTHING: Final = 1
"""Exit code: nothing was found or changed, or a check has findings."""
BAD_INPUT: Final = 2
"""Exit code: the command, an argument, a file or the store is unusable."""

_ClickError: Any = typer.BadParameter.__mro__[2]  # typer carries its own click since 0.26, and does not export this


class CommandError(Exception):
    """What stops a command: a message for a person, and the exit code."""

    def __init__(self, message: str, code: int = NOTHING) -> None:
        self.code = code
        super().__init__(message)


def complain(message: str) -> None:
    """Write one line to stderr, beginning with ``error:``."""
    sys.stderr.write(f"error: {harmless(' '.join(str(message).split()))}\n")


class OneLineErrors(TyperGroup):
    """The outermost group of commands: turns whatever stops a command into one line and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command; ends the process with its exit code, or returns it (not ``standalone_mode``)."""
        _never_fail_to_print()
        try:
            found = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
            code = found if isinstance(found, int) else 0
        except Exception as error:
            explained = _explained(error)
            if explained is None:
                raise
            message, code = explained
            if message:
                complain(message)
        if standalone_mode:
            sys.exit(code)
        return code


def _explained(error: Exception) -> tuple[str, int] | None:
    """The message and the exit code for an error, or None for one that is a fault of ours."""
    if isinstance(error, _ClickError):
        return _usage(error), BAD_INPUT
    if isinstance(error, CommandError):
        return str(error), error.code
    if isinstance(error, ReflexioError):
        return str(error), BAD_INPUT
    if isinstance(error, typer.Abort):
        return "stopped", NOTHING
    if isinstance(error, BrokenPipeError):
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - the reader left; nothing else is said
        return "", NOTHING
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror or error}", BAD_INPUT
    return None


def _usage(error: Any) -> str:
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    where = f"{context.command_path} --help" if context is not None else "reflexio-middleware --help"
    return f"{message} (see: {where})"


def _never_fail_to_print() -> None:
    """Let a terminal that lacks a character show it escaped, instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
