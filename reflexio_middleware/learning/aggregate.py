"""From rules that several users share to rules of the agent: the step that looks for agreement.

Rules that say the same with like words are put into one cluster. When enough distinct users are behind it, it becomes
an agent playbook in the wording that most of them share. Privacy comes from counting: a word that stands in an agent
playbook was used by at least as many users as must support it, and by none of them as a part of who they are.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from reflexio_middleware.guard import count
from reflexio_middleware.learning.sharing import Personal, Said, alike, may_be_shared, said_of, words_of
from reflexio_store.agreement import trigger_parts
from reflexio_store.contract import Job, Shared, Store, Supporter, Voice
from reflexio_store.models import STANDING, AgentPlaybook, PlaybookStatus, UserPlaybook

AGGREGATE: Final = "aggregate"
"""Kind of the jobs that look for agreement; their key is the agent_version."""
Similarity = Callable[[str, str], float]
"""How alike two texts are in meaning (0 to 1), such as the cosine of their embeddings."""


class Aggregate:
    """A step of the worker: brings the agent playbooks of one version in step with what its users' rules say.

    Args:
        least: How many distinct users must say the same.
        approve: Whether an agent playbook is used at once, without a person's approval.
        similarity: Beside like words, what else shows that two rules mean the same: at least ``similar``.
        similar: See ``similarity``.
    """

    def __init__(
        self, *, least: int = 2, approve: bool = False, similarity: Similarity | None = None, similar: float = 0.85
    ) -> None:
        self._least, self._approve = least, approve
        self._similarity, self._similar = similarity, similar

    def __call__(self, store: Store, job: Job) -> dict[str, Any]:
        """Do it for the version that the job names; what came of it, in numbers."""
        return self.run(store, job.key)

    def run(self, store: Store, agent_version: str) -> dict[str, int]:
        """Do it for one version: ``clusters``, and agent playbooks ``added``, ``updated``, ``lowered``, ``retired``.

        A cluster that is as it was is not written again. One whose agent playbook was rejected is not proposed again.
        """
        clusters = self.clusters(store.voices(agent_version))
        known = store.shared(agent_version)
        personal = Personal(store)
        rules = [self._rule(agent_version, cluster, known, personal) for cluster in clusters]
        named = _once([rule for rule in rules if rule is not None] + _promoted(known, clusters))
        done = store.share(agent_version, named, least=self._least, approve=self._approve)
        count("aggregations")
        return {"clusters": len(clusters), **dataclasses.asdict(done)}

    def clusters(self, voices: Sequence[Voice]) -> list[Cluster]:
        """Rules that say the same, each cluster around the wording that most users share; in a fixed order."""
        by_words: dict[str, list[Voice]] = defaultdict(list)
        for voice in voices:
            if may_be_shared(voice.playbook):
                by_words[voice.sameness].append(voice)
        users = {words: len({item.playbook.user_id for item in group}) for words, group in by_words.items()}
        found: list[Cluster] = []
        holding: dict[str, list[Cluster]] = defaultdict(list)  # clusters by the words of what they say to do
        for words in sorted(by_words, key=lambda words: _rank(by_words[words][0], users[words])):
            said = said_of(by_words[words][0].playbook)
            cluster = self._fitting(said, found if self._similarity else _near(said, holding))
            if cluster is None:
                cluster = Cluster(len(found), said, [])
                found.append(cluster)
                for stem in said.stems:
                    holding[stem].append(cluster)
            cluster.voices.extend(by_words[words])
        return found

    def _fitting(self, said: Said, clusters: Iterable[Cluster]) -> Cluster | None:
        return next((item for item in clusters if alike(item.said, said) or self._alike(item.said, said)), None)

    def _rule(self, agent_version: str, cluster: Cluster, known: Sequence[Shared], personal: Personal) -> Shared | None:
        """The agent playbook that a cluster is, or None where there is none yet, and none can be made."""
        old = _known(cluster, known)
        if old is not None and old.by_hand:
            return Shared(old.playbook, cluster.supporters(cluster.said, self._alike))
        if old is not None and self._may_stay(old.playbook, cluster, personal):
            return Shared(old.playbook, cluster.supporters(said_of(old.playbook), self._alike))
        for voice in cluster.wordings():
            worded = self._worded(voice.playbook, cluster, personal)
            if worded is None:
                continue
            number = old.playbook.agent_playbook_id if old else 0
            playbook = worded.model_copy(update={"agent_playbook_id": number, "agent_version": agent_version})
            return Shared(playbook, cluster.supporters(said_of(playbook), self._alike))
        if old is None or len(cluster.users) >= self._least:
            return None  # nothing that so many say is free of what is somebody's own
        return Shared(old.playbook, cluster.supporters(said_of(old.playbook), self._alike))

    def _may_stay(self, playbook: AgentPlaybook, cluster: Cluster, personal: Personal) -> bool:
        """Whether its words are still shared by enough users, or it is rejected and so shown to nobody."""
        rejected = playbook.playbook_status == PlaybookStatus.REJECTED
        return rejected or self._is_safe(f"{playbook.content} {playbook.trigger or ''}", cluster, personal)

    def _worded(self, playbook: UserPlaybook, cluster: Cluster, personal: Personal) -> AgentPlaybook | None:
        """An agent playbook in the words of a user's, without the parts of its trigger that are that user's own."""
        if not self._is_safe(playbook.content, cluster, personal):
            return None
        parts = trigger_parts(playbook.trigger)
        shared = [part for part in parts if self._is_safe(f"{playbook.content} {part}", cluster, personal)]
        standing = STANDING in playbook.tags
        if standing and len(shared) < len(parts):
            return None
        return AgentPlaybook(
            playbook_name=playbook.playbook_name,
            content=playbook.content,
            trigger=" / ".join(shared) or None,
            rationale="Several users asked for it.",
            tags=[STANDING] if standing else [],
        )

    def _is_safe(self, text: str, cluster: Cluster, personal: Personal) -> bool:
        """Whether enough users have said all words of it, and none of them is a part of who they are."""
        users = cluster.users_saying(text)
        return len(users) >= self._least and not personal.is_in(text, cluster.users)

    def _alike(self, one: Said, other: Said) -> bool:
        """Whether rules agree by their meaning alone."""
        if self._similarity is None or not one.comparable(other):
            return False
        return self._similarity(one.text, other.text) >= self._similar


@dataclass
class Cluster:
    """User playbooks that say the same as ``said``."""

    number: int
    said: Said
    voices: list[Voice]

    @property
    def users(self) -> frozenset[str]:
        """Who says it."""
        return frozenset(voice.playbook.user_id for voice in self.voices)

    def users_saying(self, text: str) -> frozenset[str]:
        """Those of its users whose rule holds all words of ``text``."""
        words = words_of(text)
        return frozenset(voice.playbook.user_id for voice in self.voices if words <= said_of(voice.playbook).words)

    def supporters(self, rule: Said, alike: Callable[[Said, Said], bool]) -> frozenset[Supporter]:
        """Its playbooks that hold all words of what a rule says to do, or mean the same."""
        return frozenset(
            Supporter(voice.playbook.user_id, voice.playbook.user_playbook_id, voice.sameness)
            for voice in self.voices
            if rule.stems <= said_of(voice.playbook).words or alike(said_of(voice.playbook), rule)
        )

    def wordings(self) -> list[Voice]:
        """One playbook for each wording, the commonest first, of equally common ones the shortest."""
        users: dict[str, set[str]] = defaultdict(set)
        first: dict[str, Voice] = {}
        for voice in self.voices:
            users[voice.sameness].add(voice.playbook.user_id)
            first.setdefault(voice.sameness, voice)
        return sorted(first.values(), key=lambda voice: _rank(voice, len(users[voice.sameness])))


def _known(cluster: Cluster, known: Sequence[Shared]) -> Shared | None:
    """The agent playbook that the cluster is already: one that rests on the same words, or says the same."""
    mine = {Supporter(item.playbook.user_id, item.playbook.user_playbook_id, item.sameness) for item in cluster.voices}
    resting = [item for item in known if item.supporters & mine]
    if resting:
        return max(resting, key=lambda item: (len(item.supporters & mine), -item.playbook.agent_playbook_id))
    said = [item for item in known if alike(said_of(item.playbook), cluster.said)]
    return min(said, key=lambda item: item.playbook.agent_playbook_id, default=None)


def _near(said: Said, holding: dict[str, list[Cluster]]) -> list[Cluster]:
    """The clusters that have a word in common with it, in the order in which they were made."""
    near = {id(cluster): cluster for stem in sorted(said.stems) for cluster in holding[stem]}
    return sorted(near.values(), key=lambda cluster: cluster.number)


def _promoted(known: Sequence[Shared], clusters: Sequence[Cluster]) -> list[Shared]:
    """What rests on user playbooks of other versions goes on resting on them."""
    own = {(item.playbook.user_id, item.playbook.user_playbook_id) for each in clusters for item in each.voices}
    found = []
    for item in known:
        foreign = frozenset(who for who in item.supporters if (who.user_id, who.user_playbook_id) not in own)
        if foreign:
            found.append(Shared(item.playbook, foreign))
    return found


def _once(rules: Sequence[Shared]) -> list[Shared]:
    """The rules, with what supports one agent playbook put together."""
    found: dict[object, Shared] = {}
    for rule in rules:
        key = rule.playbook.agent_playbook_id or (rule.playbook.content, rule.playbook.trigger)
        before = found.get(key)
        found[key] = rule if before is None else Shared(before.playbook, before.supporters | rule.supporters)
    return list(found.values())


def _rank(voice: Voice, users: int) -> tuple[int, int, str, str]:
    """The wording of most users first; then the shortest."""
    playbook = voice.playbook
    return -users, len(playbook.content), playbook.content, voice.sameness
