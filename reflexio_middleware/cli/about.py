"""``version``."""

from __future__ import annotations

import platform

import typer

from reflexio_middleware import __version__
from reflexio_middleware.cli.options import Json
from reflexio_middleware.cli.screen import print_json


def version(as_json: Json = False) -> None:
    """Print the version."""
    if as_json:
        from reflexio_store.sql.dialects.sqlite_driver import driver

        print_json({"version": __version__, "python": platform.python_version(), "sqlite": driver.sqlite_version})
    else:
        typer.echo(f"reflexio-middleware {__version__}")
