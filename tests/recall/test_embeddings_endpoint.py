"""Search by meaning with an OpenAI-compatible endpoint, over HTTP, and what becomes of it when that misbehaves."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from reflexio_middleware import ReflexioClient
from reflexio_middleware.embedding.openai import OpenAIEmbedder
from reflexio_middleware.guard import raise_internal_errors
from reflexio_middleware.testing import ScriptedDelay, ScriptedError, ScriptedModelServer
from reflexio_store.errors import InvalidInputError

FACTS = ["Prefers window seats when flying.", "Keeps two horses near Berlin.", "Plays chess on Sundays."]
Broken = str | dict[str, Any] | ScriptedError | ScriptedDelay


@pytest.fixture
def server() -> Iterator[ScriptedModelServer]:
    """An endpoint for embeddings."""
    with ScriptedModelServer() as made:
        yield made


@pytest.fixture
def make(server: ScriptedModelServer) -> Callable[..., ReflexioClient]:
    """Makes clients that embed at the endpoint, and learn nothing by themselves."""

    def made(store: str = "sqlite://", **settings: Any) -> ReflexioClient:
        given = {"embedding_base_url": server.base_url, "embedding_api_key": "a-key", "recall_timeout": 5.0, **settings}
        return ReflexioClient(store, learning="off", embedder="openai", **given)

    return made


def add_facts(client: ReflexioClient, user_id: str = "ann") -> None:
    client.add_user_profile([{"user_id": user_id, "content": text} for text in FACTS])
    client.flush()


def texts_of(server: ScriptedModelServer) -> list[str]:
    return [text for body in server.embedded for text in body["input"]]


def until(happened: Callable[[], object]) -> None:
    """Wait until it is so, for ten seconds at most."""
    end, pause = time.monotonic() + 10, threading.Event()
    while not happened() and time.monotonic() < end:
        pause.wait(0.02)
    assert happened()


def test_the_endpoint_speaks_both_forms(server: ScriptedModelServer) -> None:
    """Numbers, or what the vendor's own client asks for by itself: base64. The same vectors, with the usage."""
    with openai.OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client:
        plain = client.embeddings.create(
            model="m", input=["by window", "chess"], dimensions=64, encoding_format="float"
        )
        packed = client.embeddings.create(model="m", input=["by window", "chess"], dimensions=64)
    assert [body.get("encoding_format") for body in server.embedded] == ["float", "base64"]
    for one, other in zip(plain.data, packed.data, strict=True):
        assert len(one.embedding) == 64 and one.embedding == pytest.approx(other.embedding)
    assert plain.usage.prompt_tokens == packed.usage.prompt_tokens == 3


def test_learnings_are_embedded_in_the_background_and_found_by_meaning(
    server: ScriptedModelServer, make: Callable[..., ReflexioClient]
) -> None:
    """By meaning alone, and by both; the key and the model are those of the settings."""
    with make(embedding_model="nomic") as client:
        add_facts(client)
        assert sorted(texts_of(server)) == sorted(FACTS)
        meant = client.search("which windows, flight or seat?", user_id="ann", search_mode="vector", top_k=1)
        both = client.search("which windows, flight or seat?", user_id="ann", top_k=1)
        assert [item.content for item in meant.profiles] == [item.content for item in both.profiles] == FACTS[:1]
        assert (meant.search_mode_effective, both.search_mode_effective) == ("vector", "hybrid")
        assert not (meant.degraded or both.degraded)
        assert {body["model"] for body in server.embedded} == {"nomic"}


@pytest.mark.parametrize(
    "broken",
    [
        *(ScriptedError(500), ScriptedError(429, "slow down", {"Retry-After": "30"}), ScriptedError(401, "bad key")),
        *("this is no JSON", {"nonsense": True}, {"object": "list", "data": [], "model": "m", "usage": {}}),
        ScriptedDelay(30.0),
    ],
    ids=["500", "429", "401", "no JSON", "nonsense", "empty", "hangs"],
)
def test_an_outage_degrades_to_full_text_within_the_time_limit(
    server: ScriptedModelServer, make: Callable[..., ReflexioClient], broken: Broken
) -> None:
    """The words still find, the answer says so, and the agent's recall is not late."""
    with raise_internal_errors(enabled=False), make(recall_timeout=0.5, embedding_timeout=0.2) as client:
        add_facts(client)
        server.embeddings = broken
        answer = client.search("chess on Sunday", user_id="ann")
        assert answer.profiles[0].content == FACTS[2]
        assert (answer.search_mode_effective, answer.degraded) == ("fts", True)
        late = client.stats().get("recalls_late", 0)
        found = client.recall("do you play chess on Sunday?", user_id="ann")
        assert FACTS[2] in [item.content for item in found.learnings] and not found.reason
        assert client.stats().get("recalls_late", 0) == late
        server.close()


