"""The circuit breaker, by a clock of the test's own; and the address of a server."""

from __future__ import annotations

import pytest

from reflexio_store.errors import InvalidInputError, StoreUnavailableError, StoreURLError
from reflexio_store.remote.circuit import LONGEST_PAUSE, Circuit
from reflexio_store.remote.url import parse_server_url


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def fail(circuit: Circuit, retry_after: float | None = None) -> None:
    with pytest.raises(StoreUnavailableError, match="away"), circuit.call():
        raise StoreUnavailableError("away", retry_after=retry_after)


def is_open(circuit: Circuit) -> bool:
    try:
        with circuit.call():
            return False
    except StoreUnavailableError:
        return True


def test_it_opens_after_failures_in_a_row_and_closes_after_a_success() -> None:
    """One call is let through after the pause; its success closes it."""
    clock = Clock()
    circuit = Circuit("Searching", failures=3, pause=5.0, clock=clock)
    fail(circuit)
    fail(circuit)
    assert not is_open(circuit), "a success begins the count anew"
    for _ in range(3):
        fail(circuit)
    assert is_open(circuit)
    clock.now += 4.9
    assert is_open(circuit)
    clock.now += 0.2
    assert not is_open(circuit)
    assert not is_open(circuit)


def test_a_failed_trial_doubles_the_pause_up_to_a_minute() -> None:
    """The reason of the last failure is told."""
    clock = Clock()
    circuit = Circuit("Searching", failures=1, pause=5.0, clock=clock)
    fail(circuit)
    for pause in (5, 10, 20, 40, LONGEST_PAUSE, LONGEST_PAUSE):
        with pytest.raises(StoreUnavailableError, match="away") as error, circuit.call():
            pass
        assert error.value.retry_after == pytest.approx(pause)
        clock.now += pause
        fail(circuit)


def test_only_one_call_tries() -> None:
    """The others fail at once until it is known what became of it."""
    clock = Clock()
    circuit = Circuit("Searching", failures=1, pause=5.0, clock=clock)
    fail(circuit)
    clock.now += 5.0
    with circuit.call():
        assert is_open(circuit)
    assert not is_open(circuit)


def test_a_named_pause_opens_it_at_once_and_is_bounded() -> None:
    """Whatever the server asks for, it is asked again after a minute."""
    clock = Clock()
    circuit = Circuit("Sending", failures=5, pause=1.0, clock=clock)
    fail(circuit, retry_after=7.0)
    clock.now += 6.9
    assert is_open(circuit)
    clock.now += 0.2
    fail(circuit, retry_after=86_400)
    clock.now += LONGEST_PAUSE
    assert not is_open(circuit)


def test_a_refusal_of_one_call_is_an_answer() -> None:
    """The server is there: what it refuses opens nothing. Nor does an interruption."""
    circuit = Circuit("Sending", failures=1, pause=1.0, clock=Clock())
    for error in (InvalidInputError("no"), KeyboardInterrupt()):
        with pytest.raises(type(error)), circuit.call():
            raise error
    assert not is_open(circuit)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://localhost:8061", "http://localhost:8061"),
        ("https://host/", "https://host"),
        ("https://host/base/?timeout=3&connections=2", "https://host/base"),
        ("http://[::1]:8061", "http://[::1]:8061"),
    ],
)
def test_an_address_is_read(url: str, address: str) -> None:
    """Scheme, host, port and path; options aside."""
    assert parse_server_url(url).address == address


@pytest.mark.parametrize(
    "url",
    [
        *("https://", "https:///path", "http://host:port", "https://h?color=red", "https://h?timeout=soon"),
        *("https://h?timeout=-1", "https://h?connections=1.5", "https://h?timeout=inf", "https://h?timeout=nan"),
    ],
)
def test_an_unusable_address_says_what_is_wrong(url: str) -> None:
    """With the forms there are."""
    with pytest.raises(StoreURLError, match="https://host"):
        parse_server_url(url)


def test_a_key_in_the_address_is_refused() -> None:
    """Addresses are shown and logged; the error does not show the key."""
    with pytest.raises(StoreURLError, match="REFLEXIO_API_KEY") as error:
        parse_server_url("https://:secret@host")
    assert "secret" not in str(error.value)
