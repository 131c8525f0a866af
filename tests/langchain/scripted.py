"""A chat model that answers from a script, offline: the twin of a real one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.llms import LLM
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field

Answer = str | AIMessage | BaseException


def call(name: str, call_id: str, **args: Any) -> AIMessage:
    """An answer that calls one tool."""
    return AIMessage(content="", tool_calls=[{"name": name, "args": args, "id": call_id}])


class ScriptedModel(BaseChatModel):
    """Gives ``answers`` one after the other (the last one again when they are used up); an exception is raised.

    ``seen`` collects what the model was called with.
    """

    model_name: str = "scripted"
    answers: list[Any] = Field(default_factory=list)
    seen: list[list[BaseMessage]] = Field(default_factory=list)
    break_after: int | None = None
    """Raise after so many streamed words."""
    wait: bool = False
    """Never answer (async): for cancelling."""
    waiting: Any = Field(default_factory=asyncio.Event)
    """Set once an answer is being waited for."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: str | None = None, **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _answer(self, messages: list[BaseMessage]) -> AIMessage:
        answer = self.answers[min(len(self.seen), len(self.answers) - 1)]
        self.seen.append(list(messages))
        if isinstance(answer, BaseException):
            raise answer
        return AIMessage(content=answer) if isinstance(answer, str) else answer.model_copy()

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages))])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if self.wait:
            self.waiting.set()
            await asyncio.Event().wait()
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages))])


class StreamingModel(ScriptedModel):
    """The same, word by word."""

    def _chunks(self, messages: list[BaseMessage]) -> Iterator[ChatGenerationChunk]:
        answer = self._answer(messages)
        if answer.tool_calls:
            pieces = [
                {"name": item["name"], "args": json.dumps(item["args"]), "id": item["id"], "index": at}
                for at, item in enumerate(answer.tool_calls)
            ]
            yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=pieces))
            return
        for at, word in enumerate(str(answer.content).split(" ")):
            if at == self.break_after:
                raise RuntimeError("the line broke")
            yield ChatGenerationChunk(message=AIMessageChunk(content=word if at == 0 else f" {word}"))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in self._chunks(messages):
            if run_manager:
                run_manager.on_llm_new_token(str(chunk.message.content), chunk=chunk)
            yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._chunks(messages):
            if run_manager:
                await run_manager.on_llm_new_token(str(chunk.message.content), chunk=chunk)
            yield chunk
            if self.wait:
                self.waiting.set()
                await asyncio.Event().wait()


class ScriptedCompletion(LLM):
    """A completion model: text in, text out."""

    answer: str = "forty-two"

    @property
    def _llm_type(self) -> str:
        return "scripted-completion"

    def _call(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> str:
        return self.answer
