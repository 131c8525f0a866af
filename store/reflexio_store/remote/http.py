"""The one place that speaks HTTP: address, key, time limits, retries, and what each kind of answer means.

Facts of the server that are kept to here (Reflexio 0.2.32): a ``User-Agent`` that is empty or holds ``bot``,
``crawler``, ``spider``, ``scraper``, ``curl`` or ``wget`` is answered with 403; errors may be plain text; a refusal may
come as status 200 with ``"success": false``; a 422 repeats the whole input, so its ``input`` is never shown; the rate
limiter answers 429 without ``Retry-After``.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx
import orjson

from reflexio_store.errors import InvalidInputError, StoreAccessError, StoreError, StoreUnavailableError
from reflexio_store.json_text import dumps, storable_text

USER_AGENT: Final = "reflexio-middleware"
_CONNECT_SECONDS: Final = 5.0
_BACKOFF_SECONDS: Final = (0.1, 0.5, 2.0)
_LIMITED_SECONDS: Final = 5.0  # the pause after a 429 that names none: its window is a minute (wire fact)
_PASSING: Final = (407, 408, 425, 429)  # said of the way or of the moment, not of what was sent (RFC 9110, 8470, 6585)
_MOST_BYTES: Final = 256 * 1024 * 1024
_SHOWN: Final = 300  # characters of a server's own message


class RefusedError(StoreError):
    """The server answered ``"success": false``: it did not do what was asked."""


class MissingError(StoreUnavailableError):
    """404 or 405: what was named is not there, or the address is no Reflexio server."""


class Http:
    """Requests to one server. Thread-safe.

    Args:
        url: The address, ``http://`` or ``https://``, with a path if the server lies under one.
        api_key: Sent as bearer token, where there is one.
        timeout: Seconds that one call may take, retries included.
        connections: Most connections at once.

    Raises:
        InvalidInputError: The key has signs that no header can hold.
        StoreError: The address, or what the environment says of proxies and certificates, is unusable.
    """

    def __init__(self, url: str, api_key: str | None, *, timeout: float, connections: int) -> None:
        self.url = url
        self._timeout = timeout
        self._closing = threading.Event()
        headers = {"User-Agent": USER_AGENT, "Accept": "application/json", "Content-Type": "application/json"}
        if key := (api_key or "").strip():
            if not (key.isascii() and key.isprintable()):  # the error of httpx would show it
                raise InvalidInputError("The server cannot be called", [("api_key", "has signs that no key has")])
            headers["Authorization"] = f"Bearer {key}"
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._free = threading.BoundedSemaphore(connections)
        try:
            self._client = httpx.Client(base_url=url, headers=headers, limits=limits, follow_redirects=False)
        except (httpx.InvalidURL, ImportError, OSError, ValueError) as error:
            raise StoreError(
                f"{url} cannot be called ({_said(error)}). Mend the address, or in the environment the proxy "
                "(HTTP_PROXY, HTTPS_PROXY, ALL_PROXY) or the certificates (SSL_CERT_FILE, SSL_CERT_DIR)."
            ) from error

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        timeout: float | None = None,
        attempts: int = 3,
        repeatable: bool = True,
        refusable: bool = False,
    ) -> dict[str, Any]:
        """The decoded answer. What may pass is tried again, with growing pauses, within the time limit.

        Args:
            method: ``GET``, ``POST``, ``PUT`` or ``DELETE``.
            path: Path of the route.
            body: What is sent as JSON.
            params: Query parameters.
            timeout: Seconds for all of it; None: those of this object.
            attempts: How often it is tried.
            repeatable: Whether it may be sent again when it may have been done already.
            refusable: Whether ``"success": false`` is an answer that the caller reads, and no error.

        Raises:
            InvalidInputError: The server refuses it for good (400, 413, 422, ...); the problems name the fields.
            StoreAccessError: The key is missing or wrong (401, 403).
            RefusedError: ``"success": false``.
            StoreUnavailableError: No answer, or one that may pass (407, 408, 425, 429, 5xx). ``in_doubt`` says that it
                may have been done; ``retry_after`` that the server named a pause.
        """
        deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
        content = None if body is None else dumps(body).encode()
        named = None if params is None else {name: storable_text(value) for name, value in params.items()}
        for attempt in range(attempts):
            try:
                answer = self._once(method, path, content, named, deadline)
                if answer.get("success") is False and not refusable:
                    raise RefusedError(
                        f"{method} {path} on {self.url}: {_message(answer) or 'refused without a reason'}"
                    )
                return answer
            except (StoreAccessError, MissingError):
                raise
            except StoreUnavailableError as error:
                pause = error.retry_after
                if pause is None:
                    pause = _BACKOFF_SECONDS[min(attempt, 2)] * random.uniform(0.5, 1.5)  # noqa: S311
                last = attempt + 1 == attempts or (error.in_doubt and not repeatable)
                if last or time.monotonic() + pause >= deadline or self.rest(pause):
                    raise
        raise AssertionError("no attempt was made")

    def _once(
        self, method: str, path: str, content: bytes | None, params: Mapping[str, str] | None, deadline: float
    ) -> dict[str, Any]:
        where = f"{method} {path} on {self.url}"
        left = max(deadline - time.monotonic(), 0.001)
        limits = httpx.Timeout(left, connect=min(_CONNECT_SECONDS, left))
        if self._closing.is_set():
            raise StoreUnavailableError(f"The store {self.url} is closed. Open it again to use it.")
        if not self._free.acquire(timeout=left):
            raise StoreUnavailableError(f"{where}: all connections were busy for {left:.1f} seconds")
        try:
            with self._client.stream(method, path, content=content, params=params, timeout=limits) as response:
                raw = _read(response, deadline, where)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise StoreUnavailableError(f"{where}: no connection ({_said(error)}). Is the server up?") from error
        except httpx.TimeoutException as error:
            raise StoreUnavailableError(f"{where}: no answer within {left:.1f} seconds", in_doubt=True) from error
        except (httpx.HTTPError, RuntimeError) as error:  # RuntimeError: the client was closed meanwhile
            raise StoreUnavailableError(f"{where}: the connection broke ({_said(error)})", in_doubt=True) from error
        finally:
            self._free.release()
        return _answer(response, raw, where)

    def rest(self, seconds: float) -> bool:
        """Wait, unless this is closed; whether it is."""
        return self._closing.wait(seconds)

    def close(self) -> None:
        """End pauses, and release the connections."""
        self._closing.set()
        self._client.close()

    @property
    def is_closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closing.is_set()


def _read(response: httpx.Response, deadline: float, where: str) -> bytes:
    """The body, as long as it comes in time: httpx limits the wait for each part, not for all."""
    raw = bytearray()
    for part in response.iter_bytes():
        raw += part
        if time.monotonic() > deadline:
            raise StoreUnavailableError(f"{where}: the answer did not come in time", in_doubt=True)
        if len(raw) > _MOST_BYTES:
            raise StoreError(f"{where}: the answer is larger than {_MOST_BYTES:,} bytes; ask for less at once")
    return bytes(raw)


def _answer(response: httpx.Response, raw: bytes, where: str) -> dict[str, Any]:
    status = response.status_code
    decoded = _decoded(raw)
    if 200 <= status < 300:
        if decoded is None:
            raise StoreUnavailableError(
                f"{where}: the answer is no JSON object. Is this the address of a Reflexio server?", in_doubt=True
            )
        return decoded
    said = _message(decoded) if decoded is not None else raw[:_SHOWN].decode("utf-8", "replace").strip()
    told = f"{where}: status {status}" + (f" ({said})" if said else "")
    if status in (401, 403):
        raise StoreAccessError(f"{told}. Give the server's key: api_key=... or REFLEXIO_API_KEY.")
    if status in (404, 405):
        raise MissingError(f"{told}. Is this the address of a Reflexio server?")
    if status in _PASSING or status >= 500:
        pause = _retry_after(response.headers.get("retry-after"))
        if pause is None and status == 429:
            pause = _LIMITED_SECONDS
        raise StoreUnavailableError(told, retry_after=pause, in_doubt=status not in (429, 503))
    if status < 400:
        raise StoreUnavailableError(f"{told}: moved to {response.headers.get('location', 'elsewhere')}; use that URL")
    raise InvalidInputError(f"{where}: status {status}, refused", _problems(decoded) or [("body", said or "refused")])


def _decoded(raw: bytes) -> dict[str, Any] | None:
    try:
        decoded = orjson.loads(raw)
    except ValueError:
        return None
    return decoded if isinstance(decoded, dict) else None


def _problems(decoded: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Place and message of each entry of a 422, without the input, which the server repeats in whole (wire fact)."""
    detail = (decoded or {}).get("detail")
    entries = detail if isinstance(detail, list) else []
    return [
        (".".join(str(part) for part in item.get("loc", ())), str(item.get("msg", "refused"))[:_SHOWN])
        for item in entries[:20]
        if isinstance(item, dict)
    ]


def _message(decoded: dict[str, Any]) -> str:
    """The server's own words, on one line: of a traceback (a wire fact) only its end."""
    detail = decoded.get("detail")
    if isinstance(detail, dict):
        detail = detail.get("message") or detail.get("error") or detail.get("reason")
    text = next((str(said) for said in (decoded.get("message"), decoded.get("msg"), decoded.get("error"), detail)
                 if isinstance(said, str) and said), "")  # fmt: skip
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[-1] if lines and lines[0].startswith("Traceback") else " ".join(lines))[:_SHOWN]


def _retry_after(header: str | None) -> float | None:
    """Seconds that a ``Retry-After`` names (RFC 9110, section 10.2.3: seconds, or a date)."""
    if not header:
        return None
    if header.strip().replace(".", "", 1).isdecimal():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
