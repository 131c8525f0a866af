"""What recorded conversations teach, by user: ``python tests/benchmarks/learned_from_replay.py CONVERSATIONS.json``.

The file is a list of ``{"task_id", "messages": [{"role", "content", "tool_calls", ...}]}`` in the OpenAI form. Each
learning is printed with the words of the user that it rests on; one whose evidence is no user's message and no tool
call is an error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import reflexio_middleware as reflexio
from reflexio_store.models import LearningQuery, UserPlaybook, UserProfile
from reflexio_store.terms import USER_ROLES


def main() -> None:
    """Replay, learn, and print."""
    conversations = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with reflexio.ReflexioClient("sqlite://", flush_timeout=300.0) as client:
        for conversation in conversations:
            _replay(client, f"customer-{conversation['task_id']}", conversation["messages"])
        assert client.flush(300.0, learn_now=True).complete
        unfounded = sum(_print(client, f"customer-{item['task_id']}") for item in conversations)
        clusters = client.run_playbook_aggregation("airline-v1").message
    print(f"\n{len(conversations)} conversations; without a user's own words behind it: {unfounded}; {clusters}")
    assert not unfounded


def _replay(client: reflexio.ReflexioClient, user: str, messages: list[dict[str, object]]) -> None:
    turns: list[list[dict[str, object]]] = []
    for message in messages:
        if message["role"] == "user":
            turns.append([message])
        elif turns:
            turns[-1].append(message)
    for messages_of_turn in turns:
        place = reflexio.session(f"talk-{user}", user_id=user, agent_version="airline-v1", client=client)
        with place, reflexio.turn() as turn:
            turn.add_messages(messages_of_turn)


def _print(client: reflexio.ReflexioClient, user: str) -> int:
    """Print what was learned of a user; how many learnings have no word of the user, and no tool call, behind them."""
    query = LearningQuery(user_id=user)
    found = [*client.store.get_learnings("profile", query), *client.store.get_learnings("user_playbook", query)]
    said = {
        (data.request.request_id, place): item
        for session in client.get_requests(user_id=user, top_k=100).sessions
        for data in session.requests
        for place, item in enumerate(data.interactions)
    }
    unfounded = 0
    for learning in found:
        assert isinstance(learning, UserProfile | UserPlaybook)
        behind = [said[item.request_id, item.interaction_index] for item in learning.evidence]
        words = [item for item in behind if item.role.lower() in USER_ROLES]
        quoted = bool(learning.source_span) and any(str(learning.source_span) in item.content for item in words)
        repaired = not learning.source_span and all(item.tools_used for item in behind)
        unfounded += not (quoted or repaired)
        print(f"{user}: {learning.content}\n    {learning.source_span or 'a repaired tool call'}")
    return unfounded


if __name__ == "__main__":
    main()
