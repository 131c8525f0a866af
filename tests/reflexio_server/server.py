"""HTTP: keys, user agents, rate limits, faults, and the way from a path to what it does."""

from __future__ import annotations

import itertools
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from reflexio_middleware.testing import LoopbackServer

from .data import KEYS, Data
from .faults import HAPPENED, Fault, Faults
from .routes import Routes
from .validation import RefusedError

_BODY_LIMIT = 10 * 1024 * 1024
_BOTS = ("bot", "crawler", "spider", "scraper", "curl", "wget")
_POST = ("session_outcome", "get_session_outcomes",
         "publish_interaction", "get_requests", "get_interactions", "search_interactions", "clear_user_data",
         "finalize_session", "add_user_profile", "add_user_playbook", "add_agent_playbook", "get_profiles",
         "get_user_playbooks", "get_agent_playbooks", "search_profiles", "search_user_playbooks",
         "search_agent_playbooks", "search")  # fmt: skip
_GET = ("learning_status", "whoami", "get_all_profiles", "get_all_interactions")
_PUT = ("update_user_profile", "update_user_playbook", "update_agent_playbook")
_LIMITS = {"publish_interaction": 60, "finalize_session": 60, "add_user_profile": 60, "add_user_playbook": 60,
           "add_agent_playbook": 60, "search": 120, "get_agent_playbooks": 120, "learning_status": 120,
           "get_all_profiles": 30, "clear_user_data": 10, "delete_all": 10}  # fmt: skip


