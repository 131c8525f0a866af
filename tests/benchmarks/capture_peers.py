"""The neighbours that capture is measured beside: an environment of their own, and backends on this machine."""

from __future__ import annotations

import contextlib
import http.server
import importlib.metadata
import json
import os
import socket
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator
from pathlib import Path

PEERS = ("langfuse", "langsmith")


def python_with_peers(folder: Path) -> Path:
    """Install the peers, with the langchain-core of this environment, into ``folder``; its interpreter.

    Raises:
        subprocess.CalledProcessError: pip failed; its output was printed.
    """
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    core = f"langchain-core=={importlib.metadata.version('langchain-core')}"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEERS, core],
        check=True,
        stdout=sys.stderr,
        stderr=subprocess.PIPE if not sys.stderr.isatty() else None,
    )
    return python


def environment(variant: str, endpoint: str, folder: Path) -> dict[str, str]:
    """The environment variables of a process that runs ``variant`` against a backend at ``endpoint``."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("REFLEXIO_", "LANGSMITH_", "LANGCHAIN_", "LANGFUSE_", "OTEL_"))
    }
    mine = {
        "ours": {"REFLEXIO_STORE": f"sqlite:///{folder / 'memory.db'}"},
        "ours, off": {"REFLEXIO_STORE": f"sqlite:///{folder / 'memory.db'}", "REFLEXIO_CAPTURE": "off"},
        "langfuse": {"LANGFUSE_BASE_URL": endpoint, "LANGFUSE_PUBLIC_KEY": "pk-lf-0", "LANGFUSE_SECRET_KEY": "none"},
        "langsmith": {"LANGSMITH_TRACING": "true", "LANGSMITH_ENDPOINT": endpoint, "LANGSMITH_API_KEY": "none"},
    }
    return {**inherited, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **mine.get(variant, {})}


_INFO = json.dumps(
    {
        "batch_ingest_config": {
            "use_multipart_endpoint": True,
            "size_limit": 100,
            "size_limit_bytes": 20_971_520,
            "scale_up_qsize_trigger": 1000,
            "scale_up_nthreads_limit": 16,
            "scale_down_nempty_trigger": 4,
        },
        "instance_flags": {"zstd_compression_enabled": True},
    }
).encode()
"""What LangSmith's service says of itself."""


class _Sink(http.server.BaseHTTPRequestHandler):
    """Takes whatever is sent, and says that all is well."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(_INFO)

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length")
        if length is not None:
            self.rfile.read(int(length))
        else:
            while size := int(self.rfile.readline(), 16):
                self.rfile.read(size + 2)
            self.rfile.readline()
        self._answer()

    do_PATCH = do_POST  # noqa: N815 - the name of the standard library

    def _answer(self, body: bytes = b"{}") -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the standard library
        """Say nothing."""


@contextlib.contextmanager
def sink() -> Iterator[str]:
    """The address of a backend on loopback that takes everything and keeps nothing."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """The address of a backend that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def refusing() -> str:
    """The address of a port of loopback where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"
