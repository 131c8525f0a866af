"""Forgetting through the client: nothing of a user remains in any file, and nothing of others is lost."""

from __future__ import annotations

import random
from pathlib import Path

import orjson
import pytest

import reflexio_middleware as reflexio
from reflexio_middleware.delivery.dead_letters import FILE as DEAD_LETTERS
from reflexio_middleware.delivery.spool import FileSpool
from reflexio_store.contract import Change
from reflexio_store.errors import ExtractionError
from reflexio_store.ids import interaction_id
from reflexio_store.models import Evidence, LearningQuery, SessionOutcome, Status, UserPlaybook, UserProfile
from reflexio_store.records import InteractionRecord, TurnRecord

CANARY = "Zanzibarcanary"
EVERY = [None, *Status]


def turn(user: str, session: str, content: str, *, at_us: int = 1_700_000_000_000_000, **fields: object) -> TurnRecord:
    said = [InteractionRecord("User", content, at_us // 1_000_000)]
    return TurnRecord(f"{user}-{session}", user, session, "v1", "", at_us, said, **fields)  # type: ignore[arg-type]


def holding(folder: Path, word: str) -> list[str]:
    """The files under a folder that hold a word, in any case of its letters."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if word.lower().encode() in path.read_bytes().lower()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where everything of this test is kept."""
    made = tmp_path / "kept"
    made.mkdir()
    return made


class Failing:
    """An extractor whose errors quote what was said."""

    name = "failing"

    def extract(self, session: object) -> list[Change]:
        raise ExtractionError(f"cannot read: {session}", permanent=True)


def test_no_file_holds_a_word_of_an_erased_user(folder: Path) -> None:
    """Contents, tools, errors, metadata, learnings, history, rules, jobs, shared rules, dead letters."""
    with reflexio.ReflexioClient(f"sqlite:///{folder / 'm.db'}", extractor=Failing()) as client:
        _plant(client, "ann", folder)
        client.publish_interaction("ben", [{"role": "User", "content": "I live in Oslo"}], session_id="s9")
        client.flush(learn_now=True)
        assert "m.db" in " ".join(holding(folder, CANARY))
        receipt = client.clear_user_data("ann").deleted_counts
        assert (receipt["requests"], receipt["user_playbooks"], receipt["jobs"], receipt["spooled"]) == (1, 1, 1, 2)
        assert receipt["profiles"] >= 4
        assert holding(folder, CANARY) == []
        assert [item.content for item in client.get_interactions("ben").interactions] == ["I live in Oslo"]
        assert DEAD_LETTERS in holding(folder, "bens letter")
    assert holding(folder, CANARY) == []


def _plant(client: reflexio.ReflexioClient, user: str, folder: Path) -> None:
    """The canary wherever something of a user is kept."""
    client.publish_interaction(
        user,
        [
            {"role": "User", "content": f"Book {CANARY}", "user_action": "click", "user_action_description": CANARY},
            {"role": "Assistant", "content": f"Sure: {CANARY}", "shadow_content": CANARY, "expert_content": CANARY,
             "tools_used": [{"tool_name": CANARY, "tool_data": {"input": CANARY}, "status": "error"}],
             "citations": [{"kind": "profile", "real_id": CANARY}]},
        ],
        session_id=f"s-{CANARY}", source="web", wait_for_response=True,
    )  # fmt: skip
    request = client.get_requests(user_id=user).sessions[0].requests[0].request.request_id
    store = client.store
    for content in (f"Likes {CANARY}.", f"Loves {CANARY}.", f"Hates {CANARY}.", f"Collects {CANARY}."):
        learning = UserProfile(user_id=user, content=content, notes=CANARY, source_span=CANARY, tags=[CANARY])
        store.apply(user, [Change("add", "profile", learning, evidence=(Evidence(request_id=request),))])
    client.add_user_profile([UserProfile(user_id=user, content=f"{CANARY} by hand", custom_features={"a": CANARY})])
    (edited, *_) = client.get_profiles(user).user_profiles
    client.update_user_profile(user, edited.profile_id, content=f"{CANARY} edited")
    client.add_user_playbook(
        [
            UserPlaybook(
                user_id=name, agent_version="v1", content=f"Praise {CANARY}.", trigger=CANARY, rationale=CANARY
            )
            for name in (user, "gone")
        ]
    )
    assert client.run_playbook_aggregation("v1").added == 1
    store.delete_user("gone")
    spool = folder / "m.db-spool"
    letters = [turn(user, "s1", CANARY), turn("ben", "s2", "bens letter")]
    notes = [{"error": "no", "turn": orjson.dumps(letter).decode()} for letter in letters]
    (spool / DEAD_LETTERS).write_bytes(b"".join(orjson.dumps(note) + b"\n" for note in notes))
    (spool / "x.broken").write_bytes(f'{{"user_id":"{user}", "content":"{CANARY}'.encode())


@pytest.mark.parametrize("living", [True, False])
def test_a_turn_that_waits_in_another_process_is_not_stored_after_the_erasure(folder: Path, living: bool) -> None:
    """Whether that process goes on or has ended; what the user says afterwards is stored."""
    url = f"sqlite:///{folder / 'm.db'}"
    with reflexio.ReflexioClient(url, learning="off") as client:
        spool = FileSpool(folder / "m.db-spool")
        for waiting in (turn("ann", "s1", CANARY), turn("ben", "s2", "hello")):
            assert spool.append(orjson.dumps(waiting))
        if not living:
            spool.close()
        client.clear_user_data("ann")
        if living:
            spool.close()
        else:
            assert holding(folder, CANARY) == []
        client.publish_interaction("ann", [{"role": "User", "content": "I am back"}], session_id="s3")
    with reflexio.ReflexioClient(url, learning="off") as client:
        client._delivery.forget(5.0, user_id="nobody")  # the spool is taken over, as it is after a while
        assert [item.content for item in client.get_interactions("ann").interactions] == ["I am back"]
        assert [item.content for item in client.get_interactions("ben").interactions] == ["hello"]
        assert holding(folder, CANARY) == []


def test_a_deleted_request_is_not_delivered_again(client: reflexio.ReflexioClient) -> None:
    """Nor one of a deleted session; unless it is imported on purpose."""
    one, other = turn("ann", "s1", "one"), turn("ann", "s2", "other")
    client.store.add_turns([one, other])
    client.delete_request("ann-s1")
    client.delete_session("s2")
    assert client.store.add_turns([one, other]) == 0
    assert client.store.add_turns([one, other], restore=True) == 2


FACTS = ("Likes {}.", "Loves {}.", "Does not like {}.", "Lives in {}.", "Has a boat called {}.")


def test_random_deletes_leave_what_a_model_says(client: reflexio.ReflexioClient) -> None:
    """20 users; the benchmark does it with 1,000."""
    from tests.benchmarks.forgetting import Model

    model = Model(client.store, users=20, seed=3)
    for _ in range(150):
        model.step()
    assert model.differences() == []


def test_what_is_left_is_what_was_never_said_by_the_forgotten(client: reflexio.ReflexioClient) -> None:
    """Learning in any order, then forgetting, is as learning from the rest alone."""
    choose = random.Random(1)
    for _ in range(10):
        said = [choose.choice(FACTS).format(choose.choice("ab")) for _ in range(6)]
        turns = [turn("ada", f"s{n}", fact, at_us=(n + 1) * 10**6) for n, fact in enumerate(said)]
        forgotten = set(choose.sample(range(6), 3))
        client.store.add_turns(turns, restore=True)
        _learn(client, turns)
        client.store.delete_requests([turns[n].request_id for n in forgotten])
        left = _said(client)
        client.store.delete_user("ada")
        rest = [item for n, item in enumerate(turns) if n not in forgotten]
        client.store.add_turns(rest, restore=True)
        _learn(client, rest)
        assert left == _said(client), said
        client.store.delete_user("ada")


def _learn(client: reflexio.ReflexioClient, turns: list[TurnRecord]) -> None:
    for item in turns:
        content = item.interactions[0].content
        tags = ["slot:home"] if content.startswith("Lives") else []
        learning = UserProfile(user_id="ada", content=content, tags=tags)
        client.store.apply(
            "ada", [Change("add", "profile", learning, evidence=(Evidence(request_id=item.request_id),))]
        )


def _said(client: reflexio.ReflexioClient) -> list[str]:
    """What is current, in the words that do not depend on which wording came first."""
    found = client.store.get_learnings("profile", LearningQuery(user_id="ada"))
    return sorted(item.content.replace("Loves", "Likes") for item in found)


def test_what_is_deleted_by_hand_leaves_the_files_at_once(folder: Path) -> None:
    """Also the write-ahead log, though nobody closes the store."""
    with reflexio.ReflexioClient(f"sqlite:///{folder / 'm.db'}", learning="off") as client:
        client.add_user_profile([UserProfile(user_id="ann", content=f"Likes {CANARY}.")])
        (made,) = client.get_profiles("ann").user_profiles
        client.delete_profile("ann", made.profile_id)
        assert holding(folder, CANARY) == []


def test_jobs_for_many_users_forget_the_names_of_the_erased(client: reflexio.ReflexioClient) -> None:
    """What was asked for them alone goes; what was asked for all tells no longer that they were among them."""
    for user in ("ann", "ben"):
        client.publish_interaction(user, [{"role": "User", "content": "I like tea"}], session_id=f"of {user}")
    client.rerun_profile_generation(wait_for_response=True)
    client.rerun_playbook_generation(user_id="ann", wait_for_response=True)
    client.clear_user_data("ann")
    (job,) = client.store.job_states("generate")
    assert (job.key, job.result["processed_user_ids"], job.result["processed_users"]) == (
        "profile_generation", ["ben"], 2,
    )  # fmt: skip


def test_the_outcome_of_a_session_without_turns_goes_with_its_user(client: reflexio.ReflexioClient) -> None:
    """Such as one that was imported alone."""
    client.store.put_records([SessionOutcome(session_id="s1", user_id="ann", outcome="success", occurred_at=7)])
    client.clear_user_data("ann")
    assert client.store.counts()["outcomes"] == 0


def test_what_replaced_words_says_nothing_of_the_message_they_came_from(client: reflexio.ReflexioClient) -> None:
    """Its origin and its quotation are those of the message that changed it."""
    store = client.store
    store.add_turns([turn("ann", "s1", f"I live in {CANARY}"), turn("ann", "s2", "I moved to Oslo")])
    first, second = (Evidence(request_id=f"ann-{name}") for name in ("s1", "s2"))
    old = UserProfile(user_id="ann", content="Lives there.", source_span=f"in {CANARY}")
    store.apply("ann", [Change("add", "profile", old, evidence=(first,))])
    (made,) = client.get_profiles("ann").user_profiles
    new = UserProfile(user_id="ann", profile_id=made.profile_id, content="Lives in Oslo.")
    store.apply("ann", [Change("update", "profile", new, made.profile_id, (second,))])
    client.delete_request("ann-s1")
    (left,) = client.get_profiles("ann", status_filter=EVERY).user_profiles
    assert (left.content, left.source_span, left.generated_from_request_id) == ("Lives in Oslo.", None, "ann-s2")
    assert left.source_interaction_ids == [interaction_id("ann-s2", 0)]