def test_an_endpoint_that_asks_for_rest_is_left_alone(
    server: ScriptedModelServer, make: Callable[..., ReflexioClient]
) -> None:
    """As long as it says; what was asked meanwhile is answered by full text."""
    with raise_internal_errors(enabled=False), make() as client:
        server.embeddings = ScriptedError(429, "slow down", {"Retry-After": "600"})
        add_facts(client)
        asked = len(server.embedded)
        for _ in range(5):
            assert client.search("chess", user_id="ann").degraded
        assert len(server.embedded) == asked == 1


def test_a_wrong_key_is_one_clear_line(
    server: ScriptedModelServer, make: Callable[..., ReflexioClient], caplog: pytest.LogCaptureFixture
) -> None:
    """However often it is refused."""
    server.embeddings = ScriptedError(401, "Incorrect API key provided")
    with caplog.at_level(logging.WARNING, "reflexio_middleware"), make(embedding_model="shut") as client:
        add_facts(client)
        for number in range(3):
            client.search(f"chess {number}", user_id="ann")
    [line] = [record.getMessage() for record in caplog.records if "shut" in record.getMessage()]
    assert "Incorrect API key" in line and "embedding_api_key" in line and "full text" in line


def test_another_model_or_dimension_embeds_anew_and_never_mixes(
    server: ScriptedModelServer, make: Callable[..., ReflexioClient], tmp_path: Any
) -> None:
    """Each text once for each model; a search meets the vectors of its own model alone."""
    home = f"sqlite:///{tmp_path / 'memory.db'}"
    with make(home, embedding_model="one") as client:
        add_facts(client)
    for settings in ({"embedding_model": "two"}, {"embedding_model": "two", "embedding_dimension": 32}):
        server.embedded.clear()
        with make(home, **settings) as client:
            client.flush()
            assert sorted(texts_of(server)) == sorted(FACTS)
            answer = client.search("two horses", user_id="ann", search_mode="vector", top_k=1)
            assert answer.profiles[0].content == FACTS[1] and not answer.degraded
            assert {body.get("dimensions") for body in server.embedded} == {settings.get("embedding_dimension")}


def test_vectors_of_another_size_than_asked_for_are_refused(server: ScriptedModelServer) -> None:
    """And fewer than there were texts."""
    data = [{"object": "embedding", "index": 0, "embedding": [1.0, 0.0]}]
    server.embeddings = {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}}
    embedder = OpenAIEmbedder("m", base_url=server.base_url, dimension=3)
    with pytest.raises(InvalidInputError, match="of 3 numbers"):
        embedder.embed(["tea"])
    with pytest.raises(InvalidInputError, match="not 2 vectors"):
        embedder.embed(["tea", "horse"])
    embedder.close()


def test_a_size_that_changes_behind_a_name_finds_nothing_by_meaning(
    server: ScriptedModelServer, make: Callable[..., ReflexioClient]
) -> None:
    """No error and no nonsense; the words find on."""
    with make() as client:
        add_facts(client)
        server.dimension = 16
        assert client.search("horses", user_id="ann", search_mode="vector").profiles == []
        assert client.search("horses", user_id="ann").profiles[0].content == FACTS[1]


def test_batches_are_bounded_and_texts_cut(server: ScriptedModelServer, make: Callable[..., ReflexioClient]) -> None:
    """However much there is."""
    with make() as client:
        client.add_user_profile([{"user_id": "ann", "content": f"fact {n} " + "long " * 2000} for n in range(100)])
        until(lambda: client.flush().complete and len(texts_of(server)) == 100)
    assert max(len(body["input"]) for body in server.embedded) <= 32
    assert max(map(len, texts_of(server))) <= 2_000


