"""Many sessions that say the same leave few learnings."""

from __future__ import annotations

import random

import reflexio_middleware as reflexio
from reflexio_store.models import LearningQuery
from tests.benchmarks.consolidation import FACTS


def test_sessions_that_restate_the_same_facts_leave_few_learnings(client: reflexio.ReflexioClient) -> None:
    """Every wording of each of the 20 facts, twice, leaves at most 30; the benchmark does it a thousand times."""
    wordings = [wording for fact in FACTS for wording in fact] * 2
    random.Random(5).shuffle(wordings)
    for number in range(0, len(wordings), 10):
        said = [{"role": "User", "content": wording} for wording in wordings[number : number + 10]]
        client.publish_interaction("ada", said, session_id=f"s{number}")
    assert client.flush(60.0, learn_now=True).complete
    left = [
        item
        for kind in ("profile", "user_playbook")
        for item in client.store.get_learnings(kind, LearningQuery(user_id="ada"))  # type: ignore[arg-type]
    ]
    assert 15 <= len(left) <= 30
