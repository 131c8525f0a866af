"""What only the PostgreSQL home can get wrong: URLs, servers that cannot be reached, transactions that meet."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reflexio_store.contract import Change, Embeddable, Shared, Store
from reflexio_store.errors import InvalidInputError, ReflexioError, StoreUnavailableError, StoreURLError
from reflexio_store.homes import name_of, open_store
from reflexio_store.models import (
    AgentPlaybook,
    Evidence,
    GetRequestsRequest,
    LearningQuery,
    SearchInteractionRequest,
    UserPlaybook,
    UserProfile,
)
from reflexio_store.records import InteractionRecord, TurnRecord
from tests.store.conftest import wait_until
from tests.store.postgres import PASSWORD, USER, Server

MakeTurn = Callable[..., TurnRecord]


@pytest.fixture
def url(postgres: Server) -> Iterator[str]:
    """A database of this test, with our tables."""
    with postgres.database() as made:
        yield made


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """A home on it."""
    with closing(open_store(url)) as made:
        yield made


def at_once(*works: Callable[[], object]) -> None:
    """Do all of it at the same time, and raise what any of it raised."""
    failed: list[BaseException] = []
    line = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> None:
        try:
            line.wait()
            work()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def _waiting(url: str) -> int:
    """How many connections of ours wait for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'reflexio'"
    with psycopg.connect(url) as watcher:
        return int(watcher.execute(waiting).fetchall()[0][0])


def _hold_version(keeper: psycopg.Connection[Any], agent_version: str) -> None:
    """Keep others from the agent playbooks of a version, until the transaction ends."""
    held = hashlib.blake2b(f"agent version {agent_version}".encode(), digest_size=16).hexdigest()
    assert keeper.execute("SELECT FROM reflexio_hold WHERE owner = %s FOR UPDATE", (held,)).rowcount == 1


def errors_of(store: Store) -> list[str]:
    return [finding.message for finding in store.check() if finding.level == "error"]


