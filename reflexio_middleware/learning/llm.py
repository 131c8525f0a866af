"""Learning by a model: any endpoint that speaks the OpenAI chat completions protocol."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from reflexio_store.contract import Change
from reflexio_store.errors import ExtractionError, MissingExtraError

try:
    import openai
except ImportError as error:
    raise MissingExtraError("Learning by a model", "openai") from error

from .extractor import SessionView
from .llm_answers import Answer, answer_schema, read_answer
from .llm_changes import changes_of, merged
from .transcript import Known, Turn, known_of, parts_of, turns_of

_FORMS: Final = ("json_schema", "json_object", "text")
_PERMANENT: Final = (
    openai.AuthenticationError,
    openai.PermissionDeniedError,
    openai.NotFoundError,
)
_MAX_LINE: Final = 200


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that the calls of one extraction took, as the server counted them, and how many ``calls`` there were."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.calls + other.calls,
        )


class LLMExtractor:
    """Learns by asking a model for itemised changes, and refuses those whose citations do not hold.

    Args:
        model: The name of the model at the endpoint.
        base_url: The endpoint, e.g. ``http://localhost:11434/v1``; None for OpenAI's own (or ``OPENAI_BASE_URL``).
        api_key: The key; None takes ``OPENAI_API_KEY``, or for a ``base_url`` of yours without one, a placeholder.
        timeout: Seconds that one call may take.
        max_retries: How often a call that timed out, was limited or met a server error is repeated.
        max_session_chars: Most characters of a session in one call; a longer one is read in overlapping parts.

    Raises:
        MissingExtraError: On import, when the ``openai`` package is missing.
        ExtractionError: No key is known (permanent).
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = 60.0,
        max_retries: int = 2,
        max_session_chars: int = 24_000,
    ) -> None:
        self.model = model
        self.last_usage = Usage()
        self._max_chars = max(500, max_session_chars)
        self._form = 0
        self._steady = True  # until the model turns out to take no temperature
        prompts = files("reflexio_middleware.learning").joinpath("prompts")
        self._prompt = prompts.joinpath("extract.v1.md").read_text(encoding="utf-8")
        try:
            self._client = openai.OpenAI(
                base_url=base_url, api_key=_key(base_url, api_key), timeout=timeout, max_retries=max_retries
            )
        except openai.OpenAIError as error:
            raise ExtractionError(f"Learning by a model needs a key: {_line(error)}", permanent=True) from error

    @property
    def name(self) -> str:
        """``llm``."""
        return "llm"

    def close(self) -> None:
        """Close the connections to the endpoint."""
        self._client.close()

    def extract(self, session: SessionView) -> list[Change]:
        """The changes that the model proposes and whose citations hold.

        ``last_usage`` tells afterwards what it took, also where it failed.

        Raises:
            ExtractionError: Permanent for a wrong key or model name; otherwise a later try may succeed.
        """
        self.last_usage = Usage()
        turns = turns_of(session, self._max_chars)
        if not session.user_id or not any(turn.proof for turn in turns):
            return []
        known = known_of(session)
        changes: list[Change] = []
        for part in parts_of(turns, self._max_chars):
            if any(turn.proof for turn in part):
                changes += changes_of(self._ask(part, known), part, known, session, self._prompt)
        return merged(changes)

    def _ask(self, part: list[Turn], known: Known) -> Answer:
        session = "\n".join(turn.text for turn in part)
        text = f"KNOWN\n{known.text()}\n\nSESSION\n{session}\n\nAnswer with the JSON object."
        messages = [{"role": "system", "content": self._prompt}, {"role": "user", "content": text}]
        said = self._call(messages)
        try:
            return read_answer(said)
        except ValueError as error:
            repair = f"That is not the JSON object asked for: {error}. Answer with the JSON object only."
            messages += [{"role": "assistant", "content": said or "(nothing)"}, {"role": "user", "content": repair}]
        try:
            return read_answer(self._call(messages))
        except ValueError as error:
            raise ExtractionError(f"{self.model} answered twice without a usable JSON object: {error}") from error

    def _call(self, messages: list[dict[str, str]]) -> str:
        """What the model says, asked in the strictest form that the server takes; that form is remembered."""
        while True:
            try:
                return self._complete(messages, _FORMS[self._form])
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if self._steady and "temperature" in str(error.message).lower():
                    self._steady = False
                    continue
                if self._form + 1 == len(_FORMS) or not _refuses_form(error):
                    raise ExtractionError(f"{self.model} refused the request: {_line(error)}") from error
                self._form += 1
            except _PERMANENT as error:
                where = f"{self.model} at {self._client.base_url}"
                raise ExtractionError(f"{where} cannot be used: {_line(error)}", permanent=True) from error
            except openai.OpenAIError as error:
                raise ExtractionError(f"{self.model} could not be asked: {_line(error)}") from error

    def _complete(self, messages: list[dict[str, str]], form: str) -> str:
        options: dict[str, Any] = {"model": self.model, "messages": messages}
        if self._steady:
            options["temperature"] = 0
        if form == "json_schema":
            schema = {"name": "changes", "strict": True, "schema": answer_schema()}
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif form == "json_object":
            options["response_format"] = {"type": "json_object"}
        done = self._client.chat.completions.create(**options)
        if done.usage is not None:
            self.last_usage += Usage(done.usage.prompt_tokens, done.usage.completion_tokens, 1)
        else:
            self.last_usage += Usage(calls=1)
        return (done.choices[0].message.content or "") if done.choices else ""


def _key(base_url: str | None, api_key: str | None) -> str | None:
    """The key to use: a local server of one's own rarely wants one, but the client insists on some text."""
    return api_key or os.environ.get("OPENAI_API_KEY") or ("none" if base_url else None)


def _refuses_form(error: openai.APIStatusError) -> bool:
    text = str(error.message).lower()
    return any(word in text for word in ("response_format", "json", "schema", "format", "structured", "unsupported"))


def _line(error: Exception) -> str:
    """The message of an error on one line, without what a server may have put behind it."""
    return " ".join(str(error).split())[:_MAX_LINE]
