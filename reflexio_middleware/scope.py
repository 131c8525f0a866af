"""Who and where a turn belongs to: one immutable :class:`Scope` at a time, held in one context variable.

:func:`session` opens a scope; scopes nest, and an inner one inherits what it does not name. Entering and leaving
never raise, in any context and any order: a scope that is left is taken out of the stack wherever it stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType
from typing import Any, ParamSpec, TypeVar

from reflexio_middleware.guard import guard, warn
from reflexio_middleware.wrapping import watched, wrap
from reflexio_store.ids import uuid7

P = ParamSpec("P")
R = TypeVar("R")

_EMPTY: Mapping[str, Any] = MappingProxyType({})
_SOURCE = re.compile(r"[a-z0-9][a-z0-9._:-]{0,127}")
_MAX_ID = 1000
_NOTHING_NAMED = (None,) * 6


@dataclass(frozen=True, slots=True)
class Scope:
    """What a turn is filed under.

    ``user_id`` ``""`` means that nobody is known: the turn is kept, nothing personal is learned or recalled.
    ``agent_version`` and ``source`` may be ``""`` (the setting's default, and none). ``client`` is where the turns go
    (None: the process's default client).
    """

    session_id: str
    user_id: str = ""
    agent_version: str = ""
    source: str = ""
    metadata: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    client: Any = None


class _Entry:
    """One entered scope. ``left_elsewhere``: left from another context than the one that entered it."""

    __slots__ = ("left_elsewhere", "scope")

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.left_elsewhere = False


_stack: ContextVar[tuple[_Entry, ...]] = ContextVar("reflexio_scope", default=())


def current_session() -> Scope | None:
    """The innermost scope of this context, or None outside of any :func:`session`."""
    for entry in reversed(_stack.get()):
        if not entry.left_elsewhere:
            return entry.scope
    return None


def derive(
    outer: Scope | None,
    session_id: str | None = None,
    user_id: str | None = None,
    agent_version: str | None = None,
    source: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    client: Any = None,
) -> Scope:
    """A scope that names what is given and inherits the rest of ``outer``; without a session id one is made."""
    named = (session_id, user_id, agent_version, source, metadata, client)
    if outer is not None and named == _NOTHING_NAMED:
        return outer
    merged = dict(outer.metadata) if outer else {}
    if isinstance(metadata, Mapping):
        merged.update({str(name): value for name, value in metadata.items()})
    elif metadata is not None:
        warn("metadata", "reflexio: metadata must be a mapping, not %s; it is left out", type(metadata).__name__)
    return Scope(
        session_id=cleaned(session_id) or (outer.session_id if outer else "") or uuid7(),
        user_id=cleaned(user_id) or (outer.user_id if outer else ""),
        agent_version=cleaned(agent_version) or (outer.agent_version if outer else ""),
        source=_source(source) or (outer.source if outer else ""),
        metadata=MappingProxyType(merged) if merged else _EMPTY,
        client=client if client is not None else (outer.client if outer else None),
    )


def cleaned(value: object) -> str:
    """An id as it is kept: as text, without the space around it, ``""`` for None. Of one that is too long, the
    beginning and a digest: two never become one."""
    text = "" if value is None else (value if isinstance(value, str) else str(value)).strip()
    if len(text) <= _MAX_ID:
        return text
    import hashlib  # here, so that importing the package stays quick

    return f"{text[: _MAX_ID - 65]}-{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()}"


def _source(value: object) -> str:
    text = cleaned(value)
    if not text or _SOURCE.fullmatch(text):
        return text
    mended = re.sub(r"[^a-z0-9._:-]", "-", text.lower()).lstrip("._:-")[:128]
    warn("source", "reflexio: source %r is kept as %r (lower-case letters, digits and ._:- only)", text, mended)
    return mended


class session:  # noqa: N801 - reads as a statement: `with session("chat_1", user_id="ann"):`
    """A scope: every turn inside is filed under this session and user.

    Use it as ``with``, ``async with`` or decorator (each call of the decorated function is a session of its own
    unless ``session_id`` is given).

    Args:
        session_id: The conversation. None: the outer scope's, or a new one.
        user_id: Whose turns these are. Without one, turns are kept but nothing personal is learned or recalled.
        agent_version: Which version of the agent answers, e.g. ``"v2.0"``.
        source: Where the turns come from, e.g. ``"web_app"``; other than ``[a-z0-9._:-]`` is replaced by ``-``.
        metadata: Free JSON-like data kept with each request; merged over the outer scope's.
        client: The :class:`ReflexioClient` that keeps the turns. None: the outer scope's, or the default one.
        finish: On leaving, the conversation is over: it is learned from at once, without waiting for that here.

    Returns:
        On entering, the :class:`Scope`.
    """

    def __init__(
        self,
        session_id: str | None = None,
        *,
        user_id: str | None = None,
        agent_version: str | None = None,
        source: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        client: Any = None,
        finish: bool = False,
    ) -> None:
        self._named = (session_id, user_id, agent_version, source, metadata, client)
        self._finish = finish
        self._entered: dict[_Entry, Token[tuple[_Entry, ...]]] = {}

    def __enter__(self) -> Scope:
        scope = None
        with guard("entering a session"):
            scope = derive(current_session(), *self._named)
        entry = _Entry(scope if scope is not None else derive(None))
        self._entered[entry] = _stack.set((*_stack.get(), entry))
        return entry.scope

    def __exit__(self, *_: object) -> None:
        here = _stack.get()
        mine = next((entry for entry in reversed(here) if entry in self._entered), None)
        try:
            entry, token = (mine, self._entered.pop(mine)) if mine is not None else self._entered.popitem()
        except KeyError:  # it was left already
            return
        rest = tuple(other for other in here if other is not entry)
        try:
            _stack.reset(token)
        except ValueError:  # entered in another context: that one keeps its stack, so the entry itself is closed
            entry.left_elsewhere = True
        _stack.set(rest)
        if self._finish:
            _finish(entry.scope)

    async def __aenter__(self) -> Scope:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function of any kind: each call runs inside a session of these names."""
        return wrap(fn, lambda _args, _kwargs: _InScope(derive(current_session(), *self._named), finish=self._finish))


def bind(fn: Callable[P, R]) -> Callable[P, R]:
    """``fn`` as it would run here: with the scope and the turn of the moment of binding, in whatever thread it runs.

    For threads and pools, which do not inherit context variables: ``pool.submit(bind(work), item)``. Tasks and
    ``asyncio.to_thread`` inherit them by themselves.
    """
    held = [(variable, variable.get(None)) for variable in _carried]
    return wrap(fn, lambda _args, _kwargs: _Carried(held))


def on_finish(listener: Callable[[Scope], None]) -> None:
    """Say who is told of sessions that are over; the last one said counts."""
    global _listener
    _listener = listener


_listener: Callable[[Scope], None] | None = None


def _finish(scope: Scope) -> None:
    with guard("finishing a session"):
        if _listener is not None:
            _listener(scope)


_carried: list[ContextVar[Any]] = [_stack]


def carry(variable: ContextVar[Any]) -> None:
    """Let :func:`bind` carry one more context variable (its default must be falsy)."""
    _carried.append(variable)


class _Around:
    """A :class:`~reflexio_middleware.wrapping.Call` that only sets context variables while the body runs: to what they
    were at the end of its last step, where it is a generator."""

    __slots__ = ("_tokens", "_values")

    def __init__(self, values: list[tuple[ContextVar[Any], Any]]) -> None:
        self._values = values
        self._tokens: list[tuple[ContextVar[Any], Token[Any]]] = []

    def enter(self) -> None:
        self._tokens = [(variable, variable.set(value)) for variable, value in self._values]

    def exit(self) -> None:
        self._values = [(variable, variable.get()) for variable, _ in self._values]
        for variable, token in reversed(self._tokens):
            try:
                variable.reset(token)
            except ValueError:  # the body moved to another context; its own is gone with it
                continue
        self._tokens = []

    def yielded(self, item: Any) -> None:
        """Nothing to note."""

    def returned(self, result: Any) -> None:  # noqa: ARG002
        self._over()

    def gave(self, result: Any) -> Any:
        later = watched(result, self)
        if later is None:
            self._over()
        return result if later is None else later

    def failed(self, error: BaseException) -> None:  # noqa: ARG002
        self._over()

    def _over(self) -> None:
        """The call has ended."""


class _Carried(_Around):
    """The values that :func:`bind` took along."""

    def __init__(self, held: list[tuple[ContextVar[Any], Any]]) -> None:
        super().__init__([(variable, value if value is not None else ()) for variable, value in held])


class _InScope(_Around):
    """A scope of its own for one call."""

    def __init__(self, scope: Scope, *, finish: bool) -> None:
        super().__init__([(_stack, (*_stack.get(), _Entry(scope)))])
        self._scope, self._finish = scope, finish

    def _over(self) -> None:
        if self._finish:
            _finish(self._scope)
