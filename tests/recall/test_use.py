"""What was shown stays on record: with its tags, citations, reasons and the messages behind it."""

from __future__ import annotations

import hashlib
import itertools
import json
from typing import Any

import pytest

from reflexio_middleware import ReflexioClient, session, turn
from reflexio_middleware.recall.inject import Placement
from reflexio_store.errors import InvalidInputError

QUESTION = "Does the curry contain peanuts?"


def learn(client: ReflexioClient, user: str = "ann") -> str:
    """Teach the client an allergy in a conversation; the request that taught it."""
    with session(f"first of {user}", user_id=user, client=client), turn() as made:
        made.user("I am allergic to peanuts. I prefer aisle seats.")
        made.assistant("Noted.")
    client.flush(learn_now=True)
    client.recall("warm up", user_id=user, timeout=5)
    return made.request_id


def ask(client: ReflexioClient, answer: str, session_id: str = "second", user: str = "ann") -> str:
    with session(session_id, user_id=user, client=client), turn() as made:
        made.user(QUESTION)
        assert client.recall(QUESTION)
        made.assistant(answer)
    client.flush()
    return made.request_id


def test_explain_tells_what_was_shown_and_the_messages_behind_it(client: ReflexioClient) -> None:
    """With the tag it had, whether the answer cited it, and how it fared."""
    taught = learn(client)
    asked = ask(client, "It does, so not for you [p1].")
    found = client.explain(asked)
    assert (found.request_id, found.user_id, found.session_id, found.question) == (asked, "ann", "second", QUESTION)
    [shown] = found.shown
    assert (shown.kind, shown.tag, shown.cited) == ("profile", "p1", True)
    assert "peanuts" in shown.text
    assert (shown.use.shown, shown.use.cited) == (1, 1)
    [message] = shown.evidence
    assert (message.request_id, message.role) == (taught, "user")
    assert "allergic to peanuts" in message.content


def test_an_answer_cites_only_what_it_was_shown(client: ReflexioClient) -> None:
    """Tags of nothing, and brackets that are no tags, are left alone; a tag cited twice counts once."""
    learn(client)
    asked = ask(client, "See [r1], [p9], [1], [p1] and [p1].")
    [shown] = client.explain(asked).shown
    assert shown.cited
    [data] = client.get_requests(request_id=asked).sessions[0].requests
    assert [item.tag for item in data.interactions[-1].citations] == ["p1"]


def test_an_outcome_may_come_with_numbers_of_any_size(client: ReflexioClient) -> None:
    """Those beyond 64 bits are kept as text, with all their digits."""
    learn(client)
    ask(client, "Yes.", "s")
    client.mark_session_outcome("s", "success", 1_700_000_000, metadata={"wei": 10**30 + 1, "gas": -(2**63)})
    [stored] = client.get_session_outcomes().session_outcomes
    assert stored.metadata == {"wei": f"{10**30 + 1}", "gas": -(2**63)}


def test_use_counts_shown_cited_and_outcomes(client: ReflexioClient) -> None:
    """Of sessions reported by ``mark_session_outcome``, inside the scope without naming them."""
    learn(client)
    ask(client, "Yes [p1].", "good")
    asked = ask(client, "Yes.", "bad")
    with session("good", user_id="ann", client=client):
        assert client.mark_session_outcome(outcome="success").recorded
        assert not client.mark_session_outcome(outcome="success").recorded
    assert client.mark_session_outcome("bad", "failure", 1_700_000_000).success
    [shown] = client.explain(asked).shown
    use = client.get_learning_use("profile", [shown.learning_id, "unknown"])
    assert (use[shown.learning_id].shown, use[shown.learning_id].cited) == (2, 1)
    assert (use[shown.learning_id].succeeded, use[shown.learning_id].failed) == (1, 1)
    assert use["unknown"].shown == 0
    assert [item.session_id for item in client.get_session_outcomes().session_outcomes] == ["good", "bad"]


def test_what_was_forgotten_is_explained_as_gone(client: ReflexioClient) -> None:
    """Its words are nowhere; that something was shown stays."""
    taught = learn(client)
    asked = ask(client, "Yes.")
    client.delete_request(taught)
    [shown] = client.explain(asked).shown
    assert (shown.text, shown.evidence) == ("", ())


def test_an_unknown_turn_cannot_be_explained(client: ReflexioClient) -> None:
    """The error names it."""
    with pytest.raises(InvalidInputError, match="no turn 'nope' is stored"):
        client.explain("nope")


def prefixes(client: ReflexioClient, placement: Placement, turns: int = 20) -> list[list[str]]:
    """Of each prompt of a conversation, the hashes of all its prefixes."""
    learn(client)
    found = []
    history: list[dict[str, Any]] = [{"role": "system", "content": "You are a waiter."}]
    questions = [QUESTION, "Which seat would suit me, aisle or window?", "Write a haiku about autumn leaves."]
    with session("long", user_id="ann", client=client):
        for number in range(turns):
            history.append({"role": "user", "content": questions[number % 3]})
            prompt = client.inject(history, placement=placement, timeout=5)
            found.append(
                [hashlib.sha256(json.dumps(prompt[: at + 1]).encode()).hexdigest() for at in range(len(prompt))]
            )
            history.append({"role": "assistant", "content": f"Answer {number}."})
    return found


def test_at_the_system_message_every_prompt_begins_with_the_whole_one_before(client: ReflexioClient) -> None:
    """The block is held for the session, so a provider's cache serves all but the newest turn."""
    prompts = prefixes(client, "system")
    assert all(later[: len(earlier)] == earlier for earlier, later in itertools.pairwise(prompts))


def test_at_the_turn_every_prompt_keeps_all_before_the_last_question(client: ReflexioClient) -> None:
    """Only the message that carried the block before differs: what stood before it is served from the cache."""
    prompts = prefixes(client, "turn")
    assert all(later[: len(earlier) - 1] == earlier[:-1] for earlier, later in itertools.pairwise(prompts))


def test_a_held_block_is_dropped_when_something_in_it_is_forgotten(client: ReflexioClient) -> None:
    """Before the next prompt, whoever deleted it."""
    taught = learn(client)
    messages = [{"role": "user", "content": QUESTION}]
    with session("long", user_id="ann", client=client):
        assert "peanuts" in client.inject(messages, placement="system", timeout=5)[0]["content"]
        again = client.inject([{"role": "user", "content": "hello there"}], placement="system", timeout=5)
        assert "peanuts" in again[0]["content"]
        client.store.delete_requests([taught])
        assert client.inject(messages, placement="system", timeout=5) == messages


def test_a_held_block_is_of_its_session_and_user_alone(client: ReflexioClient) -> None:
    """Another conversation recalls for itself."""
    learn(client)
    messages = [{"role": "user", "content": QUESTION}]
    other = [{"role": "user", "content": "Write a haiku about autumn leaves."}]
    with session("long", user_id="ann", client=client):
        assert client.inject(messages, placement="system", timeout=5) != messages
    with session("other", user_id="ann", client=client):
        assert client.inject(other, placement="system", timeout=5) == other
    with session("long", user_id="bob", client=client):
        assert client.inject(messages, placement="system", timeout=5) == messages
