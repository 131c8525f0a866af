"""``python -m tests.reflexio_server``: a server in a process of its own, to be killed and started again."""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path

from .server import ReflexioServer


def main() -> None:
    """Serve until SIGTERM or SIGINT; the first line printed is the address."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="where to listen; 0: a free port")
    parser.add_argument("--data", type=Path, help="SQLite file for the data; none: in memory")
    parser.add_argument("--api-key", help="the key that callers must give")
    parser.add_argument("--limited", action="store_true", help="limit the rate of calls as the public server does")
    options = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with ReflexioServer(options.data, port=options.port, api_key=options.api_key, limited=options.limited) as server:
        print(server.url, flush=True)  # noqa: T201
        ended.wait()


if __name__ == "__main__":
    main()