class TestURLs:
    @pytest.mark.parametrize(
        "url",
        [
            *("postgresql://me:s3@cret@host/db", "postgresql://me:s3/cret@host/db", "postgresql://me:s3?cret@host/db"),
            *("postgresql://me:s3#cret@host/db", "postgresql://me:s3%cret@host/db", "postgresql://me:s3cret@host:x/db"),
            *("postgresql://me:s3cret@host/db?colour=red", "postgresql://host/db?password=s3cret&colour=red"),
            *(
                "postgres:/me:s3cret@host/db",
                "postgresql://me:s3cret@host/db?pool_size=many",
                "postgresq://me:s3cret@h",
            ),
            *("postgresql://me:s3:cret@host:5432:x/db", "postgresql+asyncpg://me:s3cret@host/db"),
        ],
    )
    def test_a_url_that_is_not_understood_is_refused_without_repeating_it(self, url: str) -> None:
        """Because the password may be in any part of it."""
        with pytest.raises(StoreURLError, match=r"postgresql://|pool_size") as caught:
            open_store(url)
        said = str(caught.value) + str(caught.value.__cause__)
        assert "s3" not in said and "cret" not in said

    @pytest.mark.parametrize(
        ("url", "name"),
        [
            ("postgres://me:s3cret@host:5432/db", "postgresql://me@host:5432/db"),
            ("postgresql+psycopg://me:s3cret@host:5432/db?pool_size=3", "postgresql://me@host:5432/db"),
            ("postgresql://me@host:5432/db?password=s3cret&sslmode=require", "postgresql://me@host:5432/db?sslmode=require"),
            ("postgresql:///db?host=/tmp/a&user=me", "postgresql:///db?host=%2Ftmp%2Fa&user=me"),
            ("postgresql://me:s3cret@a:1,b:2/db", "postgresql://me@a:1,b:2/db"),
        ],
    )  # fmt: skip
    def test_a_home_is_named_without_its_secrets(self, url: str, name: str) -> None:
        """One spelling for each, so that a new password leaves nothing behind in a spool."""
        assert name_of(url) == name

    def test_options_of_libpq_and_ours_are_taken(self, postgres: Server, url: str) -> None:
        """And other spellings of the scheme; the home says where it is, without the password."""
        given = url.replace("postgresql://", "postgres://") + "?sslmode=prefer&pool_size=2&application_name=mine"
        with closing(open_store(given)) as store:
            assert postgres.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mine'") == [(1,)]
            assert store.url == url.replace(f":{PASSWORD.replace(' ', '%20')}@", "@") + (
                "?application_name=mine&sslmode=prefer"
            )
            assert repr(store._database.dialect._place).count(PASSWORD) == 0  # type: ignore[attr-defined]

    def test_the_password_may_come_from_where_libpq_looks(
        self, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The environment, or the pgpass file."""
        bare = url.replace(f":{PASSWORD.replace(' ', '%20')}@", "@")
        with pytest.raises(StoreUnavailableError, match="PGPASSWORD"):
            open_store(bare)
        monkeypatch.setenv("PGPASSWORD", PASSWORD)
        open_store(bare).close()
        monkeypatch.delenv("PGPASSWORD")
        file = tmp_path / "pgpass"
        file.write_text(f"*:*:*:{USER}:{PASSWORD}\n")
        file.chmod(0o600)
        monkeypatch.setenv("PGPASSFILE", str(file))
        open_store(bare).close()

    def test_without_the_driver_the_command_is_told(self) -> None:
        """The exact one."""
        code = (
            "import sys; sys.modules['psycopg'] = None\n"
            "from reflexio_store.errors import MissingExtraError\n"
            "from reflexio_store.homes import open_store\n"
            "try: open_store('postgresql://me:s3cret@host/db')\n"
            "except MissingExtraError as error: print(error)"
        )
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert said == "A PostgreSQL store needs an optional package: pip install 'reflexio-middleware[postgres]'\n"


class TestUnavailable:
    @pytest.mark.parametrize(
        ("change", "advice"),
        [
            (lambda server, url: server.url("postgres", password="Wr0ng"), "check the user and the password"),
            (lambda server, url: server.url("no_such"), "create that database"),
            (lambda server, url: url.replace(str(server.port), "1"), "check host and port"),
            (lambda server, url: url.replace("127.0.0.1", "no-such.invalid"), "check host and port"),
            (lambda server, url: f"{url}?sslmode=require", "sslmode"),
        ],
    )
    def test_what_cannot_be_reached_says_why_and_how_to_mend_it(
        self, postgres: Server, url: str, change: Callable[[Server, str], str], advice: str
    ) -> None:
        """Never with the password."""
        with pytest.raises(StoreUnavailableError, match=advice) as caught:
            open_store(change(postgres, url))
        assert not {"Wr0ng", PASSWORD, "s3cret"} & set(str(caught.value).split())
        assert "s3cret" not in str(caught.value) + str(caught.value.__cause__)

    def test_a_user_without_the_right_to_make_tables_is_told(self, postgres: Server) -> None:
        """And one with it makes them."""
        postgres.sql("CREATE ROLE guest LOGIN PASSWORD 'guest word'")
        with postgres.database(template="template1") as url:
            theirs = url.replace(f"{USER}:{PASSWORD.replace(' ', '%20')}", "guest:guest%20word")
            with pytest.raises(StoreUnavailableError, match="grant CREATE"):
                open_store(theirs)
            postgres.sql("GRANT CREATE ON SCHEMA public TO guest", url.rpartition("/")[2])
            open_store(theirs).close()
            postgres.sql(f"ALTER DATABASE {url.rpartition('/')[2]} CONNECTION LIMIT 0")
            with pytest.raises(StoreUnavailableError, match="pool_size"):
                open_store(theirs)
        postgres.sql("DROP ROLE guest")

    def test_a_database_of_another_encoding_is_refused(self, postgres: Server) -> None:
        """It could not hold every text."""
        with (
            postgres.database(template="template0", options="ENCODING 'LATIN1'") as url,
            pytest.raises(StoreUnavailableError, match="UTF8"),
        ):
            open_store(url)

    def test_a_replica_can_be_read_and_says_that_it_cannot_be_written(self, postgres: Server, url: str) -> None:
        """Turns wait until the primary is named."""
        postgres.sql(f"ALTER DATABASE {url.rpartition('/')[2]} SET default_transaction_read_only = on")
        with closing(open_store(url)) as store:
            assert store.counts()["requests"] == 0
            with pytest.raises(StoreUnavailableError, match="name the primary"):
                store.add_turns([TurnRecord("r", "ada", "s", "v", "", 1, [])])

    def test_a_statement_that_takes_too_long_is_unavailable(self, url: str, turn: MakeTurn) -> None:
        """Nothing is stored of it."""
        with (
            closing(open_store(f"{url}?options=-c%20statement_timeout%3D50")) as store,
            psycopg.connect(url) as holder,
        ):
            holder.execute("LOCK TABLE reflexio_request IN EXCLUSIVE MODE")
            with pytest.raises(StoreUnavailableError, match="statement_timeout"):
                store.add_turns([turn()])
            holder.rollback()
            assert store.add_turns([turn()]) == 1

    def test_more_threads_than_connections_take_turns(self, url: str, turn: MakeTurn) -> None:
        """None fails."""
        with closing(open_store(f"{url}?pool_size=1")) as store:
            at_once(*[lambda number=number: store.add_turns([turn(session_id=f"s{number}")]) for number in range(12)])
            assert store.counts()["requests"] == 12

    def test_a_store_goes_on_after_its_server_was_restarted(self, turn: MakeTurn) -> None:
        """While it is down each call says so; afterwards they work, with no store opened anew."""
        with Server() as server, closing(open_store(server.url())) as store:
            assert store.add_turns([turn()]) == 1
            server.stop()
            for _ in range(2):
                with pytest.raises(StoreUnavailableError, match=r"try again|check host"):
                    store.add_turns([turn()])
            server.start()
            assert store.add_turns([turn()]) == 1
            assert store.counts()["requests"] == 2

    def test_connections_that_are_cut_while_nobody_uses_them_are_made_anew(
        self, postgres: Server, store: Store, turn: MakeTurn
    ) -> None:
        """No call notices."""
        at_once(*[lambda number=number: store.add_turns([turn(session_id=f"s{number}")]) for number in range(4)])
        name = store.url.rpartition("/")[2]
        theirs = f"FROM pg_stat_activity WHERE datname = '{name}'"
        postgres.sql(f"SELECT pg_terminate_backend(pid, 10000) {theirs}")
        assert postgres.sql(f"SELECT count(*) {theirs}") == [(0,)]
        at_once(*[lambda number=number: store.add_turns([turn(session_id=f"s{number}")]) for number in range(4)])
        assert store.counts()["requests"] == 8

    def test_a_connection_that_is_cut_while_it_is_used_loses_nothing_silently(self, url: str, turn: MakeTurn) -> None:
        """The call says so, and the next one works."""
        with closing(open_store(url)) as store, psycopg.connect(url, autocommit=True) as other:
            other.execute("BEGIN; LOCK TABLE reflexio_interaction IN EXCLUSIVE MODE")
            waiting = (
                "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'reflexio'"
            )
            stored: list[object] = []

            def store_it() -> None:
                try:
                    stored.append(store.add_turns([turn()]))
                except ReflexioError as error:
                    stored.append(error)

            thread = threading.Thread(target=store_it)
            thread.start()
            with psycopg.connect(url, autocommit=True) as watcher:
                wait_until(lambda: bool(watcher.execute(waiting).fetchall()))
                watcher.execute(f"SELECT pg_terminate_backend(pid) FROM ({waiting}) AS them")  # type: ignore[call-overload]
            thread.join()
            other.execute("ROLLBACK")
            assert isinstance(stored[0], StoreUnavailableError)
            assert store.add_turns([turn()]) == 1 and store.counts()["requests"] == 1


class TestTransactionsThatMeet:
    """Two homes on one database are what two processes are."""

    def test_large_batches_with_known_turns_among_them_are_stored_once(
        self, store: Store, other: Store, turn: MakeTurn
    ) -> None:
        """In whatever order, also where both send them at the same time."""
        turns = [turn(session_id=f"s{number % 5}") for number in range(300)]
        assert store.add_turns(turns[40:120]) == 80
        stored: list[int] = []
        at_once(
            lambda: stored.append(store.add_turns(turns)),
            lambda: stored.append(other.add_turns(turns[::-1])),
            lambda: stored.append(store.add_turns(turns[100:])),
        )
        assert sum(stored) == 220 and store.counts()["interactions"] == 600
        assert errors_of(store) == []

    @pytest.fixture
    def other(self, url: str) -> Iterator[Store]:
        with closing(open_store(url)) as made:
            yield made

    def test_a_session_is_counted_right_while_it_is_deleted_and_told(
        self, store: Store, other: Store, turn: MakeTurn
    ) -> None:
        """Whatever is left of it, its session says so."""

        def tell() -> None:
            for _ in range(60):
                store.add_turns([turn(), turn(session_id="s2")])

        def forget() -> None:
            for _ in range(40):
                other.delete_session("s1", user_id="ada")

        at_once(tell, tell, forget, forget)
        assert errors_of(store) == []
        assert store.counts()["sessions"] == (2 if store.read_session("ada", "s1") else 1)

    def test_nothing_is_learned_from_what_is_deleted_meanwhile(
        self, store: Store, other: Store, turn: MakeTurn
    ) -> None:
        """A learning never outlives its last evidence."""
        turns = [turn(session_id=f"s{number}") for number in range(30)]
        store.add_turns(turns)

        def learn() -> None:
            for number, told in enumerate(turns):
                fact = UserProfile(user_id="ada", content=f"fact number {number}")
                store.apply("ada", [Change("add", "profile", fact, evidence=(Evidence(request_id=told.request_id),))])

        def forget() -> None:
            for told in turns:
                other.delete_session(told.session_id, user_id="ada")

        at_once(learn, forget)
        assert store.counts()["profiles"] == 0 and errors_of(store) == []

    def test_two_that_learn_the_same_at_once_keep_it_once(self, store: Store, other: Store, turn: MakeTurn) -> None:
        """Of one slot one value is current."""
        turns = [turn(session_id=f"s{number}") for number in range(20)]
        store.add_turns(turns)

        def learn(home: Store) -> None:
            for number, told in enumerate(turns):
                name = UserProfile(user_id="ada", content=f"Name: {number % 3}", tags=["slot:name"])
                home.apply("ada", [Change("add", "profile", name, evidence=(Evidence(request_id=told.request_id),))])

        at_once(lambda: learn(store), lambda: learn(other))
        [current] = store.get_learnings("profile", LearningQuery(user_id="ada"))
        assert current.content == "Name: 1"
        assert store.counts()["profiles"] == len(turns)

    def test_messages_are_indexed_once_however_many_search(self, store: Store, other: Store, turn: MakeTurn) -> None:
        """And those that are deleted meanwhile are not indexed."""
        store.add_turns([turn("the zebra", "runs", session_id=f"s{number % 10}") for number in range(200)])
        query = SearchInteractionRequest(user_id="ada", query="zebra")
        at_once(
            lambda: store.search_interactions(query),
            lambda: other.search_interactions(query),
            lambda: [other.delete_session(f"s{number}") for number in range(5)],
        )
        assert _index_size(store) == 200
        store.delete_user("ada")
        assert _index_size(store) == 0

    def test_deletes_of_many_users_in_any_order_come_to_an_end(
        self, store: Store, other: Store, turn: MakeTurn
    ) -> None:
        """Two that wait for each other are told apart by the database, and one of them begins anew."""
        turns = [turn(user_id=f"u{number % 7}", session_id=f"s{number}") for number in range(140)]
        store.add_turns(turns)
        names = [told.request_id for told in turns]
        at_once(lambda: store.delete_requests(names), lambda: other.delete_requests(names[::-1]))
        assert {name: count for name, count in store.counts().items() if count} == {"erasures": 140}

    @pytest.mark.parametrize("what", ["request", "session", "user", "all"])
    def test_a_turn_that_is_being_stored_while_it_is_deleted_does_not_stay(
        self, store: Store, other: Store, url: str, turn: MakeTurn, what: str
    ) -> None:
        """The delete waits for those who began to store before it was noted, though the first of their turns waits."""
        store.add_turns([turn(user_id="a", session_id="s2")])
        deletes: dict[str, Callable[[], object]] = {
            "request": lambda: other.delete_requests(["r1"]),
            "session": lambda: other.delete_session("s1"),
            "user": lambda: other.delete_user("ada"),
            "all": lambda: other.delete_requests(None),
        }
        waiting = [turn(user_id="a", session_id="s2"), turn(request_id="r1")]
        with psycopg.connect(url) as keeper:
            keeper.execute("SELECT FROM reflexio_session WHERE user_id = 'a' FOR UPDATE")
            storing = threading.Thread(target=store.add_turns, args=(waiting,))
            storing.start()
            wait_until(lambda: _waiting(url) == 1)
            deleting = threading.Thread(target=deletes[what])
            deleting.start()
            wait_until(lambda: _waiting(url) == 2 or not deleting.is_alive())
            keeper.rollback()
            storing.join()
            deleting.join()
        assert store.read_session("ada", "s1") == []
        assert len(store.read_session("a", "s2")) == (0 if what == "all" else 2)

    @pytest.mark.parametrize("change", ["add", "import", "update", "delete"])
    def test_an_agent_playbook_is_left_alone_while_it_is_noted_what_those_of_its_version_rest_on(
        self, store: Store, other: Store, url: str, change: str
    ) -> None:
        """Whoever changes one by hand waits."""
        known = AgentPlaybook(agent_version="v1", agent_playbook_id=7, content="Be brief.")
        store.add_learnings([known])
        store.share("v1", [], least=2, approve=True)
        changes: dict[str, Callable[[], object]] = {
            "add": lambda: other.add_learnings([known]),
            "import": lambda: other.put_records([known.model_copy(update={"content": "Be short."})]),
            "update": lambda: other.update_learning("agent_playbook", "7", {"content": "Be short."}),
            "delete": lambda: other.delete_learnings("agent_playbook", ["7"]),
        }
        with psycopg.connect(url) as keeper:
            _hold_version(keeper, "v1")
            changing = threading.Thread(target=changes[change])
            changing.start()
            wait_until(lambda: _waiting(url) == 1)
            keeper.rollback()
            changing.join()

    def test_a_user_is_deleted_beside_others_who_shared_a_rule(
        self, store: Store, other: Store, url: str, turn: MakeTurn
    ) -> None:
        """Whoever holds a version and asks that agreement be looked for in it is not waited for while they wait."""
        playbooks = [UserPlaybook(user_id=name, agent_version="v1", content="Be brief.") for name in ("ada", "bob")]
        store.add_learnings(playbooks)
        voices = frozenset(voice.supporter for voice in store.voices("v1"))
        rule = AgentPlaybook(agent_version="v1", agent_playbook_id=0, content="Be brief.")
        assert store.share("v1", [Shared(rule, voices)], least=2, approve=True).added == 1
        store.put_job("aggregate", "v1", payload={"asked": True})
        with psycopg.connect(url) as keeper:
            _hold_version(keeper, "v1")
            deleting = threading.Thread(target=other.delete_user, args=("ada",))
            deleting.start()
            wait_until(lambda: _waiting(url) == 1)
            keeper.execute("SELECT FROM reflexio_job WHERE kind = 'aggregate' FOR UPDATE NOWAIT")
            keeper.rollback()
            deleting.join()

    def test_a_user_who_is_deleted_leaves_not_even_a_name(self, store: Store, url: str, turn: MakeTurn) -> None:
        """In any table of ours."""
        store.add_turns([turn("hello", user_id="ada lovelace")])
        store.add_learnings([UserProfile(user_id="ada lovelace", content="counts")])
        store.search_interactions(SearchInteractionRequest(user_id="ada lovelace", query="hello"))
        store.delete_user("ada lovelace")
        with psycopg.connect(url) as connection:
            tables = connection.execute("SELECT tablename FROM pg_tables WHERE tablename LIKE 'reflexio_%'").fetchall()
            for (table,) in tables:
                rows = connection.execute(f"SELECT t::text FROM {table} AS t").fetchall()  # type: ignore[call-overload]
                assert "lovelace" not in str(rows), table

    def test_no_vector_outlives_its_text(self, store: Store, other: Store, url: str) -> None:
        """However the thread that embeds and the delete meet."""
        assert isinstance(store, Embeddable)
        users = [f"user {number}" for number in range(40)]
        store.add_learnings([UserProfile(user_id=user, content=f"fact {at}") for user in users for at in range(3)])
        lacking = [item.number for item in store.unembedded("m", limit=200)]

        def embed() -> None:
            for start in range(0, len(lacking), 6):
                store.put_vectors("m", {number: [1.0, 0.0] for number in lacking[start : start + 6]})

        def forget() -> None:
            for user in users[::-1]:
                other.delete_user(user)

        at_once(embed, forget)
        with psycopg.connect(url) as connection:
            for table in ("reflexio_vector", "reflexio_vectors", "reflexio_document"):
                assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table

    def test_a_worker_passes_by_a_job_that_another_is_taking(self, store: Store, url: str, turn: MakeTurn) -> None:
        """It does not wait."""
        for name in ("first", "second"):
            store.add_turns([turn(session_id=name)])
        with psycopg.connect(url) as holder:
            holder.execute("SELECT 1 FROM reflexio_job WHERE key = 'first' FOR UPDATE")
            job = store.claim_job("learn", lease_seconds=60)
            assert job is not None and job.key == "second"

    def test_workers_of_many_machines_share_the_jobs(self, store: Store, other: Store, turn: MakeTurn) -> None:
        """Each is done once."""
        store.add_turns([turn(session_id=f"s{number}") for number in range(60)])
        done: list[str] = []

        def work(home: Store) -> None:
            while (job := home.claim_job("learn", lease_seconds=60)) is not None:
                done.append(job.key)
                assert home.finish_job(job, {})

        at_once(*[lambda home=home: work(home) for home in (store, other) * 4])
        assert sorted(done) == sorted(f"s{number}" for number in range(60))


class TestValues:
    def test_a_nul_is_replaced_and_loses_no_turn(self, store: Store, turn: MakeTurn) -> None:
        """In texts, keys and values of JSON, and learnings; an odd neighbour is stored as well."""
        odd = turn("a\x00b", "\ud83d", session_id="s\x00", metadata={"k\x00": ["\x00", "\\u0000"]})
        odd.interactions[0].tools_used = [{"tool_name": "t", "tool_data": {"input": "\x00", "n": float("nan")}}]
        assert store.add_turns([odd, turn("good", session_id="s\ufffd")]) == 2
        first, second = store.read_session("ada", "s\ufffd")
        assert [item.content for item in first.interactions] == ["a\ufffdb", "\ufffd"]
        assert first.request.metadata == {"k\ufffd": ["\ufffd", "\\u0000"]}
        assert first.interactions[0].tools_used[0].tool_data == {"input": "\ufffd", "n": None}
        assert second.interactions[0].content == "good"
        store.add_learnings([UserProfile(user_id="ada", content="a\x00b", custom_features={"\x00": "\x00"})])
        [found] = store.get_learnings("profile", LearningQuery(user_id="ada"))
        assert found.content == "a\ufffdb"

    @pytest.mark.parametrize("name", ["half \ud83d pair", "nul \x00"])
    def test_a_name_that_cannot_be_stored_cannot_be_asked_for(self, store: Store, name: str) -> None:
        """It is refused."""
        with pytest.raises(InvalidInputError, match="mend it"):
            store.read_session(name, "s1")

    def test_times_beyond_64_bits_do_not_lose_the_turn(self, store: Store, turn: MakeTurn) -> None:
        """They are bounded."""
        odd = turn()
        odd.interactions = [InteractionRecord("User", "hello", created_at=10**30)]
        assert store.add_turns([odd]) == 1

    def test_an_id_that_is_too_long_for_an_index_is_refused_alone(self, store: Store) -> None:
        """A spool sets such a turn aside, and its neighbours go on."""
        with pytest.raises(InvalidInputError, match="too long"):
            store.add_turns([TurnRecord("r", "u", "".join(map(chr, range(256, 9000))), "v", "", 1, [])])

    def test_names_are_sorted_as_on_sqlite(self, store: Store, turn: MakeTurn) -> None:
        """By code points, whatever the locale of the server."""
        names = ["a", "B", "\u00e4", "b", "A", "\U0001f600", "_", "-"]
        store.add_turns([turn(session_id=name, at=1000) for name in names])
        listed = [item.session_id for item in store.get_requests(GetRequestsRequest()).sessions]
        assert listed == sorted(names, reverse=True)
        collations = {("C",)}
        assert set(_sql(store, "SELECT collation_name FROM information_schema.columns WHERE table_name LIKE "
                               "'reflexio_%%' AND data_type IN ('character varying', 'text') "
                               "AND table_name <> 'reflexio_alembic_version'")) == collations  # fmt: skip


class TestHealth:
    def test_a_check_tells_of_the_server(self, store: Store) -> None:
        """Its version and encoding, and whether vectors could be searched there."""
        found = {finding.subject: (finding.level, finding.message) for finding in store.check()}
        assert found["encoding"] == ("ok", "UTF8")
        assert found["postgresql"][1].startswith("PostgreSQL 1")
        assert found["pgvector"][0] == "ok"


def _sql(store: Store, statement: str) -> list[tuple[Any, ...]]:
    database = store._database  # type: ignore[attr-defined]
    with database.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(statement)]


def _index_size(store: Store) -> int:
    return int(_sql(store, "SELECT count(*) FROM reflexio_interaction_words")[0][0])
