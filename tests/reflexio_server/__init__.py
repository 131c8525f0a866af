"""A Reflexio server for tests, on the loopback: it behaves as the public one (0.2.32), defects included.

::

    with ReflexioServer() as server:                      # its data in memory
        server.faults.script(Fault("break before"), times=2, path="/api/publish_interaction")
        client = ReflexioClient(url_endpoint=server.url)

    python -m tests.reflexio_server --port 8061 --data server.db     # a process that can be killed and started again
"""

from .faults import Fault, Faults
from .server import ReflexioServer

__all__ = ["Fault", "Faults", "ReflexioServer"]
