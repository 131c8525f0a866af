"""From rules that several users share to rules of the agent: the step that looks for agreement.

Rules that say the same with like words are put into one cluster, and where there is an embedder, those that mean the
same. When enough distinct users are behind it, it becomes an agent playbook in the wording that most of them share.
Privacy comes from counting: a word that stands in an agent playbook was used by at least as many users as must support
it, or is an everyday one that tells nothing of anybody; and by none of them as a part of who they are.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from reflexio_middleware.guard import count
from reflexio_middleware.learning.sharing import Personal, Said, alike, may_be_shared, names_in, said_of, words_of
from reflexio_middleware.learning.vocabulary import everyday
from reflexio_store.agreement import trigger_parts
from reflexio_store.contract import Job, Shared, Store, Supporter, Voice
from reflexio_store.models import STANDING, AgentPlaybook, PlaybookStatus, UserPlaybook

if TYPE_CHECKING:
    from reflexio_middleware.learning.meaning import Meanings, Nearness

AGGREGATE: Final = "aggregate"
"""Kind of the jobs that look for agreement; their key is the agent_version."""


class Aggregate:
    """A step of the worker: brings the agent playbooks of one version in step with what its users' rules say.

    Args:
        least: How many distinct users must say the same.
        approve: Whether an agent playbook is used at once, without a person's approval.
        meanings: Beside like words, what shows that two rules mean the same; None: words alone.
    """

    def __init__(self, *, least: int = 2, approve: bool = False, meanings: Meanings | None = None) -> None:
        self._least, self._approve, self._meanings = least, approve, meanings

    def __call__(self, store: Store, job: Job) -> dict[str, Any]:
        """Do it for the version that the job names; what came of it, in numbers."""
        return self.run(store, job.key)

    def run(self, store: Store, agent_version: str) -> dict[str, int]:
        """Do it for one version: ``clusters``, and agent playbooks ``added``, ``updated``, ``lowered``, ``retired``.

        A cluster that is as it was is not written again. One whose agent playbook was rejected is not proposed again.

        Raises:
            ExtractionError: Rules are compared by meaning, and the embedder failed.
        """
        model = self._meanings.model if self._meanings else None
        voices = [voice for voice in store.voices(agent_version, model=model) if may_be_shared(voice.playbook)]
        known = store.shared(agent_version)
        near = self._nearness(voices, known)
        clusters = clusters_of(voices, near)
        agreement = _Agreement(agent_version, known, Personal(store), self._least, near)
        rules = [agreement.rule(cluster) for cluster in clusters]
        named = _once([rule for rule in rules if rule is not None] + _promoted(known, clusters))
        done = store.share(agent_version, named, least=self._least, approve=self._approve)
        count("aggregations")
        return {"clusters": len(clusters), **dataclasses.asdict(done)}

    def _nearness(self, voices: Sequence[Voice], known: Sequence[Shared]) -> Nearness | None:
        if self._meanings is None:
            return None
        rules = [*(said_of(item.playbook) for item in voices), *(said_of(item.playbook) for item in known)]
        embedded = {item.playbook.trigger or item.playbook.content: item.vector for item in voices}
        return self._meanings.nearness(rules, {text: vector for text, vector in embedded.items() if vector})


def clusters_of(voices: Iterable[Voice], near: Nearness | None = None) -> list[Cluster]:
    """Rules that say the same, each cluster around the wording that most users share; in a fixed order."""
    by_words: dict[str, list[Voice]] = defaultdict(list)
    for voice in voices:
        by_words[voice.sameness].append(voice)
    users = {words: len({item.playbook.user_id for item in group}) for words, group in by_words.items()}
    found: list[Cluster] = []
    holding = _Holding(near)
    for words in sorted(by_words, key=lambda words: _rank(by_words[words][0], users[words])):
        said = said_of(by_words[words][0].playbook)
        cluster = holding.fitting(said)
        if cluster is None:
            cluster = Cluster(len(found), said, [])
            found.append(cluster)
            holding.add(cluster)
        cluster.voices.extend(by_words[words])
    return found


class _Holding:
    """Clusters by the words of what they say to do, and by their text."""

    def __init__(self, near: Nearness | None) -> None:
        self._near = near
        self._by_stem: dict[str, list[Cluster]] = defaultdict(list)
        self._by_text: dict[str, list[Cluster]] = defaultdict(list)

    def add(self, cluster: Cluster) -> None:
        for stem in cluster.said.stems:
            self._by_stem[stem].append(cluster)
        self._by_text[cluster.said.content].append(cluster)

    def fitting(self, said: Said) -> Cluster | None:
        """The first that says the same in like words; else the first that means the same."""
        near = [item for stem in said.stems for item in self._by_stem.get(stem, ())]
        if self._near is not None:
            texts = (said.content, *self._near.neighbours.get(said.content, ()))
            near += [item for text in texts for item in self._by_text.get(text, ())]
        clusters = [item for _, item in sorted({item.number: item for item in near}.items())]
        fits = next((item for item in clusters if alike(item.said, said)), None)
        if fits or self._near is None:
            return fits
        return next((item for item in clusters if self._near.alike(item.said, said)), None)


@dataclass(frozen=True, slots=True)
class _Agreement:
    """What makes agent playbooks of the clusters of one version."""

    agent_version: str
    known: Sequence[Shared]
    personal: Personal
    least: int
    near: Nearness | None

    def rule(self, cluster: Cluster) -> Shared | None:
        """The agent playbook that the cluster is, or None where there is none yet, and none can be made."""
        old = _known(cluster, self.known)
        if old is not None and old.by_hand:
            return Shared(old.playbook, self._supporters(cluster, cluster.said, old))
        if old is not None and self._may_stay(old.playbook, cluster):
            return Shared(old.playbook, self._supporters(cluster, said_of(old.playbook), old))
        worded = self._worded(cluster)
        if worded is not None:
            number = old.playbook.agent_playbook_id if old else 0
            playbook = worded.model_copy(update={"agent_playbook_id": number, "agent_version": self.agent_version})
            return self._told(Shared(playbook, self._supporters(cluster, said_of(playbook))), cluster)
        if old is None or len(cluster.users) >= self.least:
            return None  # nothing that so many say is free of what is somebody's own
        return Shared(old.playbook, self._supporters(cluster, said_of(old.playbook), old))

    def _told(self, rule: Shared, cluster: Cluster) -> Shared:
        """A new wording with its reason: what too few agree on in its own words rests on a judgement of meaning."""
        said = said_of(rule.playbook)
        if len(cluster.users_saying(said.stems)) >= self.least:
            return rule
        playbook = rule.playbook.model_copy(update={"rationale": "Several users asked for it, in different words."})
        return dataclasses.replace(rule, playbook=playbook, by_meaning=True)

    def _supporters(self, cluster: Cluster, rule: Said, old: Shared | None = None) -> frozenset[Supporter]:
        """The playbooks of a cluster that hold all words of what a rule says to do, or mean the same. Where meaning
        cannot be judged here, those that supported ``old`` before, and still say what they said, go on doing so."""
        before = old.supporters if old and self.near is None else frozenset()
        return frozenset(
            item
            for voice in cluster.voices
            if (item := voice.supporter) in before
            or rule.stems <= said_of(voice.playbook).words
            or (self.near is not None and self.near.alike(said_of(voice.playbook), rule))
        )

    def _may_stay(self, playbook: AgentPlaybook, cluster: Cluster) -> bool:
        """Whether its words are still shared by enough users, or it is rejected and so shown to nobody."""
        rejected = playbook.playbook_status == PlaybookStatus.REJECTED
        return rejected or self._is_safe([playbook.content, *trigger_parts(playbook.trigger)], cluster, everyday())

    def _worded(self, cluster: Cluster) -> AgentPlaybook | None:
        """An agent playbook in the words of a user's, without the parts of its trigger that are that user's own: in
        words that enough users used, if there are such; else in words some of which are anybody's."""
        wordings = cluster.wordings()
        for spared in (frozenset[str](), everyday()):
            for voice in wordings:
                made = self._said_by(voice.playbook, cluster, spared)
                if made is not None:
                    return made
        return None

    def _said_by(self, playbook: UserPlaybook, cluster: Cluster, spared: frozenset[str]) -> AgentPlaybook | None:
        if not self._is_safe([playbook.content], cluster, spared):
            return None
        parts = trigger_parts(playbook.trigger)
        shared = [part for part in parts if self._is_safe([playbook.content, part], cluster, spared)]
        standing = STANDING in playbook.tags
        if standing and len(shared) < len(parts):
            return None
        return AgentPlaybook(
            playbook_name=playbook.playbook_name if cluster.named(playbook.playbook_name) >= self.least else "",
            content=playbook.content,
            trigger=" / ".join(shared) or None,
            rationale="Several users asked for it.",
            tags=[STANDING] if standing else [],
        )

    def _is_safe(self, texts: Sequence[str], cluster: Cluster, spared: frozenset[str]) -> bool:
        """Whether enough users have said all names in them, and all words but the ``spared``, and none is a part of who
        they are."""
        words = frozenset[str]().union(*((words_of(text) - spared) | names_in(text) for text in texts))
        users = cluster.users_saying(words)
        return len(users) >= self.least and not self.personal.is_in(" ".join(texts), cluster.users)


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

    def users_saying(self, words: frozenset[str]) -> frozenset[str]:
        """Those of its users whose rule holds all of some words."""
        return frozenset(voice.playbook.user_id for voice in self.voices if words <= said_of(voice.playbook).words)

    def named(self, name: str) -> int:
        """How many of its users have their rule under a name."""
        return len({voice.playbook.user_id for voice in self.voices if voice.playbook.playbook_name == name})

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
    mine = {voice.supporter for voice in cluster.voices}
    resting = [item for item in known if item.supporters & mine]
    if resting:
        return max(resting, key=lambda item: (len(item.supporters & mine), -item.playbook.agent_playbook_id))
    said = [item for item in known if alike(said_of(item.playbook), cluster.said)]
    return min(said, key=lambda item: item.playbook.agent_playbook_id, default=None)


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
