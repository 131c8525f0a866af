"""A client seen from within one session: what takes a ``session_id`` is given this one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from reflexio_middleware.client.core import named
from reflexio_store.errors import InvalidInputError


class SessionView:
    """The methods of ``client`` (sync or async) with ``session_id`` filled in; the others are its own.

    Raises:
        InvalidInputError: The id is blank; or, at a call, another session's id was given. It is a ``ValueError``.
    """

    def __init__(self, client: Any, session_id: str) -> None:
        self.client = client
        self.session_id = named("session_id", session_id)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.client, name)
        if name.startswith("_") or not callable(found):
            return found
        signature = inspect.signature(found)
        if "session_id" not in signature.parameters:
            return found

        @functools.wraps(found)
        def within(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind_partial(*args, **kwargs)
            for other in (given.arguments.get("session_id"), _session_in(given.arguments.get("request"))):
                if other is not None and other != self.session_id:
                    problem = ("session_id", f"is {other!r}, but this is a view of the session {self.session_id!r}")
                    raise InvalidInputError("The call was refused", [problem])
            given.arguments["session_id"] = self.session_id
            return found(*given.args, **given.kwargs)

        return within

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self.client)})


def _session_in(request: Any) -> Any:
    """The session that a whole request names, given as a value or a mapping."""
    return request.get("session_id") if isinstance(request, Mapping) else getattr(request, "session_id", None)
