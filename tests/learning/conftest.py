"""What the tests of learning share: sessions made of a few lines, and extractors."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reflexio_middleware.learning.extractor import SessionView
from reflexio_middleware.learning.statements import StatementsExtractor
from reflexio_store.models import Interaction, Request, RequestData, ToolUsed, UserPlaybook, UserProfile
from tests.learning.gold import CREATED, Case, session_of

Learn = Callable[..., list[UserProfile | UserPlaybook]]


@pytest.fixture
def statements() -> StatementsExtractor:
    """The extractor under test."""
    return StatementsExtractor()


@pytest.fixture
def learn(statements: StatementsExtractor) -> Learn:
    """What a conversation (``user: ...`` and ``agent: ...`` lines) teaches."""

    def run(text: str) -> list[UserProfile | UserPlaybook]:
        view = SessionView("u1", "s1", "v1", session_of(Case("", text)))
        return [change.learning for change in statements.extract(view) if change.learning]

    return run


@pytest.fixture
def tool_session() -> Callable[..., SessionView]:
    """A session in which an agent, asked ``request``, made the ``calls`` (input, output, status) of one tool."""

    def make(request: str, *calls: tuple[object, object, str], name: str = "search_flights") -> SessionView:
        tools = [ToolUsed(tool_name=name, tool_data={"input": i, "output": o}, status=s) for i, o, s in calls]
        items = [
            Interaction(role="User", content=request, created_at=CREATED),
            *(Interaction(role="tool", tools_used=[tool], created_at=CREATED) for tool in tools),
            Interaction(role="assistant", content="Here you are.", created_at=CREATED),
        ]
        data = RequestData(request=Request(request_id="r1", user_id="u1", created_at=CREATED), interactions=items)
        return SessionView("u1", "s1", "v1", [data])

    return make
