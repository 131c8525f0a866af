"""Learning by a model: any endpoint that speaks the OpenAI chat completions protocol."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Final

from reflexio_store.contract import Change
from reflexio_store.errors import ExtractionError, MissingExtraError, UnusableAnswerError

try:
    import openai
except ImportError as error:
    raise MissingExtraError("Learning by a model", "openai") from error

from .definitions import Asked, Definition, asked_for
from .extractor import Meter, SessionView
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


class LLMExtractor:
    """Learns by asking a model for itemised changes, and refuses those whose citations do not hold.

    Thread-safe. What its calls take is told to the session's meter, call by call.

    Args:
        model: The name of the model at the endpoint.
        base_url: The endpoint, e.g. ``http://localhost:11434/v1``; None for OpenAI's own (or ``OPENAI_BASE_URL``).
        api_key: The key; None takes ``OPENAI_API_KEY``, or with a ``base_url`` a placeholder: that key is for OpenAI.
        timeout: Seconds that one call may take.
        max_retries: How often a call that timed out, was limited or met a server error is repeated.
        max_tokens: Most tokens of a session in one call (estimated); a longer one is read in overlapping parts, and a
            part that the server finds too long in halves.
        definitions: What to look for; none: whatever is worth remembering.
        name: What it is called, where there are several.

    Raises:
        MissingExtraError: On import, when the ``openai`` package is missing.
        ExtractionError: No key is known (permanent).
    """

    waits = True

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = 60.0,
        max_retries: int = 2,
        max_tokens: int = 8_000,
        definitions: Sequence[Definition] = (),
        name: str = "llm",
    ) -> None:
        self.model = model
        self._max_tokens = max(100, max_tokens)
        self._form = 0
        self._steady = True  # until the model turns out to take no temperature
        prompts = files("reflexio_middleware.learning").joinpath("prompts")
        prompt = prompts.joinpath("extract.v1.md").read_text(encoding="utf-8") + asked_for(definitions)
        self._asked = Asked(name, prompt, {definition.name: definition for definition in definitions})
        try:
            self._client = openai.OpenAI(
                base_url=base_url, api_key=_key(base_url, api_key), timeout=timeout, max_retries=max_retries
            )
        except openai.OpenAIError as error:
            raise ExtractionError(f"Learning by a model needs a key: {_line(error)}", permanent=True) from error

    @property
    def name(self) -> str:
        """``llm``, or as it was called."""
        return self._asked.extractor

    def close(self) -> None:
        """Close the connections to the endpoint."""
        self._client.close()

    def extract(self, session: SessionView) -> list[Change]:
        """The changes that the model proposes and whose citations hold.

        Raises:
            BudgetUsedUpError: The session's meter says that nothing is left to spend.
            UnusableAnswerError: What the model said twice is no answer.
            ExtractionError: Permanent for a wrong key or model name; otherwise a later try may succeed.
        """
        turns = turns_of(session, self._max_tokens)
        if not session.user_id or not any(turn.proof and turn.new for turn in turns):
            return []
        known = known_of(session, self._max_tokens)
        changes: list[Change] = []
        for part in parts_of(turns, self._max_tokens):
            changes += self._learned(part, known, session)
        return merged(changes)

    def _learned(self, part: list[Turn], known: Known, session: SessionView) -> list[Change]:
        """What one part teaches; one that is too long for the model is read in halves."""
        if not any(turn.proof and turn.new for turn in part):
            return []
        try:
            answer = self._ask(part, known, session)
        except _TooLongError as error:
            if len(part) == 1:
                raise UnusableAnswerError(f"{self.model} cannot read one turn of the session: {error}") from error
            middle = len(part) // 2
            return self._learned(part[:middle], known, session) + self._learned(part[middle:], known, session)
        return list(changes_of(answer, part, known, session, self._asked))

    def _ask(self, part: list[Turn], known: Known, session: SessionView) -> Answer:
        shown = "\n".join(turn.text for turn in part)
        text = f"KNOWN\n{known.text()}\n\nSESSION\n{shown}\n\nAnswer with the JSON object."
        messages = [{"role": "system", "content": self._asked.prompt}, {"role": "user", "content": text}]
        said = self._call(messages, session.meter)
        try:
            return read_answer(said)
        except ValueError as error:
            repair = f"That is not the JSON object asked for: {error}. Answer with the JSON object only."
            messages += [{"role": "assistant", "content": said or "(nothing)"}, {"role": "user", "content": repair}]
        try:
            return read_answer(self._call(messages, session.meter))
        except ValueError as error:
            raise UnusableAnswerError(f"{self.model} answered twice without a usable JSON object: {error}") from error

    def _call(self, messages: list[dict[str, str]], meter: Meter | None) -> str:
        """What the model says, asked in the strictest form that the server takes; that form is remembered."""
        while True:
            form = self._form
            if meter is not None:
                meter.check()
            try:
                return self._complete(messages, _FORMS[form], meter)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if self._steady and "temperature" in str(error.message).lower():
                    self._steady = False
                    continue
                if _is_too_long(error):
                    raise _TooLongError(_line(error)) from error
                if form + 1 == len(_FORMS) or not _refuses_form(error):
                    raise ExtractionError(f"{self.model} refused the request: {_line(error)}") from error
                self._form = max(self._form, form + 1)
            except _PERMANENT as error:
                where = f"{self.model} at {self._client.base_url}"
                raise ExtractionError(f"{where} cannot be used: {_line(error)}", permanent=True) from error
            except openai.OpenAIError as error:
                raise ExtractionError(f"{self.model} could not be asked: {_line(error)}") from error

    def _complete(self, messages: list[dict[str, str]], form: str, meter: Meter | None) -> str:
        options: dict[str, Any] = {"model": self.model, "messages": messages}
        if self._steady:
            options["temperature"] = 0
        if form == "json_schema":
            schema = {"name": "changes", "strict": True, "schema": answer_schema(list(self._asked.definitions))}
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif form == "json_object":
            options["response_format"] = {"type": "json_object"}
        done = self._client.chat.completions.create(**options)
        if meter is not None:
            asked, said = (done.usage.prompt_tokens, done.usage.completion_tokens) if done.usage else (0, 0)
            meter.note(self.model, prompt_tokens=asked, completion_tokens=said)
        if not done.choices:
            return ""
        if done.choices[0].finish_reason == "length":
            raise _TooLongError("its answer was cut short")
        return done.choices[0].message.content or ""


class _TooLongError(Exception):
    """A part of a session, or the answer to it, is longer than the model can take."""


def _key(base_url: str | None, api_key: str | None) -> str | None:
    """The key to use: a local server of one's own rarely wants one, but the client insists on some text, and without
    takes the one of ``OPENAI_API_KEY``, which goes to OpenAI only."""
    return api_key or ("none" if base_url else None)


def _refuses_form(error: openai.APIStatusError) -> bool:
    text = str(error.message).lower()
    return any(word in text for word in ("response_format", "json", "schema", "format", "structured", "unsupported"))


def _is_too_long(error: openai.APIStatusError) -> bool:
    text = str(error.message).lower()
    return "context_length" in text or ("context" in text and ("token" in text or "length" in text))


def _line(error: Exception) -> str:
    """The message of an error on one line, without what a server may have put behind it."""
    return " ".join(str(error).split())[:_MAX_LINE]
