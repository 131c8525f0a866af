"""What the server keeps: rows as JSON in a SQLite database, in memory or in a file; each write commits before it is
answered."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_TABLES = {
    "requests": "request_id TEXT PRIMARY KEY, user_id TEXT, session_id TEXT, created_at INTEGER, body TEXT",
    "interactions": "interaction_id INTEGER PRIMARY KEY AUTOINCREMENT, request_id TEXT, user_id TEXT, body TEXT",
    "profiles": "profile_id TEXT PRIMARY KEY, user_id TEXT, body TEXT",
    "user_playbooks": "user_playbook_id INTEGER PRIMARY KEY AUTOINCREMENT, user_id TEXT, body TEXT",
    "agent_playbooks": "agent_playbook_id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT",
}
KEYS = {"profiles": "profile_id", "user_playbooks": "user_playbook_id", "agent_playbooks": "agent_playbook_id"}


class Data:
    """A small store of rows; thread-safe."""

    def __init__(self, path: str | None) -> None:
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
        if path:
            self._connection.execute("PRAGMA journal_mode=WAL")
        for name, columns in _TABLES.items():
            self._connection.execute(f"CREATE TABLE IF NOT EXISTS {name} ({columns})")
        self._connection.execute("CREATE INDEX IF NOT EXISTS by_request ON interactions (request_id)")

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a query finds."""
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def add_request(self, request: dict[str, Any], interactions: list[dict[str, Any]]) -> bool:
        """Store a request with its interactions, unless its id is known."""
        with self.write() as connection:
            values = (*(request[name] for name in ("request_id", "user_id", "session_id", "created_at")),
                      json.dumps(request))  # fmt: skip
            if not connection.execute("INSERT OR IGNORE INTO requests VALUES (?,?,?,?,?)", values).rowcount:
                return False
            connection.executemany(
                "INSERT INTO interactions (request_id, user_id, body) VALUES (?,?,?)",
                [(request["request_id"], request["user_id"], json.dumps(item)) for item in interactions],
            )
            return True

    def requests(self, **equal: str | None) -> list[dict[str, Any]]:
        """Requests by equal columns, in the order of their arrival."""
        given = {name: value for name, value in equal.items() if value is not None}
        where = " AND ".join(f"{name} = ?" for name in given) or "1"
        found = self.rows(f"SELECT body FROM requests WHERE {where} ORDER BY rowid", *given.values())
        return [json.loads(body) for (body,) in found]

    def interactions(self, **equal: str) -> list[dict[str, Any]]:
        """Interactions by equal columns, in the order of their arrival."""
        where = " AND ".join(f"{name} = ?" for name in equal) or "1"
        sql = (
            f"SELECT interaction_id, request_id, user_id, body FROM interactions WHERE {where} ORDER BY interaction_id"
        )
        return [
            {**json.loads(body), "interaction_id": number, "request_id": request_id, "user_id": user_id}
            for number, request_id, user_id, body in self.rows(sql, *equal.values())
        ]

    def delete_requests(self, request_ids: list[str]) -> int:
        """Delete requests with their interactions; how many there were."""
        with self.write() as connection:
            names = [(name,) for name in request_ids]
            connection.executemany("DELETE FROM interactions WHERE request_id = ?", names)
            return connection.executemany("DELETE FROM requests WHERE request_id = ?", names).rowcount

    def delete_interaction(self, user_id: str, interaction_id: int) -> None:
        """Delete one message of a user."""
        with self.write() as connection:
            which = "user_id = ? AND interaction_id = ?"
            connection.execute(f"DELETE FROM interactions WHERE {which}", (user_id, interaction_id))

    def learnings(self, table: str) -> list[dict[str, Any]]:
        """All rows of a kind, in the order of their arrival."""
        found = self.rows(f"SELECT {KEYS[table]}, body FROM {table} ORDER BY rowid")
        return [{**json.loads(body), KEYS[table]: key} for key, body in found]

    def put_learning(self, table: str, row: dict[str, Any]) -> None:
        """Store or replace a row; a profile's id is global, so it is taken over from whoever had it (measured)."""
        key = KEYS[table]
        body = json.dumps(row)
        with self.write() as connection:
            owner = () if table == "agent_playbooks" else (row.get("user_id"),)
            names = [key, *(["user_id"] if owner else []), "body"]
            marks = ",".join("?" * len(names))
            connection.execute(
                f"INSERT OR REPLACE INTO {table} ({','.join(names)}) VALUES ({marks})", (row.get(key), *owner, body)
            )

    def delete_learnings(self, table: str, keys: list[Any]) -> int:
        """Delete rows; how many there were."""
        with self.write() as connection:
            names = [(key,) for key in keys]
            return connection.executemany(f"DELETE FROM {table} WHERE {KEYS[table]} = ?", names).rowcount

    def ranked(self, query: str, texts: list[str]) -> list[int]:
        """Places of the texts that match, best first, by FTS5 with Porter's stemmer: tokens ORed, operators not quoted,
        texts without spaces by their characters (measured)."""
        table = "CREATE VIRTUAL TABLE f USING fts5(t, tokenize='porter unicode61')"
        connection = sqlite3.connect(":memory:")
        try:
            connection.execute(table)
            connection.executemany("INSERT INTO f (rowid, t) VALUES (?,?)", enumerate(map(_apart, texts), 1))
            words = [word if word in ("AND", "OR", "NOT") else f'"{word}"' for word in _words(_apart(query))]
            expression = " OR ".join(words)
            found = connection.execute("SELECT rowid FROM f WHERE f MATCH ? ORDER BY rank", (expression,)).fetchall()
        except sqlite3.OperationalError:  # "NOT" OR ...: no expression; the server finds nothing
            return []
        finally:
            connection.close()
        return [place - 1 for (place,) in found]

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._connection.close()


def _apart(text: str) -> str:
    return "".join(f" {sign} " if sign >= "\u0e00" else sign for sign in text)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text) or ["-"]
