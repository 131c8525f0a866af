"""From what a model proposed to changes: a citation that does not hold is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from reflexio_store.contract import Change
from reflexio_store.models import STANDING, Evidence, UserPlaybook, UserProfile

from .definitions import Asked
from .extractor import SessionView
from .grammar import load_grammar
from .llm_answers import Answer, ProposedChange
from .transcript import Known, Turn

_TOO_ALIKE: Final = 40


def changes_of(answer: Answer, turns: list[Turn], known: Known, session: SessionView, asked: Asked) -> Iterator[Change]:
    """The changes of an answer that hold.

    Refused are: a citation of a turn that was not shown, or of no user's message and no repaired tool call, or of
    nothing new; an unknown target or one of another kind; what belongs to no definition where there are any, or to
    one of another kind; empty text; a secret; a rule for everybody; a sentence of the prompt itself.
    """
    numbered = {turn.number: turn for turn in turns}
    prompt_text = _flat(asked.prompt)
    for item in answer.changes:
        if not item.turns or any(number not in numbered for number in item.turns):
            continue
        cited = [numbered[number] for number in dict.fromkeys(item.turns)]
        proofs = [turn for turn in cited if turn.proof]
        wanted = item.action == "retire" or asked.wants(item.definition, item.kind)
        if wanted and _are_proof(proofs) and _is_sound(item, known, prompt_text):
            yield _change(item, proofs, known, session, asked)


def merged(changes: list[Change]) -> list[Change]:
    """The changes of all parts without repetitions; of two that say the same, the first stands."""
    found: dict[tuple[str, str, str, str], Change] = {}
    for change in changes:
        text = _flat(change.learning.content) if change.learning else ""
        target = change.learning_id if change.action == "retire" else ""
        found.setdefault((change.action, change.kind, target, text), change)
    return list(found.values())


def _are_proof(turns: list[Turn]) -> bool:
    """Whether the user said something in these turns, or a tool failed in one and worked in a later one. What a tool
    merely returned proves nothing: it may be anybody's text. What rests on nothing new was learned before."""
    if not any(turn.new for turn in turns):
        return False
    if any(turn.proof == "user" for turn in turns):
        return True
    failed = [turn for turn in turns if turn.proof == "failed"]
    worked = [turn for turn in turns if turn.proof == "worked"]
    return any(one.tool == other.tool and one.number < other.number for one in failed for other in worked)


def _is_sound(item: ProposedChange, known: Known, prompt_text: str) -> bool:
    if item.action != "add":
        target = known.by_id.get(item.target)
        if target is None or isinstance(target, UserProfile) != (item.kind == "profile"):
            return False
        if item.action == "retire":
            return True
    content = item.content.strip()
    if not any(map(str.isalnum, content)):
        return False
    said = f"{content} {item.trigger}"
    echoes = len(content) >= _TOO_ALIKE and _flat(content) in prompt_text
    return not echoes and not load_grammar().guarded(said, "secrets", "others", "message")


def _change(item: ProposedChange, proofs: list[Turn], known: Known, session: SessionView, asked: Asked) -> Change:
    evidence = tuple(dict.fromkeys(turn.evidence for turn in proofs))
    target = known.by_id.get(item.target) if item.action != "add" else None
    if item.action == "retire" and target is not None:
        return Change(action="retire", kind=item.kind, learning_id=_id_of(target), evidence=evidence)
    learning: UserProfile | UserPlaybook
    if item.kind == "profile":
        learning = _profile(item, proofs, evidence, target, session, asked)
    else:
        learning = _playbook(item, proofs, evidence, target, session, asked)
    return Change(
        action=item.action,
        kind=item.kind,
        learning=learning,
        learning_id=_id_of(target) if target else "",
        evidence=evidence,
    )


def _id_of(learning: UserProfile | UserPlaybook) -> str:
    return learning.profile_id if isinstance(learning, UserProfile) else str(learning.user_playbook_id)


def _profile(
    item: ProposedChange,
    proofs: list[Turn],
    evidence: tuple[Evidence, ...],
    target: UserProfile | UserPlaybook | None,
    session: SessionView,
    asked: Asked,
) -> UserProfile:
    message = proofs[-1].message
    return UserProfile.model_validate(
        {
            "profile_id": target.profile_id if isinstance(target, UserProfile) else "",
            "user_id": session.user_id,
            "content": item.content.strip(),
            "last_modified_timestamp": message.time,
            "generated_from_request_id": message.request.request_id,
            "profile_time_to_live": item.ttl,
            "source": message.request.source,
            "extractor_names": asked.names(item.definition),
            "source_span": _span(proofs),
            "source_interaction_ids": _interactions(proofs),
            "notes": item.rationale.strip() or None,
            "tags": list(target.tags) if target else [],
            "evidence": list(evidence),
        }
    )


def _playbook(
    item: ProposedChange,
    proofs: list[Turn],
    evidence: tuple[Evidence, ...],
    target: UserProfile | UserPlaybook | None,
    session: SessionView,
    asked: Asked,
) -> UserPlaybook:
    message = proofs[-1].message
    made = UserPlaybook(
        user_playbook_id=target.user_playbook_id if isinstance(target, UserPlaybook) else 0,
        user_id=session.user_id,
        agent_version=message.request.agent_version or session.agent_version,
        request_id=message.request.request_id,
        created_at=message.time,
        content=item.content.strip(),
        trigger=item.trigger.strip() or None,
        rationale=item.rationale.strip() or None,
        source=message.request.source,
        source_span=_span(proofs),
        source_interaction_ids=_interactions(proofs),
        tags=[STANDING] if item.standing else [],
        evidence=list(evidence),
    )
    if item.definition in asked.definitions:
        return made.model_copy(update={"playbook_name": item.definition})
    return made


def _span(proofs: list[Turn]) -> str:
    return proofs[0].message.interaction.content.strip()[:500]


def _interactions(proofs: list[Turn]) -> list[int]:
    return list(dict.fromkeys(turn.message.interaction.interaction_id for turn in proofs))


def _flat(text: str) -> str:
    return re.sub(r"\W+", " ", text.lower()).strip()
