"""Redaction: what is secret is masked before the first write, in every way of attaching."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflexio_middleware import ReflexioClient, capture, current_turn, session, turn
from reflexio_middleware.capture.redaction import mask_personal, mask_secrets
from reflexio_middleware.guard import counters

SECRETS = [
    "sk-proj-abcdefghijklmnopqrstuvwxyz0123",
    "sk_live_abcdefghijklmnop0123",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "glpat-abcdefghij0123456789",
    "AKIAIOSFODNN7EXAMPLE",
    "AIzaSyA1234567890abcdefghijklmnopqrstuvw",
    "xoxb-1234567890-abcdefghij",
    "4111 1111 1111 1111",
    "5500-0055-5555-5559",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
    "admin:hunter22@db.example.org",
]
PERSONAL = ["ann@example.org", "+49 30 1234567", "(555) 123-4567", "DE89 3704 0044 0532 0130 00", "078-05-1120"]
HARMLESS = [
    "order 1234567890123456, call 2024-05-15 15:00, id gift_card_1234567",
    "reservation HATHAT, flight HAT041 on 2024-05-24 at 07:00:00, total 1,234.56",
    "see https://example.org/a/b?c=d#e and 192.168.0.1",
    "the token count is 4096; bearer of good news; my password is secret (no, really)",
    "sk-learn and npm_config are fine, so is a UUID 01a20896-584f-7f0f-87c8-d9381734ac1b",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_masked_wherever_it_stands(client: ReflexioClient, tmp_path: Path, secret: str) -> None:
    """In messages, streams, tools, errors and metadata, captured or published: it is found in no file."""
    text = f"use https://{secret} now" if "@" in secret else f"my key is {secret}, ok?"

    @capture
    def failing(question: str) -> str:
        made = current_turn()
        assert made is not None
        made.tool("login", {"note": text, "password": "hunter2", text: 1}, [text])
        raise ValueError(text)

    @capture
    def streaming(question: str) -> Iterator[str]:
        yield from text

    with session("s", user_id="u", metadata={"note": text, "api_key": "hunter3"}):
        with pytest.raises(ValueError, match=r"now|ok"):
            failing(text)
        list(streaming(text))
        with turn() as made:
            made.user(text)
            made.add("critic", text)
    client.publish_interaction(
        user_id="u", session_id="s",
        interactions=[{"content": text, "shadow_content": text, "expert_content": text,
                       "tools_used": [{"tool_name": "t", "tool_data": {"x": [text]}}]}],
    )  # fmt: skip
    kept = repr(client.get_requests(session_id="s"))
    assert "[redacted: " in kept
    assert "ok?" in kept or "now" in kept
    client.close()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            for canary in (secret, "hunter2", "hunter3"):
                assert canary.encode() not in data, path


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays(text: str) -> None:
    """Order numbers, dates, addresses and words that only sound secret are kept."""
    assert mask_secrets(text) == text


@pytest.mark.parametrize("secret", [secret for secret in SECRETS if " " not in secret and "@" not in secret])
def test_a_secret_in_escaped_text_is_masked(secret: str) -> None:
    """JSON inside of text: an escaped line break before it hides nothing."""
    assert secret not in mask_secrets(json.dumps({"note": f"key:\n{secret}\tend"}))


@pytest.mark.parametrize("personal", PERSONAL)
def test_personal_data_go_by_setting(tmp_path: Path, personal: str) -> None:
    """Off by default, masked when asked for."""
    for wanted in (False, True):
        with ReflexioClient(f"sqlite:///{tmp_path / f'{wanted}.db'}", redact_personal=wanted) as client:
            client.publish_interaction(user_id="u", session_id="s", interactions=[{"content": f"I am {personal}."}])
            (item,) = client.get_interactions("u").interactions
            assert (personal in item.content) != wanted


def test_dates_and_numbers_are_no_personal_data() -> None:
    """Only what has the form, and where there is one the checksum, is masked."""
    for text in ("2024-05-15 15:00", "GB00 1234 5678 9012 3456 78", "order 1234567", "version 1.2.3.4", "10,000.00"):
        assert mask_personal(text) == text


def test_rules_of_your_own_come_last_and_fail_closed(tmp_path: Path) -> None:
    """What a rule does is kept; where it raises, a marker stands in place of the text."""

    def rule(text: str) -> str:
        if "boom" in text:
            raise RuntimeError(f"cannot mask {text}")
        return text.replace("Rumpelstiltskin", "[name]")

    before = counters().get("redaction_failures", 0)
    with ReflexioClient(f"sqlite:///{tmp_path / 'm.db'}", redactors=[rule]) as client:
        for content in ("I am Rumpelstiltskin", "boom Rumpelstiltskin"):
            client.publish_interaction(user_id="u", session_id="s", interactions=[{"content": content}])
        contents = [item.content for item in client.get_interactions("u").interactions]
    assert contents == ["[redacted: a rule failed with RuntimeError]", "I am [name]"]
    assert counters()["redaction_failures"] == before + 1


def test_redaction_can_be_switched_off(tmp_path: Path) -> None:
    """For those who keep the record elsewhere safe."""
    with ReflexioClient(f"sqlite:///{tmp_path / 'm.db'}", redact_secrets=False) as client:
        client.publish_interaction(user_id="u", session_id="s", interactions=[{"content": SECRETS[0]}])
        assert client.get_interactions("u").interactions[0].content == SECRETS[0]


@given(st.text() | st.sampled_from(SECRETS + PERSONAL).map(lambda item: f"a {item} b"))
def test_masking_twice_is_masking_once(text: str) -> None:
    """Idempotent."""
    masked = mask_personal(mask_secrets(text))
    assert mask_personal(mask_secrets(masked)) == masked


def test_a_hostile_text_does_not_hold_up_the_agent() -> None:
    """Patterns are bounded: a megabyte of almost-secrets is masked in well under a second."""
    import time

    for text in (
        "sk-" * 300_000,
        "4 1-" * 250_000,
        "a@b." * 250_000,
        "://x:" * 200_000,
        "eyJ" * 300_000,
        "DE89 " * 200_000,
    ):
        began = time.perf_counter()
        mask_personal(mask_secrets(text))
        assert time.perf_counter() - began < 5.0