class ReflexioServer(LoopbackServer):
    """A server that runs until it is closed.

    Args:
        path: A SQLite file for its data; None keeps it in memory.
        port: Where it listens; 0 chooses a free port.
        api_key: The key it asks for; None: none.
        limited: Whether it limits the rate of calls, in windows of ``window`` seconds.
        window: See ``limited``; the public server's is 60.
        ticking: Give each request a second of its own, so that their order can be told.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        port: int = 0,
        api_key: str | None = None,
        limited: bool = False,
        window: float = 60.0,
        ticking: bool = False,
    ) -> None:
        self.api_key = api_key
        self.faults = Faults()
        self.calls: list[tuple[float, str]] = []
        """When (monotonic seconds) which path was called, in order."""
        seconds = itertools.count(1_700_000_000)
        clock: Callable[[], int] = (lambda: next(seconds)) if ticking else (lambda: int(time.time()))
        self.data = Data(str(path) if path else None)
        self.routes = Routes(self.data, clock, ("pending", "waiting_for_window"))
        self.limited, self.window = limited, window
        self.retry_after: str | None = None
        """The header of a 429; the public server sends none."""
        self._counted: Counter[tuple[str, int]] = Counter()
        self._lock = threading.Lock()
        self.sockets: set[socket.socket] = set()
        super().__init__(_Handler, port)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self.server_port

    def stored(self) -> list[str]:
        """The ids of the requests it has, in the order of their arrival."""
        return [item["request_id"] for item in self.data.requests()]

    def called(self, path: str) -> int:
        """How often a path was called."""
        return sum(name == path for _, name in self.calls)

    def check_limit(self, name: str) -> None:
        """Count a call; 429 where there were too many in this window."""
        group = next((known for known in ("search", "delete_all") if name.startswith(known)), name)
        limit = _LIMITS.get(group)
        if not self.limited or limit is None:
            return
        with self._lock:
            key = (group, int(time.monotonic() / self.window))
            self._counted[key] += 1
            if self._counted[key] <= limit:
                return
        headers = {"Retry-After": self.retry_after} if self.retry_after else {}
        raise RefusedError(429, {"error": f"Rate limit exceeded: {limit} per 1 minute"}, headers)

    def work(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """What a call answers."""
        name = path.removeprefix("/api/")
        routes: Any = self.routes
        if (method, name) == ("GET", "/health"):
            return {"status": "healthy"}
        if name in {"POST": _POST, "GET": _GET, "PUT": _PUT}.get(method, ()):
            return dict(getattr(routes, name)(body))
        if method == "DELETE" and name in ("delete_requests_by_ids", "delete_session", "delete_interaction"):
            return dict(getattr(routes, name)(body))
        for table, key in KEYS.items():
            if method == "DELETE" and name == f"delete_{table}_by_ids":
                return dict(routes.delete_learnings(table, key, body))
            if method == "DELETE" and name == f"delete_all_{table}":
                return dict(routes.delete_all(table, key))
        raise RefusedError(404, {"detail": "Not Found"})

    def close(self) -> None:
        """Stop listening, let waiting calls go, and close the data. Closing twice is fine."""
        if not self.closing.is_set():
            super().close()
            self.data.close()

    def server_close(self) -> None:
        for open_socket in list(self.sockets):  # idle connections must not hold up the end
            try:
                open_socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        super().server_close()


class _Handler(BaseHTTPRequestHandler):
    server: ReflexioServer  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.sockets.add(self.connection)

    def finish(self) -> None:
        self.server.sockets.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Tests are quiet."""

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def _serve(self, method: str) -> None:
        server = self.server
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = urlsplit(self.path)
        server.calls.append((time.monotonic(), parts.path))
        fault = server.faults.next_for(parts.path)
        if fault is not None and fault.name not in HAPPENED:
            return self._fail(fault)
        try:
            self._admit(server, raw)
            answer: dict[str, Any] | str = server.work(method, parts.path, self._body(raw, parts.query))
            status, headers = 200, {}
        except RefusedError as refusal:
            answer, status, headers = refusal.body, refusal.status, refusal.headers
        if fault is not None and fault.name != "slow":
            return self._fail(fault)
        if fault is not None:
            server.closing.wait(fault.seconds)
        return self._send(status, answer, headers)

    def _admit(self, server: ReflexioServer, raw: bytes) -> None:
        agent = (self.headers.get("user-agent") or "").lower()
        if not agent or any(word in agent for word in _BOTS):
            raise RefusedError(403, {"detail": "Forbidden"})
        if server.api_key and self.headers.get("authorization") != f"Bearer {server.api_key}":
            raise RefusedError(401, {"detail": "Invalid or missing API key"})
        if len(raw) > _BODY_LIMIT:
            raise RefusedError(413, {"detail": "Request body too large"})
        server.check_limit(urlsplit(self.path).path.removeprefix("/api/"))

    def _body(self, raw: bytes, query: str) -> dict[str, Any]:
        if not raw:
            return dict(parse_qsl(query))
        try:
            body = json.loads(raw)
        except ValueError as error:
            detail = {"type": "json_invalid", "loc": ["body"], "msg": str(error), "input": {}}
            raise RefusedError(422, {"detail": [detail]}) from error
        if not isinstance(body, dict):
            raise RefusedError(
                422, {"detail": [{"type": "missing", "loc": ["body"], "msg": "Field required", "input": None}]}
            )
        return body

    def _fail(self, fault: Fault) -> None:
        if fault.name.startswith("status"):
            headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
            return self._send(fault.status, "Internal Server Error", headers)
        if fault.name == "refuse":
            return self._send(200, {"success": False, "message": "database is locked"}, {})
        if fault.name == "garbage":
            return self._send(200, "<html>Welcome</html>", {})
        if fault.name.startswith("silence"):
            self._wait_for_the_caller_to_leave()
        self.close_connection = True
        linger = struct.pack("ii", 1, 0)  # a reset, not an orderly end
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        return self.connection.close()

    def _wait_for_the_caller_to_leave(self) -> None:
        self.connection.settimeout(0.05)
        while not self.server.closing.is_set():
            try:
                if not self.connection.recv(1):
                    return
            except TimeoutError:
                continue
            except OSError:
                return

    def _send(self, status: int, answer: dict[str, Any] | str, headers: dict[str, str]) -> None:
        plain = isinstance(answer, str)
        data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if plain else "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
