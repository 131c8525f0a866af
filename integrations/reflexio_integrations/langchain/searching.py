"""A search of the memory for a retriever or a tool: never raises, at most ``k`` learnings of all kinds."""

from __future__ import annotations

from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any

from reflexio_middleware.guard import guard
from reflexio_middleware.recall.render import id_of, kind_of, tags_of
from reflexio_store.models import Learning

from .recalling import Recalling, Where
from .scoping import client_or_current

if TYPE_CHECKING:
    from reflexio_middleware import ReflexioClient


def find(
    client: ReflexioClient | None,
    query: str,
    *,
    k: int,
    user_id: str | None = None,
    agent_version: str | None = None,
    run: Any = None,
    tagged: bool = False,
) -> list[Learning]:
    """The learnings that match ``query``: the best of each kind in turn, so that no kind hides another.

    ``user_id`` and ``agent_version`` None: those of the ``run`` (a run manager), its turn or the scope. What is found
    is noted on the turn. As in a recall, nothing is found for a user of a holdout, and nothing personal for one who
    opted out. ``tagged`` says that they are shown with the tags of a block.
    """
    with guard("searching the memory"):
        if not query.strip() or k < 1:
            return []
        where = Recalling(client, user_id, agent_version).where(run)
        memory = client_or_current(client)
        experiment = memory.experiment_of(where.user_id or "")
        held_out = experiment is not None and experiment[1] == "holdout"
        found = [] if held_out else _found(memory, query, where, k)
        if where.turn is not None:
            tags = tags_of(found) if tagged else [None] * len(found)
            named = zip(found, tags, strict=True)
            noted = [{"kind": kind_of(item), "learning_id": id_of(item), "tag": tag} for item, tag in named]
            where.turn.retrieved(noted, experiment=experiment)
        return found
    return []


def _found(memory: ReflexioClient, query: str, where: Where, k: int) -> list[Learning]:
    user_id = where.user_id
    if user_id is not None and memory.opted_out(user_id):
        user_id = None
    answer = memory.search(query, user_id=user_id, agent_version=where.agent_version, top_k=min(k, 100))
    in_turn = zip_longest(answer.user_playbooks, answer.profiles, answer.agent_playbooks)
    return [item for item in chain.from_iterable(in_turn) if item is not None][:k]
