"""Opening a home on a server: what cannot work is told at once, in words, and without the key."""

from __future__ import annotations

import importlib.util
from contextlib import closing
from pathlib import Path

import pytest

from reflexio_store.errors import InvalidInputError, StoreError
from reflexio_store.homes import open_store
from reflexio_store.models import GetRequestsRequest
from tests.reflexio_server import ReflexioServer

WITHOUT_SOCKS = pytest.mark.skipif(importlib.util.find_spec("socksio") is not None, reason="httpx speaks SOCKS")


def test_the_white_space_around_a_key_is_not_part_of_it() -> None:
    """A key that was read from a file ends with a line break."""
    with ReflexioServer(api_key="k") as server, closing(open_store(server.url, api_key=" k\n")) as home:
        assert home.get_requests(GetRequestsRequest()).sessions == []


@pytest.mark.parametrize("key", ["sec ret\nsecret", "schlüssel-secret", "secret\0"])
def test_a_key_that_no_header_can_hold_is_refused_without_being_shown(key: str) -> None:
    """What an HTTP library says of it would show it in every log."""
    with pytest.raises(InvalidInputError, match="api_key") as error:
        open_store("http://127.0.0.1:9", api_key=key)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("host", ["a..b", "a" * 300, "256.1.1.1", "host/\x7f"])
def test_an_address_that_nothing_can_have_is_refused(host: str) -> None:
    """As an error of ours, not of a library."""
    with pytest.raises((StoreError, InvalidInputError), match="address"):
        open_store(f"http://{host}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("ALL_PROXY", "socks5://127.0.0.1:9", marks=WITHOUT_SOCKS),
        ("ALL_PROXY", "ftp://127.0.0.1:9"),
        ("ALL_PROXY", "http://[::1"),
        ("SSL_CERT_FILE", "nowhere.pem"),
    ],
)
def test_an_environment_in_which_nothing_can_be_called_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str
) -> None:
    """Proxies and certificates are named there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match=name):
        open_store("https://127.0.0.1:9")


@pytest.mark.parametrize(
    ("url", "warned"),
    [("http://127.0.0.1:9", 0), ("http://LOCALHOST:9", 0), ("http://[::1]", 0), ("http://a.invalid", 1)],
)
def test_a_key_that_leaves_the_machine_unencrypted_is_told(url: str, warned: int) -> None:
    """By ``doctor``."""
    with closing(open_store(f"{url}?timeout=1", api_key="k")) as home:
        assert sum("unencrypted" in finding.message for finding in home.check()) == warned
