"""Whose key goes where: that of OpenAI only to OpenAI."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
import pytest

from reflexio_middleware.embedding.openai import OpenAIEmbedder
from reflexio_middleware.learning.extractor import SessionView
from reflexio_middleware.learning.llm import LLMExtractor
from reflexio_store.errors import ExtractionError
from tests.learning.gold import Case, session_of

KEY = "sk-of-openai"


class _Refusing(ThreadingHTTPServer):
    """An endpoint of somebody else: it refuses all, and remembers the keys that it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.keys: list[str | None] = []


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
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_openais_key_goes_to_no_other_endpoint(other: _Refusing) -> None:
    """Neither to one that embeds, nor to one that learns."""
    url = f"http://127.0.0.1:{other.server_port}/v1"
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
