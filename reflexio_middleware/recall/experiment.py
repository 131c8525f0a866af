"""A holdout: some users go without recall, so that the difference that it makes can be measured.

Users, not turns, are assigned, by a hash of their id: the same user is in the same arm on every machine, and nothing
is stored to say so. As sessions of one user are not independent, each user counts once, by the share of their
successful sessions; the interval is that of a difference of means with unequal variances (Welch 1947), with normal
quantiles.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, variance
from typing import Final, Literal

from reflexio_store.models import ArmResult

Arm = Literal["treatment", "holdout"]
_CONFIDENCE: Final = 0.95
_ENOUGH: Final = 30
"""Users in each arm from which normal quantiles are good enough."""


def arm_of(experiment_id: str, user_id: str, holdout: float) -> Arm:
    """The arm of a user; ``holdout`` is the share (0 to 1) of users that go without recall."""
    digest = hashlib.blake2b(f"{experiment_id}\x1f{user_id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return "holdout" if int.from_bytes(digest, "big") < holdout * 2**64 else "treatment"


@dataclass(frozen=True, slots=True)
class ArmSummary:
    """One arm: its ``users`` with a reported session, all its ``sessions``, those ``reported`` as success or failure,
    and the ``success_rate``: the mean over users of the share of their reported sessions that succeeded (or None)."""

    users: int
    sessions: int
    reported: int
    success_rate: float | None


@dataclass(frozen=True, slots=True)
class ExperimentReport:
    """What recall changed: ``difference`` is the success rate with recall less the one without (-1 to 1), ``low`` and
    ``high`` the bounds of its 95 % interval; None where an arm has fewer than two users with a reported session.
    ``enough`` says whether both arms have 30 such users: with fewer the interval is too narrow."""

    experiment_id: str
    treatment: ArmSummary
    holdout: ArmSummary
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    enough: bool = False


def report(experiment_id: str, results: Sequence[ArmResult]) -> ExperimentReport:
    """Compare the arms of an experiment."""
    rates = {
        arm: [_rate(item) for item in results if item.arm == arm and _reported(item)]
        for arm in ("treatment", "holdout")
    }
    with_recall, without = rates["treatment"], rates["holdout"]
    arms = _summary(results, "treatment", with_recall), _summary(results, "holdout", without)
    if min(len(with_recall), len(without)) < 2:
        return ExperimentReport(experiment_id, *arms)
    difference = fmean(with_recall) - fmean(without)
    error = math.sqrt(variance(with_recall) / len(with_recall) + variance(without) / len(without))
    reach = NormalDist().inv_cdf((1 + _CONFIDENCE) / 2) * error
    enough = min(len(with_recall), len(without)) >= _ENOUGH
    return ExperimentReport(experiment_id, *arms, difference, difference - reach, difference + reach, enough)


def _reported(item: ArmResult) -> int:
    return item.succeeded + item.failed


def _rate(item: ArmResult) -> float:
    return item.succeeded / _reported(item)


def _summary(results: Sequence[ArmResult], arm: str, rates: Sequence[float]) -> ArmSummary:
    of_arm = [item for item in results if item.arm == arm]
    return ArmSummary(
        users=len(rates),
        sessions=sum(item.sessions for item in of_arm),
        reported=sum(map(_reported, of_arm)),
        success_rate=fmean(rates) if rates else None,
    )
