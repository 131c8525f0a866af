"""The program as a whole: its errors, its extra, its documentation."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from reflexio_middleware import __version__
from reflexio_middleware.cli.app import NAME, app

from .conftest import Run

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def _python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["sessions", "--limit", "none"], "--limit"),
        (["sessions", "--what"], "--what"),
        (["show"], "SESSION"),
        (["delete"], "Missing command"),
        (["sessions", "--store", "nonsense"], "is not understood"),
        (["import", "/no/such/file"], "/no/such/file: No such file or directory"),
        (["recall", "hello"], "--user"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_exit_code_2(run: Run, arguments: list[str], said: str) -> None:
    """No traceback, nothing on stdout."""
    ran = run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: ") and ran.err.count("\n") == 1 and said in ran.err


def test_a_damaged_store_is_one_line_too(run: Run, tmp_path: Path) -> None:
    """Errors of the store are said like the others."""
    file = tmp_path / "bad.db"
    file.write_bytes(b"this is no database " * 500)
    ran = run("sessions", "--store", f"sqlite:///{file}")
    assert ran.code == 2 and ran.err.startswith("error: ") and ran.err.count("\n") == 1


@pytest.mark.parametrize("command", [["sessions"], ["learnings"], ["export", "-"]])
def test_a_store_that_is_away_is_one_line_too(run: Run, caplog: pytest.LogCaptureFixture, command: list[str]) -> None:
    """The threads of the client, which meet the same, add no warnings to it."""
    ran = run(*command, "--store", "postgresql://nobody@127.0.0.1:1/reflexio")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("\n") == 1 and "is not available" in ran.err
    assert not caplog.records


def test_no_command_prints_the_help(run: Run) -> None:
    """Every command stands in it."""
    ran = run()
    assert ran.code == 0
    assert all(path[0] in ran.out for path, _ in _commands())


def test_version(run: Run) -> None:
    """For people and for programs."""
    assert run("version").out == f"{NAME} {__version__}\n"
    assert run("version", "--json").json["version"] == __version__


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    """In one line, with exit code 2."""
    hidden = f"import sys; sys.modules[{missing!r}] = None"
    ran = _python(f"{hidden}; from reflexio_middleware.cli import main; sys.exit(main(['version']))")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "error: The command line needs an optional package: pip install 'reflexio-middleware[cli]'\n"


def test_importing_it_loads_no_typer() -> None:
    """Not even the package of the command line does."""
    ran = _python(
        "import sys, reflexio_middleware, reflexio_middleware.cli; print({'typer', 'rich'} & set(sys.modules))"
    )
    assert ran.stdout == "set()\n"


def test_help_loads_no_database() -> None:
    """So that it comes at once."""
    helped = "import sys; from reflexio_middleware.cli import main; main(['--help'])"
    ran = _python(f"{helped}; print({{'sqlalchemy', 'sqlmodel', 'alembic', 'pydantic_settings'}} & set(sys.modules))")
    assert ran.stdout.splitlines()[-1] == "set()"


def test_the_installed_program_runs() -> None:
    """The entry point of the distribution."""
    program = Path(sys.executable).with_name(NAME)
    ran = subprocess.run([program, "version"], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (0, f"{NAME} {__version__}\n")


def _commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that can be run, with the words that name it."""
    command = get_command(app) if command is None else command
    inner = getattr(command, "commands", {})
    if path and (not inner or command.invoke_without_command):
        yield path, command
    for name, item in inner.items():
        yield from _commands(item, (*path, name))


def _sections() -> dict[str, str]:
    parts = re.split(r"^### `reflexio-middleware (.+)`$", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_command_is_documented_and_nothing_else_is() -> None:
    """A section each in docs/cli.md, with an example and every option."""
    sections = _sections()
    assert sorted(sections) == sorted(" ".join(path) for path, _ in _commands())
    for path, command in _commands():
        name = " ".join(path)
        assert f"$ {NAME} {name}" in sections[name]
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--") and option not in ("--store", "--help"):
                    assert f"`{option}" in sections[name], f"{name} {option}"


def test_the_examples_of_the_documentation_run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, one after the other, in one folder."""
    monkeypatch.chdir(tmp_path)
    text = DOCS.read_text(encoding="utf-8")
    lines = re.search(r"```json\n(.*?)```", text, re.DOTALL)
    assert lines is not None
    Path("example.jsonl").write_text(lines[1], encoding="utf-8")
    monkeypatch.setenv("REFLEXIO_STORE", "sqlite:///reflexio-demo.db")
    examples = re.findall(rf"^\$ {NAME} (.*)$", text, re.MULTILINE)
    for example in examples:
        command, _, note = example.partition("  # ")
        ran = run(*shlex.split(command))
        assert ran.code == (1 if "exit code 1" in note else 0), f"{command}: {ran.err}{ran.out}"
