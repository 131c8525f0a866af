"""The processes of :mod:`durability`: ``python durability_child.py COMMAND URL SESSION [NUMBER]``.

publish: publishes from eight threads until it is killed; prints "ready", then the id of each request as it is
acknowledged. some: publishes NUMBER requests from one thread and prints how many were refused. stored: takes over what
dead processes left, and prints the id of each request of the session as often as it is listed, each with the number of
its interactions.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading

import reflexio_middleware as reflexio
from reflexio_store.errors import ReflexioError

_SAID = [{"role": role, "content": f"{role}: on its way, {'word ' * 20}"} for role in ("user", "assistant") * 2]


def main(command: str, url: str, session: str, number: str = "0") -> None:
    """Run one command."""
    client = reflexio.ReflexioClient(url, learning="off")
    if command == "publish":
        _publish_until_killed(client, session)
    elif command == "some":
        refused = sum(not _published(client, session) for _ in range(int(number)))
        client.close(60.0)
        os.write(1, f"{refused}\n".encode())
    else:
        assert client.flush(120.0).complete
        _print_stored(client, session)
        client.close()


def _publish_until_killed(client: reflexio.ReflexioClient, session: str) -> None:
    def work() -> None:
        for _ in itertools.count():
            request_id = _published(client, session)
            if request_id:
                os.write(1, f"{request_id}\n".encode())

    threads = [threading.Thread(target=work, daemon=True) for _ in range(8)]
    os.write(1, b"ready\n")
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _published(client: reflexio.ReflexioClient, session: str) -> str:
    try:
        return client.publish_interaction("ann", _SAID, session_id=session).request_id or ""
    except ReflexioError as error:
        os.write(2, f"{error}\n".encode())
        return ""


def _print_stored(client: reflexio.ReflexioClient, session: str) -> None:
    found = client.get_requests(user_id="ann", session_id=session, top_k=10)
    for one in found.sessions:
        for data in one.requests:
            os.write(1, f"{data.request.request_id} {len(data.interactions)}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
