"""Scopes: who and where a turn belongs to."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

import reflexio_middleware as reflexio
from reflexio_middleware import Scope, bind, current_session, session


def user() -> str | None:
    scope = current_session()
    return scope.user_id if scope else None


class Listening:
    """A client that notes which sessions are over."""

    def __init__(self) -> None:
        self.over: list[str] = []

    def finish_soon(self, scope: Scope) -> None:
        self.over.append(scope.session_id)


def test_there_is_no_scope_outside_of_a_session() -> None:
    """Outside, nothing is known."""
    assert current_session() is None


def test_an_inner_scope_inherits_what_it_does_not_name() -> None:
    """Names are inherited one by one, metadata is merged."""
    with session("s1", user_id="ann", agent_version="v1", source="web", metadata={"a": 1, "b": 1}):
        with session(source="mobile", metadata={"b": 2}) as inner:
            assert (inner.session_id, inner.user_id, inner.agent_version) == ("s1", "ann", "v1")
            assert inner.source == "mobile"
            assert dict(inner.metadata) == {"a": 1, "b": 2}
        outer = current_session()
        assert outer is not None
        assert outer.source == "web"
        assert dict(outer.metadata) == {"a": 1, "b": 1}


def test_a_session_without_an_id_is_given_one() -> None:
    """Each unnamed session is a new conversation."""
    with session(user_id="ann") as first:
        pass
    with session(user_id="ann") as second:
        pass
    assert first.session_id
    assert first.session_id != second.session_id


@pytest.mark.parametrize("given_source", ["Web App!", "ÄPP", "UPPER"])
def test_an_unusable_source_is_mended_not_raised(given_source: str) -> None:
    """A scope is in the agent's path: it never raises."""
    with session("s", source=given_source) as scope:
        assert scope.source == "" or scope.source[0].isalnum()


@given(st.one_of(st.none(), st.text(), st.integers(), st.binary()), st.one_of(st.none(), st.text(), st.floats()))
def test_any_names_are_taken(session_id: object, user_id: object) -> None:
    """Whatever is handed over, a scope comes out, and it is left again."""
    with session(session_id, user_id=user_id) as scope:  # type: ignore[arg-type]
        assert scope.session_id
        assert len(scope.user_id) <= 1000
    assert current_session() is None


def test_two_users_whose_ids_are_too_long_stay_two() -> None:
    """What is behind the thousandth character tells them apart as well."""
    with session(user_id="x" * 1000 + "ann") as ann, session(user_id="x" * 1000 + "bob") as bob:
        assert ann.user_id != bob.user_id
        assert len(ann.user_id) == len(bob.user_id) == 1000


async def test_async_with_and_tasks_see_the_scope() -> None:
    """Tasks and to_thread inherit the scope; a task outlives it with its own copy."""
    started, go_on = asyncio.Event(), asyncio.Event()

    async def background() -> str | None:
        started.set()
        await go_on.wait()
        return user()

    async with session("s", user_id="ann"):
        assert await asyncio.to_thread(user) == "ann"
        assert await asyncio.gather(asyncio.create_task(asyncio.sleep(0, user()))) == ["ann"]
        late = asyncio.create_task(background())
        await started.wait()
    assert user() is None
    go_on.set()
    assert await late == "ann"


def test_threads_need_bind() -> None:
    """A bare thread has no scope; bind() takes the scope along, as it was then."""
    with ThreadPoolExecutor(1) as pool:
        with session("s", user_id="ann"):
            bound = bind(user)
            assert pool.submit(user).result() is None
        assert pool.submit(bound).result() == "ann"
        assert pool.submit(user).result() is None
    assert user() is None


async def test_bind_keeps_the_kind_of_callable() -> None:
    """A bound coroutine function is one, a bound generator too."""

    async def asked() -> str | None:
        await asyncio.sleep(0)
        return user()

    def steps() -> Iterator[str | None]:
        yield user()
        yield user()

    with session("s", user_id="ann"):
        bound, bound_steps = bind(asked), bind(steps)
    assert await bound() == "ann"
    assert list(bound_steps()) == ["ann", "ann"]


def test_as_decorator_each_call_is_a_session() -> None:
    """A decorated function runs in a session of its own; a generator only while its body runs."""

    @session(user_id="ann")
    def once() -> str:
        scope = current_session()
        assert scope is not None
        return scope.session_id

    @session("fixed", user_id="ann")
    def steps() -> Iterator[str | None]:
        yield user()
        yield user()

    assert once() != once()
    seen = []
    for item in steps():
        seen.append(item)
        assert user() is None
    assert seen == ["ann", "ann"]


