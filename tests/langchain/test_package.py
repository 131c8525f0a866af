"""Importing the integration: light, by name, and clear about what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import reflexio_integrations
import reflexio_middleware
import reflexio_store
from reflexio_integrations import langchain

_FLOORS = [str(Path(module.__file__ or "").parents[1]) for module in (
    reflexio_integrations, reflexio_middleware, reflexio_store,
)]  # fmt: skip


def run(code: str) -> str:
    """What a fresh interpreter prints for ``code``."""
    setup = f"import sys; sys.path[:0] = {_FLOORS!r}\n"
    done = subprocess.run([sys.executable, "-c", setup + code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_every_public_name_is_there() -> None:
    """And nothing else is promised."""
    assert all(callable(getattr(langchain, name)) for name in langchain.__all__)
    assert sorted(langchain.__all__) == langchain.__all__ == dir(langchain)
    with pytest.raises(AttributeError, match="no attribute 'Handler'"):
        _ = langchain.Handler  # type: ignore[attr-defined]


def test_importing_the_package_loads_no_langchain() -> None:
    """Each part loads when it is used; ``langchain`` itself only for the middleware."""
    assert run(
        "import reflexio_integrations.langchain as package\n"
        "print([name for name in ('langchain_core', 'langchain', 'langgraph') if name in sys.modules])\n"
        "package.ReflexioCallbackHandler, package.with_memory, package.ReflexioRetriever, package.ReflexioSearchTool\n"
        "package.attach()\n"
        "print([name for name in ('langchain', 'langgraph', 'sqlalchemy') if name in sys.modules])\n"
    ).splitlines() == ["[]", "[]"]


@pytest.mark.parametrize(
    ("missing", "name"),
    [("langchain_core", "ReflexioCallbackHandler"), ("langchain_core", "attach"), ("langchain", "ReflexioMiddleware")],
)
def test_a_missing_package_is_named_with_its_command(missing: str, name: str) -> None:
    """Only when a part that needs it is used."""
    printed = run(
        f"sys.modules[{missing!r}] = None\n"
        "import reflexio_integrations.langchain as package\n"
        "from reflexio_store.errors import MissingExtraError\n"
        "try:\n"
        f"    package.{name}\n"
        "except MissingExtraError as error:\n"
        "    print(error)\n"
    )
    assert printed == (
        f"reflexio_integrations.langchain.{name} needs an optional package: "
        "pip install 'reflexio-middleware[langchain]'"
    )
