"""Every example of Reflexio's own page "Requests and Sessions", with only the import changed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

import reflexio_middleware as reflexio
from reflexio_middleware import ReflexioClient


@pytest.fixture
def client() -> Iterator[ReflexioClient]:
    """As the page makes it: no argument; the store comes from the environment."""
    client = ReflexioClient()
    yield client
    client.close()


def test_conversation_tracking(client: ReflexioClient) -> None:
    """Group all requests of a conversation: multiple interactions in the same session."""
    session_interactions = [{"role": "user", "content": f"message {number}"} for number in range(3)]
    session_id = "session_xyz"
    for interaction in session_interactions:
        client.publish_interaction(user_id="user_123", interactions=[interaction], session_id=session_id)

    sessions = client.get_requests(user_id="user_123").sessions
    assert [session.session_id for session in sessions] == ["session_xyz"]
    said = [data.interactions[0].content for data in sessions[0].requests]
    assert said == ["message 2", "message 1", "message 0"]


def test_multi_turn_conversation_tracking(client: ReflexioClient) -> None:
    """Two turns of one conversation, roles kept as given."""
    conversation_id = "conv_20241215_001"
    client.publish_interaction(
        user_id="user_123",
        interactions=[
            {"role": "User", "content": "I need help with my order"},
            {"role": "Agent", "content": "I'd be happy to help! What's your order number?"},
        ],
        session_id=conversation_id,
        agent_version="v1.0",
    )
    client.publish_interaction(
        user_id="user_123",
        interactions=[
            {"role": "User", "content": "Order #12345"},
            {"role": "Agent", "content": "I found your order. It's currently being shipped."},
        ],
        session_id=conversation_id,
        agent_version="v1.0",
    )

    (session,) = client.get_requests(user_id="user_123").sessions
    second, first = session.requests
    assert [(item.role, item.content) for item in first.interactions] == [
        ("User", "I need help with my order"),
        ("Agent", "I'd be happy to help! What's your order number?"),
    ]
    assert second.interactions[1].content == "I found your order. It's currently being shipped."
    assert second.request.agent_version == "v1.0"


def test_workflow_example(client: ReflexioClient, capsys: pytest.CaptureFixture[str]) -> None:
    """Publish, retrieve, walk, clean up."""
    published = client.publish_interaction(
        user_id="user_456",
        interactions=[
            {"content": "User asks a question", "role": "user"},
            {"content": "Agent response", "role": "assistant"},
        ],
        session_id="session_001",
        agent_version="v2.0",
        source="web_app",
    )
    requests = client.get_requests(user_id="user_456")
    for session in requests.sessions:
        print(f"Session: {session.session_id}")  # noqa: T201
        for request_data in session.requests:
            print(f"  Request ID: {request_data.request.request_id}")  # noqa: T201
            print(f"  Agent Version: {request_data.request.agent_version}")  # noqa: T201
            print(f"  Interactions: {len(request_data.interactions)}")  # noqa: T201
    assert capsys.readouterr().out.splitlines() == [
        "Session: session_001",
        f"  Request ID: {published.request_id}",
        "  Agent Version: v2.0",
        "  Interactions: 2",
    ]
    assert published.success
    assert uuid.UUID(published.request_id)

    deleted = client.delete_session(session_id="session_001", wait_for_response=True)
    assert deleted.success
    assert deleted.deleted_requests_count == 1
    assert client.get_requests(user_id="user_456").sessions == []


def test_request_structure(client: ReflexioClient) -> None:
    """Each request has an id, a user, a source, an agent version, a session and a time."""
    client.publish_interaction(
        user_id="user_123",
        interactions=[{"content": "hello"}],
        source="mobile_app",
        session_id="2024_q1_session_001",
        agent_version="v2.1.0",
    )
    request = client.get_requests(session_id="2024_q1_session_001").sessions[0].requests[0].request
    assert (request.user_id, request.source, request.agent_version) == ("user_123", "mobile_app", "v2.1.0")
    assert request.session_id == "2024_q1_session_001"
    assert isinstance(request.created_at, int)


@pytest.mark.parametrize("session_id", ["2024_q1_session_001", "onboarding_flow_v3", "test1", "Gespräch № 1"])
def test_descriptive_session_names(client: ReflexioClient, session_id: str) -> None:
    """Session names are kept as given."""
    client.publish_interaction(user_id="user_123", interactions=[{"content": "x"}], session_id=session_id)
    assert client.get_requests().sessions[0].session_id == session_id


def test_source_for_attribution(client: ReflexioClient) -> None:
    """Requests can be told apart by where they came from."""
    for source in ("mobile_app", "web_app", "api"):
        client.publish_interaction(
            user_id="user_123", interactions=[{"content": source}], source=source, session_id="session_001"
        )
    (session,) = client.get_requests(source="web_app").sessions
    assert [data.interactions[0].content for data in session.requests] == ["web_app"]


def test_delete_a_request(client: ReflexioClient) -> None:
    """Delete one request; the rest of its session stays."""
    ids = [
        client.publish_interaction(user_id="u", interactions=[{"content": str(n)}], session_id="s").request_id
        for n in range(3)
    ]
    assert client.delete_request(request_id=str(ids[0])).success
    assert client.delete_requests_by_ids([str(ids[1]), "unknown"]).deleted_count == 1
    (session,) = client.get_requests().sessions
    assert [data.request.request_id for data in session.requests] == [ids[2]]


def test_the_first_client_is_where_captured_turns_go(client: ReflexioClient) -> None:
    """Without another word, capture and client share one home."""

    @reflexio.capture
    def agent(question: str) -> str:
        return "answer"

    with reflexio.session("s", user_id="u"):
        agent("question")
    assert [item.content for item in client.get_interactions("u").interactions] == ["answer", "question"]
