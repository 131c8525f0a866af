"""Aids for tests of agents: a model server that says what it is told to.

::

    with ScriptedModelServer(["Hello.", ScriptedError(429, "slow down")]) as server:
        client = openai.OpenAI(base_url=server.base_url, api_key="any")
        ...
    assert server.requests[0]["messages"][-1]["content"] == "Hi"
"""

from __future__ import annotations

import base64
import json
import re
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from reflexio_middleware.embedding.hashed import DIMENSION, hashed_vector

MODEL: Final = "scripted-model"
"""The one model that ``GET /v1/models`` lists; any name is answered."""


@dataclass(frozen=True, slots=True)
class ScriptedError:
    """An answer that is an error: an HTTP status (400 to 599), its message, and headers such as ``Retry-After``."""

    status: int
    message: str = "scripted error"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScriptedDelay:
    """An answer that comes late: ``answer`` after ``seconds``, or when the server is closed."""

    seconds: float
    answer: str | dict[str, Any] | ScriptedError = ""


@dataclass(frozen=True, slots=True)
class ScriptedStream:
    """An answer whose stream is steered: after ``pause_after`` events it waits until ``go_on`` is set (or the server
    is closed), after ``break_after`` events the connection breaks. Without streaming it is plain."""

    answer: str | dict[str, Any]
    pause_after: int | None = None
    go_on: threading.Event = field(default_factory=threading.Event)
    break_after: int | None = None


Answer = str | dict[str, Any] | ScriptedError | ScriptedDelay | ScriptedStream
"""The assistant's text, a whole assistant message (``{"content": ..., "tool_calls": [...]}``, with the
``finish_reason`` if it is no usual one; for responses also ``{"output": [...]}`` with its items and its ``status``), an
error, a delay, a steered stream."""

Embeddings = str | dict[str, Any] | ScriptedError | ScriptedDelay
"""What a request for embeddings gets; see :attr:`ScriptedModelServer.embeddings`."""


