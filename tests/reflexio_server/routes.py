"""What each route does, as it was measured on the public server."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

from . import validation as check
from .data import Data
from .validation import RefusedError

Body = dict[str, Any]
_HIDDEN = ("citations", "image_encoding")
_TOMBSTONES = ("merged", "superseded")
_PROFILE = ("profile_id", "user_id", "content", "last_modified_timestamp", "generated_from_request_id")
_AGENT_FIELDS = (
    "agent_version",
    "playbook_name",
    "content",
    "trigger",
    "rationale",
    "playbook_status",
    "playbook_metadata",
)

_PLAYBOOK = ("agent_version", "playbook_name")
_COLUMNS = {
    "profiles": ("user_id", "source", "profile_time_to_live", "profile_id"),
    "user_playbooks": (*_PLAYBOOK, "user_id", "source", "user_playbook_id", "request_id"),
    "agent_playbooks": (*_PLAYBOOK, "agent_playbook_id"),
}


class Routes:
    """The routes over some data.

    Args:
        data: What is kept.
        clock: The time in epoch seconds, asked once for each thing that is stored.
        learning: Status and reason that ``/api/learning_status`` answers with.
    """

    def __init__(self, data: Data, clock: Callable[[], int], learning: tuple[str, str]) -> None:
        self.data = data
        self.clock = clock
        self.learning = learning
        self.finalized: list[Body] = []
        self.published: list[Body] = []
        """The bodies that were stored, as they came."""
        self.outcomes: dict[str, Body] = {}
        self.degraded = False
        self.ignores_filters = False
        """Answer every list and search of learnings with everything."""
        self.finds_by_meaning = False
        """Find also what has none of the words, after what has some: a vector is near to another, more or less."""

    def publish_interaction(self, body: Body) -> Body:
        """Stores a request once; a known id is refused with status 200, and without the id in the answer."""
        checked, warnings = check.publish(body)
        request_id = checked.get("request_id") or str(uuid.uuid4())
        names = ("evaluation_only", "retrieval_experiment_id", "retrieval_experiment_arm")
        request = {
            "request_id": request_id,
            "user_id": checked["user_id"].strip(),
            "session_id": checked["session_id"].strip(),
            "created_at": self.clock(),
            "source": checked.get("source") or "",
            "agent_version": checked.get("agent_version") or "agent-v0",
            **{name: checked[name] for name in names if checked.get(name)},
        }
        if not self.data.add_request(request, checked["interaction_data_list"]):
            return {"success": False, "message": f"request_id {request_id!r} already exists"}
        self.published.append(body)
        answer = {"success": True, "message": "Stored", "request_id": request_id, "warnings": warnings}
        return {**answer, "learning_status": "deferred", "learning_reason": "waiting_for_window"}

    def get_requests(self, body: Body) -> Body:
        """Sessions over all users; ``has_more`` whenever the page is full."""
        start, end = check.window(body)
        source = check.source(body)
        size = check.number(body, "top_k", 30) or 100
        offset = check.number(body, "offset", 0, least=0) or 0
        names = ("user_id", "request_id", "session_id")
        found = [
            item
            for item in self.data.requests(**{name: check.text(body, name) for name in names})
            if (source is None or item["source"] == source) and _within(item["created_at"], start, end)
        ]
        sessions: dict[str, list[Body]] = {}
        for item in found:
            sessions.setdefault(item["session_id"], []).append(item)
        order = sorted(
            sessions, key=lambda name: (max(item["created_at"] for item in sessions[name]), name), reverse=True
        )
        page = [self._session(name, sessions[name]) for name in order[offset : offset + size]]
        told = f"Found {sum(len(item['requests']) for item in page)} request(s) in {len(page)} session(s)"
        return {"success": True, "sessions": page, "has_more": len(page) >= size, "msg": told}

    def _session(self, name: str, requests: list[Body]) -> Body:
        newest = sorted(requests, key=lambda item: item["created_at"], reverse=True)
        views = [
            {
                "request": item,
                "interactions": [_view(each) for each in self.data.interactions(request_id=item["request_id"])],
            }
            for item in newest
        ]
        return {"session_id": name, "requests": views}

    def get_interactions(self, body: Body) -> Body:
        """Newest first; of one second, as they were stored. The end of the window belongs to it."""
        user_id = check.text(body, "user_id", required=True) or ""
        start, end = check.window(body)
        found = sorted(self.data.interactions(user_id=user_id), key=lambda item: item["created_at"], reverse=True)
        found = [item for item in found if _within(item["created_at"], start, end)]
        size = check.number(body, "top_k", 30)
        return {"success": True, "interactions": [_view(item) for item in found[:size]], "msg": "Found"}

    def get_all_interactions(self, body: Body) -> Body:
        """Of all users, newest first."""
        found = sorted(self.data.interactions(), key=lambda item: item["created_at"])[::-1]
        return {"success": True, "interactions": [_view(item) for item in found[: int(body.get("limit", 100))]]}

    def delete_interaction(self, body: Body) -> Body:
        """Success also for an unknown id."""
        self.data.delete_interaction(str(body["user_id"]), check.number(body, "interaction_id", None))
        return {"success": True, "message": "Deleted"}

    def search_interactions(self, body: Body) -> Body:
        """Ten at most, or ``most_recent_k``; without either nothing. Time filters drop everything or nothing."""
        user_id = check.text(body, "user_id", required=True) or ""
        found = self.data.interactions(user_id=user_id)
        if body.get("end_time"):
            found = []
        if recent := check.number(body, "most_recent_k", None):
            found = found[::-1][:recent]
        elif query := body.get("query"):
            found = [found[place] for place in self.data.ranked(query, [item.get("content", "") for item in found])][
                :10
            ]
        else:
            found = []
        return {"success": True, "interactions": [_view(item) for item in found]}

    def delete_requests_by_ids(self, body: Body) -> Body:
        """Reports as many as it was asked for; leaves what was learned."""
        ids = check.listed(body, "request_ids", 10_000)
        self.data.delete_requests(ids)
        return {"success": True, "deleted_count": len(ids), "message": "Deleted"}

    def delete_session(self, body: Body) -> Body:
        """Of all users."""
        session_id = check.text(body, "session_id", required=True)
        ids = [item["request_id"] for item in self.data.requests(session_id=session_id)]
        return {"success": True, "deleted_requests_count": self.data.delete_requests(ids), "message": "Deleted"}

    def clear_user_data(self, body: Body) -> Body:
        """Everything of a user but agent playbooks."""
        user_id = check.text(body, "user_id", required=True)
        requests = [item["request_id"] for item in self.data.requests(user_id=user_id)]
        counts = {"requests": self.data.delete_requests(requests)}
        for table, key in (("profiles", "profile_id"), ("user_playbooks", "user_playbook_id")):
            mine = [row[key] for row in self.data.learnings(table) if row["user_id"] == user_id]
            counts[table] = self.data.delete_learnings(table, mine)
        return {"success": True, "deleted_counts": counts, "message": "Cleared"}

    def finalize_session(self, body: Body) -> Body:
        """Accepted where the user has the session."""
        user_id = check.text(body, "user_id", required=True)
        session_id = check.text(body, "session_id", required=True)
        accepted = bool(self.data.requests(user_id=user_id, session_id=session_id))
        self.finalized.append(body)
        return {"success": True, "accepted": accepted, "message": ""}

    def learning_status(self, body: Body) -> Body:
        """404 for an unknown id."""
        if not self.data.requests(request_id=body.get("request_id")):
            raise RefusedError(404, {"detail": "request not found"})
        status, reason = self.learning
        return {"status": status, "reason": reason}

    def session_outcome(self, body: Body) -> Body:
        """The first report stands; an unknown session is a refusal with status 200."""
        session_id = check.text(body, "session_id", required=True) or ""
        check.number(body, "occurred_at", None, least=0)
        requests = self.data.requests(session_id=session_id)
        if not requests:
            return {"success": False, "recorded": False, "reason": "unknown_session", "message": "Unknown session"}
        user_id, source = requests[0]["user_id"], requests[0]["source"]
        row = {**body, "user_id": user_id, "source": source}
        new = session_id not in self.outcomes
        known = self.outcomes.setdefault(session_id, {**row, "created_at": self.clock()})
        if {**known, **row} == known:
            return {"success": True, "recorded": new, "user_id": user_id, "source": source}
        return {"success": False, "recorded": False, "reason": "conflicting_outcome", "message": "Conflict"}

    def get_session_outcomes(self, body: Body) -> Body:
        """The latest first."""
        equal = ("user_id", "source", "outcome", "label")
        found = [
            row
            for row in self.outcomes.values()
            if all(row.get(name) == body[name] for name in equal if body.get(name) is not None)
            and (body.get("session_ids") is None or row["session_id"] in body["session_ids"])
            and _within(row["occurred_at"], body.get("start_time"), body.get("end_time"))
        ]
        found.sort(key=lambda row: row["occurred_at"], reverse=True)
        offset = body.get("offset", 0)
        return {"success": True, "session_outcomes": found[offset : offset + body.get("top_k", 100)]}

    def whoami(self, body: Body) -> Body:
        """Who answers."""
        return {"success": True, "org_id": "self-host-org", "storage_type": "sqlite", "storage_configured": True}

    def add_user_profile(self, body: Body) -> Body:
        """An upsert over all users. ``profile_time_to_live`` sets no expiry."""
        rows = check.listed(body, "user_profiles", 100_000)
        for row in rows:
            for name in _PROFILE:
                if row.get(name) in (None, ""):
                    raise check.invalid("missing", ["body", "user_profiles", name], "Field required", row)
        for row in rows:
            kept = {"expiration_timestamp": 4_102_444_800, "profile_time_to_live": "infinity", **row}
            self.data.put_learning("profiles", kept)
        return {"success": True, "message": f"Added {len(rows)} profile(s)", "added_count": len(rows)}

    def add_user_playbook(self, body: Body) -> Body:
        """The ids are the server's, and not in the answer."""
        rows = check.listed(body, "user_playbooks", 1000)
        for row in rows:
            if row.get("agent_version") is None or row.get("request_id") is None:
                raise check.invalid("missing", ["body", "user_playbooks"], "Field required", row)
        for row in rows:
            self.data.put_learning("user_playbooks", {**row, "user_playbook_id": None})
        return {"success": True, "message": f"Added {len(rows)} item(s)", "added_count": len(rows)}

    def add_agent_playbook(self, body: Body) -> Body:
        """Tags, blocking issue, time and id are discarded."""
        rows = check.listed(body, "agent_playbooks", 100_000)
        for row in rows:
            kept = {name: row[name] for name in _AGENT_FIELDS if name in row}
            self.data.put_learning(
                "agent_playbooks", {"playbook_status": "pending", **kept, "created_at": int(time.time())}
            )
        return {"success": True, "message": f"Added {len(rows)} item(s)", "added_count": len(rows)}

    def get_profiles(self, body: Body) -> Body:
        """Current ones unless a filter says else; expired ones never; newest first."""
        check.text(body, "user_id", required=True)
        return self._listed("profiles", body, "user_profiles", check.number(body, "top_k", 30))

    def get_all_profiles(self, body: Body) -> Body:
        """Of all users, by one word of status; of tombstones only the one that is named."""
        if body.get("profile_id") and body.get("include_tombstones") == "true":
            found = [row for row in self.data.learnings("profiles") if row["profile_id"] == body["profile_id"]]
            return {"success": True, "user_profiles": found}
        word = body.get("status_filter")
        statuses = {"pending": ["pending"], "archived": ["archived"]}.get(word or "", [None])
        return self._listed("profiles", {"status_filter": statuses}, "user_profiles", int(body.get("limit", 100)))

    def get_user_playbooks(self, body: Body) -> Body:
        """Of all users where none is named; pending and archived ones too where no status is."""
        return self._listed("user_playbooks", body, "user_playbooks", check.number(body, "limit", 100))

    def get_agent_playbooks(self, body: Body) -> Body:
        """Of every approval unless one is named."""
        return self._listed("agent_playbooks", body, "agent_playbooks", check.number(body, "limit", 100))

    def search_profiles(self, body: Body) -> Body:
        """Current ones only."""
        check.text(body, "user_id", required=True)
        return self._searched("profiles", {**body, "status_filter": [None]}, "user_profiles")

    def search_user_playbooks(self, body: Body) -> Body:
        """Of all users where none is named; pending and archived ones too where no status is."""
        check.text(body, "user_id", most=255)
        return self._searched("user_playbooks", body, "user_playbooks")

    def search_agent_playbooks(self, body: Body) -> Body:
        """Of every approval unless some are named."""
        return self._searched("agent_playbooks", body, "agent_playbooks")

    def search(self, body: Body) -> Body:
        """The three at once: user playbooks of all users where none is named, and of any standing."""
        check.text(body, "query", required=True)
        check.text(body, "user_id", most=255)
        size = check.number(body, "top_k", 5, most=100)
        approvals = body.get("agent_playbook_status_filter") or ["approved", "pending"]
        wanted = body.get("entity_types") or ["profiles", "user_playbooks", "agent_playbooks"]
        personal = {**body, "top_k": size}
        shared = {name: body[name] for name in ("query", "agent_version", "playbook_name", "tags") if name in body}
        found: Body = {"profiles": [], "user_playbooks": [], "agent_playbooks": []}
        if "profiles" in wanted and body.get("user_id"):
            found["profiles"] = self._searched("profiles", {**personal, "status_filter": [None]}, "x")["x"]
        if "user_playbooks" in wanted:
            found["user_playbooks"] = self._searched("user_playbooks", personal, "x")["x"]
        if "agent_playbooks" in wanted:
            query = {**shared, "top_k": size, "playbook_status_filter": approvals}
            found["agent_playbooks"] = self._searched("agent_playbooks", query, "x")["x"]
        mode = "fts" if self.degraded else body.get("search_mode", "hybrid")
        return {"success": True, **found, "degraded": self.degraded, "search_mode_effective": mode}

    def _listed(self, table: str, body: Body, name: str, size: int | None) -> Body:
        stamp = "last_modified_timestamp" if table == "profiles" else "created_at"
        found = sorted(self._matching(table, body), key=lambda row: row.get(stamp, 0))[::-1]
        return {"success": True, name: [_without(row) for row in found[: size or 100]], "msg": f"Found {len(found)}"}

    def _searched(self, table: str, body: Body, name: str) -> Body:
        size = check.number(body, "top_k", 10, most=100)
        found = self._matching(table, body)
        texts = [f"{row.get('trigger') or ''} {row['content']}" for row in found]
        places = self.data.ranked(body["query"], texts) if body.get("query") else list(range(len(found)))
        if self.finds_by_meaning:
            places += [place for place in range(len(found)) if place not in places]
        return {"success": True, name: [_without(found[place]) for place in places][:size], "msg": "Found"}

    def _matching(self, table: str, body: Body) -> list[Body]:
        start, end = check.window(body)
        check.source(body)
        stamp = "last_modified_timestamp" if table == "profiles" else "created_at"
        statuses = body.get("status_filter")
        approvals = body.get("playbook_status_filter")
        approvals = [approvals] if isinstance(approvals, str) else approvals
        equal = [name for name in _COLUMNS[table] if body.get(name) is not None]
        if "query" in body and "request_id" in equal:  # there it only says who asks
            equal.remove("request_id")
        if self.ignores_filters:
            return self.data.learnings(table)
        now = time.time()
        return [
            row
            for row in self.data.learnings(table)
            if all(row.get(name, "") == body[name] for name in equal)
            and _standing(row.get("status"), statuses, table)
            and (approvals is None or row["playbook_status"] in approvals)
            and row.get("expiration_timestamp", now + 1) >= now
            and (not body.get("tags") or set(body["tags"]) & set(row.get("tags") or ()))
            and _within(row.get(stamp, 0), start, end)
        ]

    def update_user_profile(self, body: Body) -> Body:
        """Content and custom features; it counts as modified now."""
        fields = {name: body[name] for name in ("content", "custom_features") if body.get(name) is not None}
        found = [row for row in self.data.learnings("profiles") if row["profile_id"] == body["profile_id"]]
        if not found or found[0]["user_id"] != body["user_id"]:
            return {"success": False, "msg": "Profile not found"}
        self.data.put_learning("profiles", {**found[0], **fields, "last_modified_timestamp": int(time.time())})
        return {"success": True, "msg": "Updated"}

    def update_user_playbook(self, body: Body) -> Body:
        """Success also for an unknown id."""
        self._update("user_playbooks", body)
        return {"success": True, "msg": "Updated"}

    def update_agent_playbook(self, body: Body) -> Body:
        """A traceback for an unknown id."""
        if not self._update("agent_playbooks", body):
            told = "Traceback (most recent call last):\n  File x\nValueError: Agent playbook not found"
            return {"success": False, "msg": told}
        return {"success": True, "msg": "Updated"}

    def _update(self, table: str, body: Body) -> bool:
        key = f"{table[:-1]}_id"
        fields = {name: value for name, value in body.items() if name != key and value is not None}
        found = [row for row in self.data.learnings(table) if row[key] == body[key]]
        for row in found:
            self.data.put_learning(table, {**row, **fields})
        return bool(found)

    def delete_learnings(self, table: str, key: str, body: Body) -> Body:
        """Reports as many as it was asked for."""
        ids = check.listed(body, f"{key}s", 10_000)
        self.data.delete_learnings(table, ids)
        return {"success": True, "deleted_count": len(ids), "message": "Deleted"}

    def delete_all(self, table: str, key: str) -> Body:
        """All of a kind."""
        self.data.delete_learnings(table, [row[key] for row in self.data.learnings(table)])
        return {"success": True, "deleted_count": 0, "message": "Deleted"}


def _standing(status: str | None, statuses: list[str | None] | None, table: str) -> bool:
    if statuses is not None:
        return status in statuses
    if table == "user_playbooks":
        return status not in _TOMBSTONES
    return status is None or (table == "agent_playbooks" and status == "pending")


def _within(moment: int, start: int | None, end: int | None) -> bool:
    return (start is None or moment >= start) and (end is None or moment <= end)


def _view(item: Body) -> Body:
    return {name: value for name, value in item.items() if name not in _HIDDEN}


def _without(row: Body) -> Body:
    hidden = ("blocking_issue", "expanded_terms", "notes", "embedding")
    return {name: value for name, value in row.items() if value is not None and name not in hidden}
