"""Media in messages: named by what is known of them (type, size, hash, address), never kept themselves."""

from __future__ import annotations

from typing import Any, Final

from reflexio_middleware.capture.snapshot import cut, describe_base64, describe_bytes, field_of

_HOLDERS: Final = ("image_url", "input_audio", "file", "source", "inline_data", "inlineData", "file_data", "fileData")
_CONTENTS: Final = ("data", "base64", "file_data", "image_url", "url", "file_uri", "fileUri", "file_id")
_TYPES: Final = ("media_type", "mime_type", "mimeType", "format")


def describe_media(part: Any) -> str:
    """A part of a message that is no text, as text: ``[image: image/png, 70 bytes, sha256 431ced6916a2a21b]``.

    Knows the forms of OpenAI (chat and responses), Anthropic, Google, LangChain, and raw bytes; of an address, its
    query is left out (it may hold a signature). Where nothing is known: ``[image]``.
    """
    if isinstance(part, (bytes, bytearray, memoryview)):
        return f"[data: {describe_bytes(bytes(part))}]"
    places = [part, *(field_of(part, name) for name in _HOLDERS)]
    kind, content = _first(places, _TYPES), _content(places)
    facts = [fact for fact in (kind, content) if fact]
    name = _name(part, kind)
    return f"[{name}: {', '.join(facts)}]" if facts else f"[{name}]"


def _name(part: Any, kind: str) -> str:
    said = field_of(part, "type")
    name = said.removeprefix("input_").removesuffix("_url") if isinstance(said, str) else ""
    if name and name != "media":
        return name[:100]
    major = kind.partition("/")[0]
    return major if major in ("image", "audio", "video", "text") else "file" if kind else type(part).__name__


def _first(places: list[Any], names: tuple[str, ...]) -> str:
    found = (field_of(place, name) for place in places for name in names)
    return next((cut(value, 100) for value in found if isinstance(value, str) and value), "")


def _content(places: list[Any]) -> str:
    for place in places:
        for name in _CONTENTS:
            value = place if isinstance(place, str) else field_of(place, name)
            if isinstance(value, (bytes, bytearray, memoryview)):
                return describe_bytes(bytes(value))
            if isinstance(value, str) and value:
                return _reference(value, is_address=not isinstance(place, str) and name not in ("data", "base64"))
    return ""


def _reference(value: str, *, is_address: bool) -> str:
    if value.startswith("data:"):
        head, _, body = value.partition(",")
        kind = head[5:].partition(";")[0]
        return f"{kind}, {describe_base64(body)}" if kind else describe_base64(body)
    if is_address or value.startswith(("http:", "https:", "file:", "gs:", "s3:")):
        return cut(value.partition("?")[0], 500)
    return describe_base64(value)
