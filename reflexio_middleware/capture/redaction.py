"""Secrets, and if wanted personal data, are masked before a turn is written anywhere.

Secrets go by two rules, both on by default: high-precision patterns of well-known credentials in any text, and the
values of keys whose name says that they are secret (in tool data and metadata). Personal data (mail addresses, phone
numbers, IBANs, US social security numbers) go by a setting. Rules of your own are functions from text to text.

It fails closed: where a rule raises, the text is replaced by a marker that names the kind of error, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from reflexio_middleware.guard import count
from reflexio_store.records import TurnRecord

Redactor = Callable[[str], str]
"""A rule: text in, masked text out. It must give the same again when it is given its own result."""

MASK: Final = "[redacted: {}]"

_PATTERNS: Final = (
    ("private key", r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----[\s\S]{0,8000}?(?:-----END [A-Z ]{0,20}KEY-----|\Z)"),
    ("api key", r"\bsk-(?:proj-|ant-|or-v1-|live-|test-)?[A-Za-z0-9_-]{20,}"),
    ("stripe key", r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    ("github token", r"\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_[A-Za-z0-9_]{40,}"),
    ("gitlab token", r"\bglpat-[A-Za-z0-9_-]{20,}"),
    ("aws key", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    ("google key", r"\bAIza[A-Za-z0-9_-]{35}"),
    ("slack token", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    ("hugging face token", r"\bhf_[A-Za-z0-9]{30,}"),
    ("pypi token", r"\bpypi-[A-Za-z0-9_-]{50,}"),
    ("npm token", r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("json web token", r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
    ("bearer token", r"(?i:\bbearer\s+)[A-Za-z0-9._~+/-]{20,}=*"),
    ("password in url", r"(?<=://)[^\s/:@]{1,100}:[^\s/@]{1,200}(?=@)"),
)
_START: Final = r"(?:\b|(?<=\\[nrt]))"  # a word begins, also behind an escaped line break in JSON text
_ANY: Final = re.compile(
    "|".join(f"({pattern.replace(chr(92) + 'b', _START)})" for _, pattern in _PATTERNS)  # chr(92): a backslash
)
_SIGNS: Final = (
    ("-", r"-(?:(?<=sk-)[\w-]{20}|(?<=glpat-)[\w-]{20}|(?<=pypi-)[\w-]{50}|----BEGIN )"),
    ("_", r"_(?:(?<=[rs]k_)(?:live|test)_|(?<=github_)pat_|(?:(?<=gh[pousr]_)|(?<=hf_)|(?<=npm_))\w{30})"),
    ("A", r"A(?:(?:KIA|SIA)[A-Z0-9]{16}|Iza[\w-]{35})"),
    ("J", r"J(?<=eyJ)[\w-]{8}"),
    ("@", r"://[^\s/:@]{1,100}:[^\s/@]{1,200}@"),
    ("xox", r"xox[abeoprs]-"),
    ("earer", r"earer\s"),
    ("EARER", r"EARER\s"),
)  # fmt: skip
"""What each pattern above needs: a sign, and more of it around that. Ten times as fast as looking for the patterns."""
_HINTS: Final = tuple((sign, re.compile(hint)) for sign, hint in _SIGNS)
_CARD: Final = re.compile(r"[0-9](?:(?<![\w-][0-9])|(?<=\\[nrt][0-9]))(?:[ -]?[0-9]){12,18}(?![\w-])")
_NO_DIGITS: Final = bytes(code for code in range(256) if not 48 <= code <= 57)
_SECRET_KEY: Final = re.compile(
    r"(?i)^(?:.*[_-])?(?:api[_-]?key|secret|client[_-]?secret|password|passwd|passphrase|authorization|cookie|"
    r"private[_-]?key|access[_-]?token|refresh[_-]?token|auth[_-]?token|id[_-]?token|bearer|cvv|cvc|pin[_-]?code)$"
)
_MAIL: Final = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}")
_IBAN: Final = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_SSN: Final = re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")
_PHONE: Final = re.compile(
    r"(?<![\w+.-])"
    r"(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d(?:[ .-]?\d){6,12}|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4})"
    r"(?![\w-])"
)


def mask_secrets(text: str) -> str:
    """``text`` with credentials and card numbers masked, e.g. ``[redacted: api key]``."""
    for sign, hint in _HINTS:
        if sign in text and hint.search(text):
            text = _ANY.sub(lambda found: MASK.format(_PATTERNS[(found.lastindex or 1) - 1][0]), text)
            break
    return _CARD.sub(_mask_card, text) if _may_hold_a_card(text) else text


def _may_hold_a_card(text: str) -> bool:
    """Whether there are digits enough; a short text is not worth counting."""
    return len(text) < 300 or not text.isascii() or len(text.encode().translate(None, _NO_DIGITS)) >= 13


def mask_personal(text: str) -> str:
    """``text`` with mail addresses, IBANs, US social security numbers and phone numbers masked."""
    if "@" in text:
        text = _MAIL.sub(MASK.format("mail address"), text)
    text = _IBAN.sub(_mask_iban, text)
    text = _SSN.sub(MASK.format("social security number"), text)
    return _PHONE.sub(MASK.format("phone number"), text)


def _mask_card(found: re.Match[str]) -> str:
    digits = [int(char) for char in found.group() if char.isdigit()]
    doubled = (digit if at % 2 == 0 else digit * 2 - 9 * (digit > 4) for at, digit in enumerate(reversed(digits)))
    is_card = digits[0] in (2, 3, 4, 5, 6) and sum(doubled) % 10 == 0  # Luhn, ISO/IEC 7812-1
    return MASK.format("card number") if is_card else found.group()


def _mask_iban(found: re.Match[str]) -> str:
    compact = found.group().replace(" ", "")
    number = int("".join(str(int(char, 36)) for char in compact[4:] + compact[:4]))  # mod 97, ISO 13616
    return MASK.format("iban") if number % 97 == 1 else found.group()


class Redaction:
    """Masks a turn in place: every text it holds, by the rules given.

    Args:
        secrets: Mask credentials, card numbers, and values of keys that are named like secrets.
        personal: Mask personal data.
        more: Rules of your own, applied after these.
    """

    def __init__(self, *, secrets: bool = True, personal: bool = False, more: Sequence[Redactor] = ()) -> None:
        self._by_name = secrets
        self._rules: list[Redactor] = [mask_secrets] if secrets else []
        self._rules += [mask_personal] if personal else []
        self._rules += more

    def __call__(self, turn: TurnRecord) -> None:
        """Mask ``turn``. Never raises."""
        if not self._rules:
            return
        for item in turn.interactions:
            item.content = self._text(item.content)
            if item.shadow_content or item.expert_content or item.user_action_description:
                item.shadow_content = self._text(item.shadow_content)
                item.expert_content = self._text(item.expert_content)
                item.user_action_description = self._text(item.user_action_description)
            if item.interacted_image_url and not item.interacted_image_url.startswith("data:"):
                item.interacted_image_url = self._text(item.interacted_image_url)
            if item.tools_used:
                item.tools_used = self._tree(item.tools_used)
            if item.citations:
                item.citations = self._tree(item.citations)
        turn.error = self._text(turn.error)
        if turn.metadata:
            turn.metadata = self._tree(turn.metadata)

    def _text(self, text: str) -> str:
        if not text:
            return text
        try:
            for rule in self._rules:
                text = rule(text)
            return text if isinstance(text, str) else MASK.format("a rule gave no text")
        except Exception as error:  # noqa: BLE001 - fail closed: whatever a rule does, the value does not pass
            count("redaction_failures")
            return MASK.format(f"a rule failed with {type(error).__name__}")

    def _tree(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            return {self._text(str(key)): self._value(key, item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._tree(item) for item in value]
        return value

    def _value(self, key: object, item: Any) -> Any:
        if self._by_name and item not in (None, "") and isinstance(key, str) and _SECRET_KEY.match(key):
            return MASK.format("by its name")
        return self._tree(item)