def test_nothing_is_sent_of_a_user_who_is_deleted(
    server: ScriptedModelServer, make: Callable[..., ReflexioClient]
) -> None:
    """What waited for the endpoint is gone when that is back."""
    server.embeddings = ScriptedError(503, "away")
    with raise_internal_errors(enabled=False), make() as client:
        add_facts(client)
        client.clear_user_data("ann")
        server.embeddings = ""
        server.embedded.clear()
        client.add_user_profile([{"user_id": "bob", "content": "Drinks tea."}])
        until(lambda: client.flush() and texts_of(server))
    assert set(texts_of(server)) == {"Drinks tea."}


def refusing(word: str, status: int = 400) -> Callable[[dict[str, Any]], Broken]:
    """An endpoint that refuses every request in which a text has that word."""

    def answer(body: dict[str, Any]) -> Broken:
        return ScriptedError(status, "unprocessable input") if any(word in text for text in body["input"]) else ""

    return answer


@pytest.mark.parametrize("status", [400, 500])
def test_a_text_that_is_refused_does_not_keep_the_others_from_their_vectors(
    server: ScriptedModelServer, make: Callable[..., ReflexioClient], tmp_path: Any, status: int
) -> None:
    """It is set aside, counted and told by doctor; found by its words; and tried again with another model."""
    home = f"sqlite:///{tmp_path / 'memory.db'}"
    server.embeddings = refusing("horses", status)
    with raise_internal_errors(enabled=False), make(home, embedding_model="one") as client:
        before = client.stats().get("texts_refused", 0)
        add_facts(client)
        assert client.stats()["texts_refused"] == before + 1
        assert client.search("windows for a flight", user_id="ann", search_mode="vector").profiles
        assert client.search("horses", user_id="ann", search_mode="fts").profiles[0].content == FACTS[1]
        [finding] = [item for item in client.store.check() if item.subject == "embeddings"]
        assert finding.level == "warning" and "1 texts were refused" in finding.message
        asked = len(server.embedded)
        client.flush()
        assert len(server.embedded) == asked
    server.embeddings = ""
    with make(home, embedding_model="two") as client:
        client.flush()
        nearest = client.search("two horses", user_id="ann", search_mode="vector", top_k=1).profiles
        assert [item.content for item in nearest] == [FACTS[1]]
        assert not [item for item in client.store.check() if item.subject == "embeddings"]


def test_among_many_the_refused_one_is_found_with_few_requests(
    server: ScriptedModelServer, make: Callable[..., ReflexioClient]
) -> None:
    """By halves."""
    server.embeddings = refusing("number 17.")
    with raise_internal_errors(enabled=False), make() as client:
        client.add_user_profile([{"user_id": "ann", "content": f"Keeps item number {n}."} for n in range(32)])
        client.flush()
        assert len(server.embedded) <= 2 + 2 * 5 + 1
        assert len(client.search("item", user_id="ann", search_mode="vector", top_k=100).profiles) == 31


def nothing_is_set_aside(server: ScriptedModelServer, make: Callable[..., ReflexioClient]) -> None:
    """While the endpoint answers as it does; and once it is mended, all is embedded."""
    with raise_internal_errors(enabled=False), make() as client:
        before = client.stats().get("texts_refused", 0)
        add_facts(client)
        assert client.stats().get("texts_refused", 0) == before
        server.embeddings = ""
        until(lambda: client.flush() and client.search("horses", user_id="ann", search_mode="vector").profiles)


def test_an_endpoint_that_breaks_while_parts_are_tried_sets_nothing_aside(
    server: ScriptedModelServer, make: Callable[..., ReflexioClient]
) -> None:
    """What it did not answer is no refusal of a text."""

    def answer(body: dict[str, Any]) -> Broken:
        broken = len(server.embedded) > 2 or any("horses" in text for text in body["input"])
        return ScriptedError(500, "internal error") if broken else ""

    server.embeddings = answer
    nothing_is_set_aside(server, make)


def test_an_endpoint_that_refuses_everything_sets_nothing_aside(
    server: ScriptedModelServer, make: Callable[..., ReflexioClient]
) -> None:
    """Such as a wrong model: the texts wait until it is mended."""
    server.embeddings = ScriptedError(400, "no such model")
    nothing_is_set_aside(server, make)


def test_a_missing_key_is_an_error_that_says_so() -> None:
    """When the client is made, not later."""
    with pytest.raises(InvalidInputError, match="embedding_api_key"):
        ReflexioClient("sqlite://", embedder="openai")
