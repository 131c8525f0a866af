"""LangChain's own tests of a retriever, a tool and a chat model."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import BaseTool

from reflexio_integrations.langchain import ReflexioRetriever, ReflexioSearchTool, with_memory
from tests.langchain.conftest import Memory
from tests.langchain.scripted import StreamingModel

pytest.importorskip("langchain_tests")
from langchain_tests.integration_tests import (
    ChatModelIntegrationTests,
    RetrieversIntegrationTests,
    ToolsIntegrationTests,
)
from langchain_tests.unit_tests import ChatModelUnitTests, ToolsUnitTests


class TestRetrieverOfTheStandardSuite(RetrieversIntegrationTests):
    """LangChain's own tests."""

    @pytest.fixture(autouse=True)
    def _memory(self, tea: Memory) -> None:
        self.client = tea.client

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return ReflexioRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"client": self.client, "user_id": "ann"}

    @property
    def retriever_query_example(self) -> str:
        return "tea"


class _Tool:
    @pytest.fixture(autouse=True)
    def _memory(self, tea: Memory) -> None:
        self.client = tea.client

    @property
    def tool_constructor(self) -> type[BaseTool]:
        return ReflexioSearchTool

    @property
    def tool_constructor_params(self) -> dict[str, Any]:
        return {"client": self.client, "user_id": "ann"}

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"query": "tea"}


class TestToolOfTheStandardUnitSuite(_Tool, ToolsUnitTests):
    """LangChain's own tests."""


class TestToolOfTheStandardIntegrationSuite(_Tool, ToolsIntegrationTests):
    """LangChain's own tests."""


class TestModelOfTheStandardUnitSuite(ChatModelUnitTests):
    """The scripted model, with memory."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return type(with_memory(StreamingModel()))

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"answers": ["metric"]}


class TestModelOfTheStandardIntegrationSuite(ChatModelIntegrationTests):
    """The same: what needs tools, structures or media of a real one is left out."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return type(with_memory(StreamingModel()))

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"answers": ["metric"]}

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        return False

    @property
    def returns_usage_metadata(self) -> bool:
        return False

    @property
    def supports_json_mode(self) -> bool:
        return False
