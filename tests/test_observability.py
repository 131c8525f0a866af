"""What we tell of ourselves: counters, one warning for each kind of failure, spans where the host traces."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from reflexio_middleware import ReflexioClient, capture, session
from reflexio_middleware.guard import counters, guard, raise_internal_errors
from reflexio_store.errors import StoreUnavailableError


@pytest.fixture(scope="module")
def spans() -> InMemorySpanExporter:
    """The spans of this process; a tracer provider can be set only once."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


def test_recall_and_learning_join_the_hosts_traces(client: ReflexioClient, spans: InMemorySpanExporter) -> None:
    """A recall is a child of the host's span; learning is a trace of its own; no words of the user are in either."""
    client.publish_interaction(
        user_id="u", session_id="s", wait_for_response=True,
        interactions=[{"role": "user", "content": "I prefer window seats."}],
    )  # fmt: skip
    with trace.get_tracer("host").start_as_current_span("turn") as host:
        client.recall("Book a window seat", user_id="u")
        trace_id = host.get_span_context().trace_id
    found = {span.name: span for span in spans.get_finished_spans()}
    recall, learning = found["reflexio.recall"], found["reflexio.learn"]
    assert recall.context is not None
    assert recall.context.trace_id == trace_id
    assert recall.attributes is not None
    assert dict(recall.attributes)["reflexio.recalled"] == 1
    assert learning.attributes is not None
    assert dict(learning.attributes)["reflexio.profiles_added"] == 1
    assert "seat" not in recall.to_json() + learning.to_json()


def test_a_store_that_is_away_is_one_line_of_log(caplog: pytest.LogCaptureFixture) -> None:
    """It says what is away; a traceback is for faults of ours."""
    with raise_internal_errors(False), guard("asking a store that is away"):
        raise StoreUnavailableError("http://127.0.0.1:9: no connection")
    [line] = caplog.records
    assert "no connection" in line.message
    assert not line.exc_info


def test_without_tracing_nothing_is_imported(tmp_path: Path) -> None:
    """OpenTelemetry may be installed and still is not loaded for us."""
    code = (
        "import sys; from reflexio_middleware import ReflexioClient\n"
        f"client = ReflexioClient('sqlite:///{tmp_path / 'm.db'}')\n"
        "client.recall('anything at all', user_id='u'); client.close()\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_what_was_done_is_counted(client: ReflexioClient) -> None:
    """Captured, stored, recalled, learned."""
    before = client.stats()
    agent = capture(lambda text: "ok")
    with session("s", user_id="u", client=client):
        agent("hello")
        client.recall("hello there")
    assert client.flush().complete
    after = client.stats()
    for name in ("turns_captured", "turns_stored", "recalls", "sessions_learned"):
        assert after[name] == before.get(name, 0) + 1, name
    assert after["pending"] == 0


def test_a_failure_of_ours_is_logged_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """One warning a minute for each kind, through logging; the host goes on."""
    before = counters().get("internal_errors", 0)
    with raise_internal_errors(enabled=False), caplog.at_level(logging.WARNING):
        for _ in range(5):
            with guard("a thing that only this test does"):
                raise RuntimeError("inside")
    assert counters()["internal_errors"] == before + 5
    told = [record for record in caplog.records if "only this test" in record.getMessage()]
    assert len(told) == 1
    assert told[0].name == "reflexio_middleware"


def test_base_exceptions_pass_the_guard() -> None:
    """Ctrl-C and cancellation are nobody's to swallow."""
    with pytest.raises(KeyboardInterrupt), guard("anything"):
        raise KeyboardInterrupt
