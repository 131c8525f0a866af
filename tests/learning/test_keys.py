"""Whose key goes where: that of OpenAI only to OpenAI, and only where it was named for the purpose."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import openai
import pytest

from reflexio_middleware import ReflexioClient
from reflexio_middleware.embedding.openai import OpenAIEmbedder
from reflexio_middleware.learning.extractor import SessionView
from reflexio_middleware.learning.llm import LLMExtractor
from reflexio_middleware.testing import LoopbackServer
from reflexio_store.errors import ExtractionError, InvalidInputError
from tests.learning.gold import Case, session_of

KEY = "sk-of-openai"


class _Refusing(LoopbackServer):
    """An endpoint of somebody else: it refuses all, and remembers the keys that it was sent."""

    def __init__(self) -> None:
        self.keys: list[str | None] = []
        super().__init__(_Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Refusing

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.keys.append(self.headers["authorization"])
        self.send_response(400)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it has there
        """Say nothing."""


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Refusing]:
    """An endpoint that is not OpenAI's, where OpenAI's key lies in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with _Refusing() as server:
        yield server


def test_openais_key_goes_to_no_other_endpoint(other: _Refusing) -> None:
    """Neither to one that embeds, nor to one that learns."""
    url = f"{other.url}/v1"
    embedder = OpenAIEmbedder("m", base_url=url)
    with pytest.raises(openai.BadRequestError):
        embedder.embed(["tea"])
    embedder.close()
    llm = LLMExtractor("m", base_url=url, max_retries=0)
    with pytest.raises(ExtractionError):
        llm.extract(SessionView("u1", "s1", "v1", session_of(Case("", "user: I like tea.\nagent: Noted."))))
    llm.close()
    assert len(other.keys) >= 2
    assert not any(KEY in str(key) for key in other.keys)


def test_embeddings_by_openai_want_a_key_that_was_named_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """As learning does: what lies in the environment for something else sends nobody's words anywhere."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(InvalidInputError, match="REFLEXIO_EMBEDDING_API_KEY"):
        ReflexioClient("sqlite://", embedder="openai")