class LoopbackServer(ThreadingHTTPServer):
    """An HTTP server on the loopback that runs in a thread of its own, from when it is made until it is closed.

    Args:
        handler: What answers.
        port: Where it listens; 0 chooses a free port.
    """

    daemon_threads = False  # closing waits for the requests in work
    request_queue_size = 128

    def __init__(self, handler: type[BaseHTTPRequestHandler], port: int = 0) -> None:
        self.closing = threading.Event()
        """Set once the server closes; what waits in it ends then."""
        super().__init__(("127.0.0.1", port), handler)
        self._serving = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.01}, name=type(self).__name__, daemon=True
        )
        self._serving.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def close(self) -> None:
        """Stop listening and wait for the requests in work. Closing twice is fine."""
        if not self.closing.is_set():
            self.closing.set()
            self.shutdown()
            self.server_close()
            self._serving.join()

    def __exit__(self, *_: object) -> None:
        self.close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up early is no error of the test that it does so in."""


class ScriptedModelServer(LoopbackServer):
    """A server on the loopback that speaks the OpenAI protocols and answers by a script.

    It knows ``POST /v1/chat/completions`` and ``POST /v1/responses`` (plain and streamed, with tool calls and usage),
    the paths of Azure deployments that end so, and ``GET /v1/models``. Responses are not kept: ``output`` aside, one
    that goes on from another is answered like any. ``POST /v1/embeddings`` answers with vectors that are near where
    texts share stems, apart from the script.
    Tokens are counted as words. When the script is at its end, it answers with status 400.

    Args:
        answers: The answers in order, or a function from a decoded request body to its answer (called by several
            threads at once when requests come at once).
    """

    def __init__(self, answers: Sequence[Answer] | Callable[[dict[str, Any]], Answer] = ()) -> None:
        self.requests: list[dict[str, Any]] = []
        """The decoded bodies of all requests to a model so far, in order of arrival."""
        self.embedded: list[dict[str, Any]] = []
        """The decoded bodies of all requests for embeddings so far."""
        self.embeddings: Embeddings | Callable[[dict[str, Any]], Embeddings] = ""
        """What requests for embeddings get until this is set anew: ``""`` the vectors, other text a body as it is (it
        need not be JSON), a dictionary a body, or an error or a delay; or a function from a decoded request body to
        any of these."""
        self.dimension = DIMENSION
        """Numbers of a vector where the request does not say ``dimensions``."""
        self.asked = threading.Event()
        """Set once a first request has come."""
        self._script = answers if callable(answers) else None
        self._answers = [] if callable(answers) else list(answers)
        self._lock = threading.Lock()
        super().__init__(_Handler)

    @property
    def base_url(self) -> str:
        """Where it listens, as clients want it: ``http://127.0.0.1:PORT/v1``."""
        return f"{self.url}/v1"

    def next_answer(self, body: dict[str, Any]) -> Answer:
        """Note a request and take its answer from the script."""
        with self._lock:
            self.requests.append(body)
            self.asked.set()
            if self._script is None:
                return self._answers.pop(0) if self._answers else ScriptedError(400, "the script has no more answers")
        return self._script(body)


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedModelServer  # pyright: ignore[reportIncompatibleVariableOverride]
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
        path = self.path.partition("?")[0].rstrip("/")
        if not path.endswith(("/chat/completions", "/responses", "/embeddings")):
            return self._send_error(ScriptedError(404, f"no such path: {self.path}"))
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            return self._send_error(ScriptedError(400, "the body is no JSON object"))
        if path.endswith("/embeddings"):
            return self._embed(body)
        answer = self._waited_for(self.server.next_answer(body))
        if isinstance(answer, ScriptedError):
            return self._send_error(answer)
        steered = answer if isinstance(answer, ScriptedStream) else ScriptedStream(answer)
        message = {"content": steered.answer} if isinstance(steered.answer, str) else steered.answer
        if path.endswith("/responses"):
            return self._respond(body, message, steered)
        if body.get("stream"):
            return self._send_events(({"data": chunk} for chunk in _chunks(body, _message(message))), steered)
        return self._send_json(200, _completion(body, _message(message)))

    def _waited_for(self, answer: Any) -> Any:
        """The answer, late where the script says so."""
        if isinstance(answer, ScriptedDelay):
            self.server.closing.wait(answer.seconds)
            return answer.answer
        return answer

    def _embed(self, body: dict[str, Any]) -> None:
        self.server.embedded.append(body)
        scripted_answer = self.server.embeddings
        answer = self._waited_for(scripted_answer(body) if callable(scripted_answer) else scripted_answer)
        if isinstance(answer, ScriptedError):
            return self._send_error(answer)
        if isinstance(answer, str) and answer:
            return self._send(200, answer.encode())
        return self._send_json(200, answer or _embeddings(body, self.server.dimension))

    def _respond(self, body: dict[str, Any], message: dict[str, Any], steered: ScriptedStream) -> None:
        made = _response(body, message, len(self.server.requests))
        if body.get("stream"):
            return self._send_events(
                ({"event": event["type"], "data": event} for event in _response_events(made)), steered
            )
        return self._send_json(200, made)

    def _send_error(self, error: ScriptedError) -> None:
        detail = {"message": error.message, "type": "scripted_error", "param": None, "code": None}
        self._send(error.status, json.dumps({"error": detail}).encode(), error.headers)

    def _send_json(self, status: int, value: dict[str, Any]) -> None:
        self._send(status, json.dumps(value).encode())

    def _send(self, status: int, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        self._begin(status, "application/json", len(data), headers)
        self.wfile.write(data)

    def _send_events(self, events: Iterator[dict[str, Any]], steered: ScriptedStream) -> None:
        self._begin(200, "text/event-stream", None)
        last = False
        for number, event in enumerate(events):
            if number == steered.break_after:
                return
            if number == steered.pause_after:
                self._wait(steered.go_on)
            name = f"event: {event['event']}\n" if "event" in event else ""
            self._send_chunk(f"{name}data: {json.dumps(event['data'])}\n\n".encode())
            last = "event" in event
        if not last:
            self._send_chunk(b"data: [DONE]\n\n")
        self._send_chunk(b"")

    def _wait(self, event: threading.Event) -> None:
        while not (event.wait(0.01) or self.server.closing.is_set()):
            pass

    def _send_chunk(self, data: bytes) -> None:
        """One chunk of a chunked body (empty: its end), so that a broken connection shows."""
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _begin(self, status: int, kind: str, length: int | None, headers: Mapping[str, str] | None = None) -> None:
        self.close_connection = True  # no idle connection outlives its request, so that closing is quick
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        else:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()


def _message(answer: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": None, **answer}


def _finish(message: dict[str, Any]) -> str:
    return str(message.get("finish_reason") or ("tool_calls" if message.get("tool_calls") else "stop"))


def _usage(body: dict[str, Any], message: dict[str, Any]) -> dict[str, int]:
    prompt = sum(len(str(item.get("content") or "").split()) for item in body.get("messages") or [])
    said = len(str(message.get("content") or "").split()) + len(message.get("tool_calls") or [])
    return {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}


def _head(body: dict[str, Any], kind: str) -> dict[str, Any]:
    name = str(body.get("model") or MODEL)
    return {"id": "chatcmpl-scripted", "object": kind, "created": int(time.time()), "model": name}


def _completion(body: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
    said = {name: value for name, value in message.items() if name != "finish_reason"}
    choice = {"index": 0, "message": said, "finish_reason": _finish(message), "logprobs": None}
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


def _embeddings(body: dict[str, Any], dimension: int) -> dict[str, Any]:
    """Vectors as numbers, or as base64 of little-endian 32-bit floats where ``encoding_format`` asks for that."""
    given = body.get("input")
    texts = [given] if isinstance(given, str) else list(given or ())
    vectors = [hashed_vector(str(text), body.get("dimensions") or dimension) for text in texts]
    packed = body.get("encoding_format") == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() if packed else vector,
        }
        for index, vector in enumerate(vectors)
    ]
    tokens = sum(len(str(text).split()) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": str(body.get("model") or MODEL), "usage": usage}


def _response(body: dict[str, Any], message: dict[str, Any], number: int) -> dict[str, Any]:
    """A response whose output is the message and its calls as items, or the items that the script gives."""
    usage = _usage({"messages": []}, message)
    return {
        "id": f"resp_{number}", "object": "response", "created_at": int(time.time()), "status": "completed",
        "model": str(body.get("model") or MODEL), "error": None, "incomplete_details": None, "metadata": {},
        "instructions": body.get("instructions"), "previous_response_id": body.get("previous_response_id"),
        "parallel_tool_calls": True, "temperature": 1.0, "top_p": 1.0, "tools": body.get("tools") or [],
        "tool_choice": body.get("tool_choice") or "auto", "text": body.get("text") or {"format": {"type": "text"}},
        "usage": {
            "input_tokens": 0, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": usage["total_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": usage["total_tokens"],
        },
        **{name: value for name, value in message.items() if name in ("status", "error", "incomplete_details")},
        "output": message["output"] if "output" in message else _items(message, number),
    }  # fmt: skip


def _items(message: dict[str, Any], number: int) -> list[dict[str, Any]]:
    text = message.get("content")
    part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    item = {"id": f"msg_{number}", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    calls = [
        {
            "id": f"fc_{number}_{index}", "type": "function_call", "status": "completed", "call_id": call["id"],
            "name": call["function"]["name"], "arguments": call["function"]["arguments"],
        }
        for index, call in enumerate(message.get("tool_calls") or [])
    ]  # fmt: skip
    return [item, *calls] if text else calls


def _response_events(made: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The events of a streamed response: begun, each item in pieces, and the whole."""
    begun = {**made, "status": "in_progress", "output": [], "usage": None}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
    events.append({"type": "response.in_progress", "response": begun})
    for index, item in enumerate(made["output"]):
        events += [{**event, "output_index": index} for event in _item_events(item)]
    events.append({"type": f"response.{made['status']}", "response": made})
    return ({**event, "sequence_number": number} for number, event in enumerate(events))


def _item_events(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    where = {"item_id": item["id"]}
    if item["type"] == "function_call":
        yield {"type": "response.output_item.added", "item": {**item, "arguments": "", "status": "in_progress"}}
        for piece in re.findall(r".{1,8}", item["arguments"], re.DOTALL):
            yield {"type": "response.function_call_arguments.delta", **where, "delta": piece}
        done = {"name": item["name"], "arguments": item["arguments"]}
        yield {"type": "response.function_call_arguments.done", **where, **done}
    elif item["type"] == "message":
        yield {"type": "response.output_item.added", "item": {**item, "content": [], "status": "in_progress"}}
        for index, part in enumerate(item["content"]):
            at = {**where, "content_index": index}
            yield {"type": "response.content_part.added", **at, "part": {**part, "text": ""}}
            for piece in re.findall(r"\s*\S+|\s+$", part["text"]):
                yield {"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []}
            yield {"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []}
            yield {"type": "response.content_part.done", **at, "part": part}
    yield {"type": "response.output_item.done", "item": item}
