"""FORK: processes that are made from processes. (FORK-3 is tested with the SQLite home: ``tests/store``.)"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import reflexio_middleware as reflexio
from reflexio_integrations.langchain import ReflexioCallbackHandler
from tests.checklist.scripts import make_store, run, said_in


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_fork_1_a_fork_in_the_middle_of_everything_delivers_each_turn_once(tmp_path: Path) -> None:
    """Four threads capture while the main thread forks: children and parent deliver what is theirs, nothing twice.

    A server that loads the application and then forks its workers (gunicorn ``--preload``) does the same.
    """
    make_store(tmp_path)
    ended = run(
        """
        stop = threading.Event()

        def work(name):
            number = 0
            while not stop.is_set():
                talk(f"{name}-{number}")
                os.write(1, f"{name}-{number}\\n".encode())
                number += 1

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        talk("parent")
        children = []
        for number in range(6):
            child = os.fork()
            if child == 0:
                talk(f"child-{number}")
                reflexio.default_client().flush(30)
                os._exit(0)
            children.append(child)
        codes = {os.waitpid(child, 0)[1] for child in children}
        stop.set()
        for thread in threads:
            thread.join()
        assert codes == {0}
        """,
        tmp_path,
        learning="off",
    )
    assert (ended.code, ended.err) == (0, "")
    assert said_in(tmp_path) == sorted([*ended.out.split(), "parent", *(f"child-{number}" for number in range(6))])


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_fork_2_children_of_multiprocessing_deliver(tmp_path: Path, method: str) -> None:
    """However they are started, and whether the parent captured before or not; nothing is left to the next process."""
    make_store(tmp_path)
    (tmp_path / "work.py").write_text(
        textwrap.dedent(f"""
        import multiprocessing
        import reflexio_middleware as reflexio

        @reflexio.capture
        def agent(text):
            return text

        def work(text):
            with reflexio.session("s", user_id="ann"):
                agent(text)

        if __name__ == "__main__":
            work("parent")
            context = multiprocessing.get_context({method!r})
            children = [context.Process(target=work, args=(f"child {{number}}",)) for number in range(2)]
            for child in children:
                child.start()
            for child in children:
                child.join()
            assert [child.exitcode for child in children] == [0, 0]
        """)
    )
    subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(tmp_path / "work.py")],
        env={**os.environ, "REFLEXIO_STORE": f"sqlite:///{tmp_path / 'memory.db'}"}, check=True, timeout=60,
    )  # fmt: skip
    assert list((tmp_path / "memory.db-spool").glob("*.spool")) == []
    assert said_in(tmp_path) == ["child 0", "child 1", "parent"]


@reflexio.capture
def module_level(text: str) -> str:
    return text


def test_fork_4_what_can_be_pickled_is_and_the_rest_says_why(client: reflexio.ReflexioClient) -> None:
    """A captured function of a module, and a handler that names no client; a client says how to do it instead."""
    assert pickle.loads(pickle.dumps(module_level)) is module_level
    handler = pickle.loads(pickle.dumps(ReflexioCallbackHandler(user_id="ann")))
    assert isinstance(handler, ReflexioCallbackHandler)
    for thing in (client, ReflexioCallbackHandler(client=client)):
        with pytest.raises(TypeError, match="cannot be pickled: it holds threads and files"):
            pickle.dumps(thing)