def test_a_scope_inside_of_a_decorated_generator_lasts_over_its_steps() -> None:
    """What its body opened is open in its next step again, and never in between."""

    @session("outer", user_id="ann")
    def steps() -> Iterator[str | None]:
        with session("inner", user_id="bob"):
            yield user()
            yield user()
        yield user()

    seen = []
    for item in steps():
        seen.append(item)
        assert user() is None
    assert seen == ["bob", "bob", "ann"]


def test_a_decorated_generator_is_over_once() -> None:
    """At its end or when it is closed, not at each step."""
    client = Listening()

    @session("g", client=client, finish=True)
    def steps() -> Iterator[int]:
        yield len(client.over)
        yield len(client.over)

    assert list(steps()) == [0, 0]
    assert client.over == ["g"]
    left = steps()
    next(left)
    left.close()
    assert client.over == ["g", "g"]


async def test_what_a_decorated_function_returns_to_be_run_later_runs_in_its_scope() -> None:
    """A plain decorator makes a plain function of a coroutine function."""
    client = Listening()

    async def asked() -> str | None:
        await asyncio.sleep(0)
        return f"{user()}, {len(client.over)} over"

    async def streamed() -> AsyncIterator[str | None]:
        yield user()

    def steps() -> Iterator[str | None]:
        yield user()

    in_scope = session("s", user_id="ann", client=client, finish=True)
    assert await in_scope(lambda: asked())() == "ann, 0 over"
    assert client.over == ["s"]
    assert [item async for item in in_scope(lambda: streamed())()] == ["ann"]
    with session("t", user_id="bob"):
        bound = bind(lambda: steps())
    assert list(bound()) == ["bob"]
    assert user() is None


def test_scopes_may_be_left_in_any_order() -> None:
    """Generators that hold scopes may end in any order; no scope stays behind."""

    def holding(name: str) -> Iterator[None]:
        with session(name, user_id=name):
            yield

    first, second = holding("first"), holding("second")
    next(first)
    next(second)
    assert user() == "second"
    first.close()
    assert user() == "second"
    second.close()
    assert current_session() is None


def test_leaving_in_another_context_is_silent_and_leaks_nothing() -> None:
    """A scope entered here and left in another thread is closed here as well."""
    scope = session("s", user_id="ann")
    scope.__enter__()
    thread = threading.Thread(target=scope.__exit__, args=(None, None, None))
    thread.start()
    thread.join()
    assert current_session() is None


def test_many_threads_may_enter_one_session_at_once() -> None:
    """Each leaves what it entered itself."""
    shared = session("s", user_id="ann")
    before = sys.getswitchinterval()

    def enter_and_leave() -> set[str | None]:
        seen: set[str | None] = set()
        for _ in range(2000):
            with shared:
                seen.add(user())
            seen.add(user())
        return seen

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            runs = [pool.submit(enter_and_leave) for _ in range(8)]
    finally:
        sys.setswitchinterval(before)
    assert [run.result() for run in runs] == [{"ann", None}] * 8


def test_leaving_twice_is_silent() -> None:
    """Leaving more often than entering changes nothing."""
    with session("outer"):
        inner = session("inner")
        inner.__enter__()
        inner.__exit__(None, None, None)
        inner.__exit__(None, None, None)
        scope = current_session()
        assert scope is not None
        assert scope.session_id == "outer"


@given(st.lists(st.tuples(st.sampled_from(["enter", "leave"]), st.integers(0, 4)), max_size=30))
def test_any_order_of_entering_and_leaving_keeps_the_stack_of_those_still_open(steps: list[tuple[str, int]]) -> None:
    """Invariant: the current scope is the one entered last among those not left."""

    def run() -> None:
        sessions = [session(f"s{number}") for number in range(5)]
        open_order: list[int] = []
        for action, number in steps:
            if action == "enter" and number not in open_order:
                sessions[number].__enter__()
                open_order.append(number)
            elif action == "leave" and number in open_order:
                sessions[number].__exit__(None, None, None)
                open_order.remove(number)
            scope = current_session()
            assert (scope.session_id if scope else None) == (f"s{open_order[-1]}" if open_order else None)

    contextvars.copy_context().run(run)


def test_public_names_are_the_promised_ones() -> None:
    """Every public name resolves, and the list is sorted."""
    assert sorted(reflexio.__all__) == reflexio.__all__
    for name in reflexio.__all__:
        assert getattr(reflexio, name) is not None
    assert set(reflexio.__all__) <= set(dir(reflexio))
