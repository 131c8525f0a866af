"""Secrets are masked before a turn is written anywhere.

Two rules, both on by default: high-precision patterns of well-known credentials in any text, and the values of keys
whose name says that they are secret (in tool inputs and outputs, and in metadata). A rule that raises leaves a marker,
never the value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from reflexio_middleware.guard import count
from reflexio_store.records import TurnRecord

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
)  # fmt: skip
_ANY: Final = re.compile("|".join(f"({pattern})" for _, pattern in _PATTERNS))
_HINT: Final = re.compile(
    r"-----BEGIN|sk[-_]|rk_|gh[pousr]_|github_pat|glpat-|AKIA|ASIA|AIza|xox|hf_|pypi-|npm_|eyJ|[Bb]earer|BEARER|://"
)
_CARD: Final = re.compile(r"(?<![\w-])(?:\d[ -]?){12,18}\d(?![\w-])")
_SECRET_KEY: Final = re.compile(
    r"(?i)^(?:.*[_-])?(?:api[_-]?key|secret|client[_-]?secret|password|passwd|passphrase|authorization|cookie|"
    r"private[_-]?key|access[_-]?token|refresh[_-]?token|auth[_-]?token|id[_-]?token|bearer|cvv|cvc|pin[_-]?code)$"
)
MASK: Final = "[redacted: {}]"

Redactor = Callable[[str], str]


def redact_text(text: str) -> str:
    """``text`` with secrets masked, e.g. ``[redacted: api key]``. Masking twice changes nothing more."""
    if _HINT.search(text):
        text = _ANY.sub(lambda found: MASK.format(_PATTERNS[(found.lastindex or 1) - 1][0]), text)
    return _CARD.sub(_mask_card, text)


def _mask_card(found: re.Match[str]) -> str:
    digits = [int(char) for char in found.group() if char.isdigit()]
    doubled = (digit if at % 2 == 0 else digit * 2 - 9 * (digit > 4) for at, digit in enumerate(reversed(digits)))
    is_card = digits[0] in (2, 3, 4, 5, 6) and sum(doubled) % 10 == 0  # Luhn, ISO/IEC 7812-1
    return MASK.format("card number") if is_card else found.group()


def redact_turn(turn: TurnRecord, redact: Redactor = redact_text) -> None:
    """Mask the secrets of a turn in place, in every text it holds."""
    for item in turn.interactions:
        item.content = _guarded(redact, item.content)
        if item.shadow_content or item.expert_content or item.user_action_description:
            item.shadow_content = _guarded(redact, item.shadow_content)
            item.expert_content = _guarded(redact, item.expert_content)
            item.user_action_description = _guarded(redact, item.user_action_description)
        if item.tools_used:
            item.tools_used = _tree(redact, item.tools_used)
        if item.interacted_image_url and not item.interacted_image_url.startswith("data:"):
            item.interacted_image_url = _guarded(redact, item.interacted_image_url)
    if turn.error:
        turn.error = _guarded(redact, turn.error)
    if turn.metadata:
        turn.metadata = _tree(redact, turn.metadata)


def _guarded(redact: Redactor, text: str) -> str:
    if not text:
        return text
    try:
        return redact(text)
    except Exception as error:  # noqa: BLE001 - fail closed: whatever a rule does, the value does not pass
        count("redaction_failures")
        return MASK.format(f"a rule failed with {type(error).__name__}")


def _tree(redact: Redactor, value: Any) -> Any:
    if isinstance(value, str):
        return _guarded(redact, value)
    if isinstance(value, dict):
        return {
            key: MASK.format("by its name")
            if isinstance(key, str) and item not in (None, "") and _SECRET_KEY.match(key)
            else _tree(redact, item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_tree(redact, item) for item in value]
    return value
