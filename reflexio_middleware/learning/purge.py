"""The step that deletes what was true for a time only, when that time is over."""

from __future__ import annotations

from typing import Any, Final

from reflexio_store.contract import Job, Store

PURGE: Final = "purge"
"""Kind of the one job that does it; the store asks for it."""


def purge(store: Store, job: Job) -> dict[str, Any]:  # noqa: ARG001 - there is one job of the kind
    """Delete expired profiles; how many is the result."""
    return {"expired": store.purge_expired()}
