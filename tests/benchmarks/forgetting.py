"""Forgetting against a model of what should remain: ``python tests/benchmarks/forgetting.py [USERS]``.

Random turns, learning from them, shared rules, and deletes of requests, sessions and users; then everything that is
stored is compared with what a plain model of the same steps says. Residues are what should be gone; wrongly removed is
what should be there.
"""

from __future__ import annotations

import platform
import random
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from reflexio_store.contract import Change, Receipt, Store
from reflexio_store.homes import open_store
from reflexio_store.models import Evidence, GetRequestsRequest, LearningQuery, Status, UserProfile
from reflexio_store.records import InteractionRecord, TurnRecord

EVERY = [None, *Status]


class Model:
    """A store, and what should be in it: requests by user and session, and which requests say which fact."""

    def __init__(self, store: Store, *, users: int, seed: int) -> None:
        self._store = store
        self._choose = random.Random(seed)
        self._users = [f"user-{number}" for number in range(users)]
        self.requests: dict[tuple[str, str], str] = {}  # (user, request): session
        self.facts: dict[tuple[str, str], set[str]] = defaultdict(set)  # (user, fact): requests
        self._made = 0
        self.receipts = Receipt()
        self.deletes = 0

    def step(self) -> None:
        """One random thing."""
        user = self._choose.choice(self._users)
        what = self._choose.random()
        mine = [request for owner, request in self.requests if owner == user] if what > 0.7 else []
        if what <= 0.7 or not mine:
            self._say(user)
        elif what < 0.9:
            self._delete_request(user, self._choose.choice(mine))
        elif what < 0.98:
            self._delete_session(user, self.requests[user, self._choose.choice(mine)])
        else:
            self._delete_user(user)

    def _say(self, user: str) -> None:
        self._made += 1
        request, session = f"r{self._made}", f"s{self._choose.randrange(4)}"
        facts = [f"Collects item{self._choose.randrange(6)} of {user}." for _ in range(self._choose.randrange(1, 4))]
        at_us = time.time_ns() // 1000
        said = [InteractionRecord("User", fact, at_us // 1_000_000) for fact in facts]
        self._store.add_turns([TurnRecord(request, user, session, "v1", "", at_us, said)])
        changes = [
            _adding(user, fact, Evidence(request_id=request, interaction_index=n)) for n, fact in enumerate(facts)
        ]
        self._store.apply(user, changes)
        self.requests[user, request] = session
        for fact in facts:
            self.facts[user, fact].add(request)

    def _delete_request(self, user: str, request: str) -> None:
        self._store.delete_requests([request], user_id=user)
        self._forget(user, {request})

    def _delete_session(self, user: str, session: str) -> None:
        self._store.delete_session(session, user_id=user)
        self._forget(user, {name for (owner, name), of in self.requests.items() if (owner, of) == (user, session)})

    def _delete_user(self, user: str) -> None:
        self._store.delete_user(user)
        self._forget(user, {name for owner, name in self.requests if owner == user})

    def _forget(self, user: str, requests: set[str]) -> None:
        self.deletes += 1
        for request in requests:
            del self.requests[user, request]
        for key in [key for key in self.facts if key[0] == user]:
            self.facts[key] -= requests
            if not self.facts[key]:
                del self.facts[key]

    def differences(self) -> list[str]:
        """What is stored and should not be ("residue ..."), and the other way round ("lost ...")."""
        found: list[str] = []
        for user in self._users:
            sessions = self._store.get_requests(GetRequestsRequest(user_id=user, top_k=1000)).sessions
            stored = {data.request.request_id for session in sessions for data in session.requests}
            found += _compared(f"request of {user}", stored, {name for owner, name in self.requests if owner == user})
            learnings = self._store.get_learnings("profile", LearningQuery(user_id=user, status_filter=EVERY))
            said = {
                _line(item.content, {each.request_id for each in item.evidence})
                for item in learnings
                if isinstance(item, UserProfile)
            }
            wanted = {_line(fact, requests) for (owner, fact), requests in self.facts.items() if owner == user}
            found += _compared(f"learning of {user}", said, wanted)
            told = {entry.request_id for entry in self._store.history("profile", user_id=user, limit=None)}
            found += [f"residue: history of {name}" for name in told if (user, name) not in self.requests]
        found += [f"{item.subject}: {item.message}" for item in self._store.check() if item.level == "error"]
        return found


def _adding(user: str, fact: str, evidence: Evidence) -> Change:
    return Change("add", "profile", UserProfile(user_id=user, content=fact), evidence=(evidence,))


def _line(fact: str, requests: set[str]) -> str:
    return f"{fact} <- {','.join(sorted(requests))}"


def _compared(what: str, stored: set[str], wanted: set[str]) -> list[str]:
    residues = [f"residue: {what} {name}" for name in sorted(stored - wanted)]
    return residues + [f"lost: {what} {name}" for name in sorted(wanted - stored)]


def main() -> None:
    """Print what differs."""
    users = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"sqlite:///{Path(folder) / 'memory.db'}")
        model = Model(store, users=users, seed=11)
        began = time.perf_counter()
        for _ in range(users * 10):
            model.step()
        took = time.perf_counter() - began
        found = model.differences()
        store.close()
    print(f"{platform.platform()}, Python {platform.python_version()}\n")
    print(f"{users} users, {users * 10} steps ({model.deletes} deletes) in {took:.1f} s")
    print(f"left: {len(model.requests)} requests, {len(model.facts)} learnings")
    residues = sum(line.startswith("residue") for line in found)
    lost = sum(line.startswith("lost") for line in found)
    print(f"residues {residues}, wrongly removed {lost}, faults of the store {len(found) - residues - lost}")
    for line in found[:20]:
        print(f"  {line}")


if __name__ == "__main__":
    main()
