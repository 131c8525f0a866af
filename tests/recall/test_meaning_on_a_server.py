"""Recall by meaning from a Reflexio server, which finds by meaning and does not tell how near."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from reflexio_middleware import ReflexioClient
from reflexio_middleware.guard import counters, raise_internal_errors
from reflexio_middleware.recall.relevance import COSINE
from tests.reflexio_server import ReflexioServer

TOPICS = {"tea": 0, "beverage": 0, "horse": 1, "stallion": 1}


class Topics:
    """An embedder that knows two topics, and notes what it was asked for."""

    name, dimension = "topics", 3

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.queries = 0
        self.refuses = ""
        self.go_on = threading.Event()
        self.go_on.set()

    def embed(self, texts: Sequence[str], kind: str = "document") -> list[list[float]]:
        if kind == "query":
            self.queries += 1
        else:
            self.asked += texts
            self.go_on.wait(10)
            if any(self.refuses and self.refuses in text for text in texts):
                raise ValueError("this text is not for me")
        said = [{TOPICS.get(word) for word in text.split()} for text in texts]
        return [[float(0 in topics), float(1 in topics), 0.1] for topics in said]


@pytest.fixture
def topics() -> Topics:
    """The embedder."""
    return Topics()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ReflexioServer]:
    """A server that finds by meaning, with facts of two users and a rule."""
    monkeypatch.setenv("REFLEXIO_SPOOL_DIR", str(tmp_path))
    with ReflexioServer() as made, ReflexioClient(made.url) as client:
        made.routes.finds_by_meaning = True
        facts = [("ann", "likes tea"), ("ann", "has a horse"), ("bob", "hates tea")]
        client.add_user_profile([{"user_id": user, "content": fact} for user, fact in facts])
        client.add_user_playbook(
            [{"user_id": "ann", "agent_version": "v1", "trigger": "tea is wanted", "content": "Ask how strong."}]
        )
        yield made


def client_of(server: ReflexioServer, embedder: Topics, **settings: object) -> ReflexioClient:
    return ReflexioClient(server.url, embedder=embedder, agent_version="v1", **settings)  # type: ignore[arg-type]


def recalled(client: ReflexioClient, prompt: str = "bring me a beverage") -> list[str]:
    return sorted(item.content for item in client.recall(prompt, user_id="ann").learnings)


@pytest.mark.parametrize(("measured", "floor"), [(0.9, None), (None, 0.9)])
def test_what_means_the_same_is_recalled_from_a_server(
    monkeypatch: pytest.MonkeyPatch, server: ReflexioServer, topics: Topics, measured: float | None, floor: float | None
) -> None:
    """Of a model that was measured, or by a floor of one's own; of this user alone, and what is near. A rule is found
    by its trigger."""
    if measured is not None:
        monkeypatch.setitem(COSINE, "topics", measured)
    with client_of(server, topics, embedding_floor=floor) as client:
        assert recalled(client) == ["Ask how strong.", "likes tea"]
        assert recalled(client, "which stallion") == ["has a horse"]
        [chosen, *_] = client.recall("bring me a beverage", user_id="ann").chosen
        assert chosen.similarity == pytest.approx(1.0) and "meaning" in chosen.reason
        assert not client.recall("the weather in Rome", user_id="ann")


def test_of_a_model_that_was_not_measured_meaning_alone_recalls_nothing(server: ReflexioServer, topics: Topics) -> None:
    """As with every home; the words still do."""
    with client_of(server, topics) as client:
        assert recalled(client) == []
        assert recalled(client, "likes tea") == ["Ask how strong.", "likes tea"]


def test_each_text_is_embedded_once(server: ReflexioServer, topics: Topics) -> None:
    """And none at all for a search, which shows whatever the server finds."""
    with client_of(server, topics, embedding_floor=0.9) as client:
        assert len(client.search("bring me a beverage", user_id="ann").profiles) == 2
        assert (topics.asked, topics.queries) == ([], 0)
        for prompt in ("bring me a beverage", "which stallion"):
            client.recall(prompt, user_id="ann")
        assert sorted(topics.asked) == ["has a horse", "likes tea", "tea is wanted"]


def test_an_embedder_that_is_late_leaves_the_words(server: ReflexioServer, topics: Topics) -> None:
    """The recall keeps its time; what comes late serves the next one."""
    topics.go_on.clear()
    with raise_internal_errors(enabled=False), client_of(server, topics, embedding_floor=0.9) as client:
        client.recall("the weather in Rome", user_id="ann", timeout=0.2)
        assert client.recall("likes tea", user_id="ann", timeout=2.0).reason == ""
        late = client.stats()["embeddings_late"]
        assert late >= 2
        topics.go_on.set()
        end = threading.Event()
        for _ in range(200):
            if recalled(client) == ["Ask how strong.", "likes tea"]:
                break
            end.wait(0.01)
        assert recalled(client) == ["Ask how strong.", "likes tea"]


@pytest.mark.parametrize(("refuses", "counter"), [("e", "embeddings_failed"), (" ", "texts_refused")])
def test_an_embedder_that_fails_leaves_the_words_and_says_so(
    server: ReflexioServer, topics: Topics, caplog: pytest.LogCaptureFixture, refuses: str, counter: str
) -> None:
    """Be it away or unwilling: it is counted, and in the log."""
    topics.refuses, topics.name = refuses, f"topics without {refuses!r}"  # a warning of one name comes once a minute
    before = counters().get(counter, 0)
    with raise_internal_errors(enabled=False), client_of(server, topics, embedding_floor=0.9) as client:
        assert recalled(client, "likes tea") == ["Ask how strong.", "likes tea"]
        assert client.stats()[counter] > before
    assert any(topics.name in record.getMessage() for record in caplog.records)


def test_a_text_that_is_refused_is_asked_for_once(server: ReflexioServer, topics: Topics) -> None:
    """The others have their vectors."""
    topics.refuses = "horse"
    with raise_internal_errors(enabled=False), client_of(server, topics, embedding_floor=0.9) as client:
        assert recalled(client) == ["Ask how strong.", "likes tea"]
        asked = len(topics.asked)
        assert recalled(client) == ["Ask how strong.", "likes tea"]
        assert len(topics.asked) == asked


def test_few_texts_are_embedded_for_one_recall(server: ReflexioServer, topics: Topics) -> None:
    """However many the server finds; the next recall goes on with the rest."""
    with client_of(server, topics, embedding_floor=0.9) as client:
        client.add_user_profile([{"user_id": "ann", "content": f"likes tea of kind {number}"} for number in range(60)])
        client.recall("bring me a beverage", user_id="ann", top_k=50)
        assert len(topics.asked) == 32
        client.recall("bring me a beverage", user_id="ann", top_k=50)
        assert len(topics.asked) == 63 == len(set(topics.asked))
