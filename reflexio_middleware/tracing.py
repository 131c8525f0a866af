"""Optional OpenTelemetry spans around what may take time: recall and learning.

There is nothing to switch on: where the host has loaded ``opentelemetry.trace``, spans join its traces; where it has
not, nothing is imported and nothing happens. No words of users are put into a span, only counts and outcomes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Span:
    """What a span is told; does nothing where there is no OpenTelemetry."""

    __slots__ = ("_span",)

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def note(self, **attributes: str | int | float | bool) -> None:
        """Set attributes, each named ``reflexio.<name>``."""
        if self._span is not None:
            for name, value in attributes.items():
                self._span.set_attribute(f"reflexio.{name}", value)


@contextmanager
def span(name: str, operation: str) -> Iterator[Span]:
    """A span around a block; ``operation`` is its ``gen_ai.operation.name`` (OpenTelemetry GenAI conventions)."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        yield Span()
        return
    attributes = {"gen_ai.operation.name": operation}
    with trace.get_tracer("reflexio_middleware").start_as_current_span(name, attributes=attributes) as made:
        yield Span(made)
