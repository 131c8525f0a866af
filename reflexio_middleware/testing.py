"""Aids for tests of agents: a model server that says what it is told to.

::

    with ScriptedModelServer(["Hello.", ScriptedError(429, "slow down")]) as server:
        client = openai.OpenAI(base_url=server.base_url, api_key="any")
        ...
    assert server.requests[0]["messages"][-1]["content"] == "Hi"
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

MODEL: Final = "scripted-model"
"""The one model that ``GET /v1/models`` lists; any name is answered."""


@dataclass(frozen=True, slots=True)
class ScriptedError:
    """An answer that is an error: an HTTP status (400 to 599) and its message."""

    status: int
    message: str = "scripted error"


@dataclass(frozen=True, slots=True)
class ScriptedDelay:
    """An answer that comes late: ``answer`` after ``seconds``, or when the server is closed."""

    seconds: float
    answer: str | dict[str, Any] | ScriptedError = ""


Answer = str | dict[str, Any] | ScriptedError | ScriptedDelay
"""The assistant's text, a whole assistant message (``{"content": ..., "tool_calls": [...]}``), an error, a delay."""


class ScriptedModelServer:
    """A server on the loopback that speaks the OpenAI chat completions protocol and answers by a script.

    It knows ``POST /v1/chat/completions`` (plain and streamed, with tool calls and usage) and ``GET /v1/models``.
    Tokens are counted as words. When the script is at its end, it answers with status 400.

    Args:
        answers: The answers in order, or a function from a decoded request body to its answer (called by several
            threads at once when requests come at once).
    """

    def __init__(self, answers: Sequence[Answer] | Callable[[dict[str, Any]], Answer]) -> None:
        self.requests: list[dict[str, Any]] = []
        """The decoded bodies of all chat requests so far, in order of arrival."""
        self._script = answers if callable(answers) else None
        self._answers = [] if callable(answers) else list(answers)
        self._lock = threading.Lock()
        self.closing = threading.Event()
        """Set once the server closes; delays end then."""
        self._server = _Server(("127.0.0.1", 0), _Handler, self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, name="scripted-model-server", daemon=True
        )
        self._thread.start()

    @property
    def base_url(self) -> str:
        """Where it listens, as clients want it: ``http://127.0.0.1:PORT/v1``."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def next_answer(self, body: dict[str, Any]) -> Answer:
        """Note a request and take its answer from the script."""
        with self._lock:
            self.requests.append(body)
            if self._script is None:
                return self._answers.pop(0) if self._answers else ScriptedError(400, "the script has no more answers")
        return self._script(body)

    def close(self) -> None:
        """Stop listening and wait for the requests in work. Closing twice is fine."""
        if not self.closing.is_set():
            self.closing.set()
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # closing waits for the requests in work

    def __init__(self, address: tuple[str, int], handler: type[_Handler], scripted: ScriptedModelServer) -> None:
        self.scripted = scripted
        super().__init__(address, handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up early is no error of the test that it does so in."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Tests are quiet."""

    def do_GET(self) -> None:
        if self.path.rstrip("/").endswith("/models"):
            self._send_json(200, {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0}]})
        else:
            self._send_error(ScriptedError(404, f"no such path: {self.path}"))

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        if not self.path.rstrip("/").endswith("/chat/completions"):
            return self._send_error(ScriptedError(404, f"no such path: {self.path}"))
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            return self._send_error(ScriptedError(400, "the body is no JSON object"))
        answer = self.server.scripted.next_answer(body)
        if isinstance(answer, ScriptedDelay):
            self.server.scripted.closing.wait(answer.seconds)
            answer = answer.answer
        if isinstance(answer, ScriptedError):
            return self._send_error(answer)
        message = {"role": "assistant", "content": answer} if isinstance(answer, str) else _message(answer)
        if body.get("stream"):
            return self._send_events(_chunks(body, message))
        return self._send_json(200, _completion(body, message))

    def _send_error(self, error: ScriptedError) -> None:
        detail = {"message": error.message, "type": "scripted_error", "param": None, "code": None}
        self._send_json(error.status, {"error": detail})

    def _send_json(self, status: int, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        self._begin(status, "application/json", len(data))
        self.wfile.write(data)

    def _send_events(self, chunks: Iterator[dict[str, Any]]) -> None:
        self._begin(200, "text/event-stream", None)
        for chunk in chunks:
            self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")

    def _begin(self, status: int, kind: str, length: int | None) -> None:
        self.close_connection = True  # no idle connection outlives its request, so that closing is quick
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()


def _message(answer: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": None, **answer}


def _finish(message: dict[str, Any]) -> str:
    return "tool_calls" if message.get("tool_calls") else "stop"


def _usage(body: dict[str, Any], message: dict[str, Any]) -> dict[str, int]:
    prompt = sum(len(str(item.get("content") or "").split()) for item in body.get("messages") or [])
    said = len(str(message.get("content") or "").split()) + len(message.get("tool_calls") or [])
    return {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}


def _head(body: dict[str, Any], kind: str) -> dict[str, Any]:
    name = str(body.get("model") or MODEL)
    return {"id": "chatcmpl-scripted", "object": kind, "created": int(time.time()), "model": name}


def _completion(body: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": _finish(message), "logprobs": None}
    return {**_head(body, "chat.completion"), "choices": [choice], "usage": _usage(body, message)}


def _chunks(body: dict[str, Any], message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The message in pieces as a stream brings them: role, words, tool calls, the end, and usage where asked for."""
    head = _head(body, "chat.completion.chunk")

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]}

    yield chunk({"role": "assistant", "content": ""})
    for piece in re.findall(r"\s*\S+|\s+$", str(message.get("content") or "")):
        yield chunk({"content": piece})
    for index, call in enumerate(message.get("tool_calls") or []):
        yield chunk({"tool_calls": [{"index": index, **call}]})
    yield chunk({}, _finish(message))
    if (body.get("stream_options") or {}).get("include_usage"):
        yield {**head, "choices": [], "usage": _usage(body, message)}
