"""What models take, written down call by call, and the budgets that bound it. Days are those of UTC."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from reflexio_middleware.guard import count
from reflexio_store.contract import Reads, Usage
from reflexio_store.errors import ExtractionError

_DAY: Final = 86_400
_MICROS: Final = 1_000_000


class BudgetUsedUpError(ExtractionError):
    """A budget of the day is used up; learning by a model goes on tomorrow. Raise the setting that the message names,
    or wait. ``seconds`` is how long the ``day`` still is."""

    def __init__(self, message: str, *, day: str, seconds: float) -> None:
        self.day, self.seconds = day, seconds
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent in a day, and what a million tokens cost. None is no bound."""

    tokens: int | None = None
    tokens_per_user: int | None = None
    cost: float | None = None
    cost_per_user: float | None = None
    price_input: float = 0.0
    price_output: float = 0.0

    def cost_micros(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Millionths of the prices' currency; a price is per million tokens, so that is tokens times price."""
        return round(prompt_tokens * self.price_input + completion_tokens * self.price_output)


class Account:
    """The :class:`~reflexio_middleware.learning.extractor.Meter` of one extractor and one user.

    A call may go over a bound: only what was spent is known before it. The next one is refused.
    """

    def __init__(
        self, store: Reads, user_id: str, extractor: str, budget: Budget, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._user_id = user_id
        self._extractor = extractor
        self._budget = budget
        self._clock = clock

    def check(self) -> None:
        """Whether there is anything left to spend.

        Raises:
            BudgetUsedUpError: There is not; it names the setting.
        """
        budget = self._budget
        self._within(None, "llm_tokens_per_day", budget.tokens, "llm_cost_per_day", budget.cost)
        self._within(
            self._user_id, "llm_tokens_per_user", budget.tokens_per_user, "llm_cost_per_user", budget.cost_per_user
        )

    def _within(self, user_id: str | None, name: str, tokens: int | None, cost_name: str, cost: float | None) -> None:
        if tokens is None and cost is None:
            return
        spent, micros = self._store.spent(day_of(self._clock()), user_id=user_id)
        if tokens is not None and spent >= tokens:
            raise self._used_up(name, f"{spent:,} of {tokens:,} tokens")
        if cost is not None and micros >= cost * _MICROS:
            raise self._used_up(cost_name, f"{micros / _MICROS:.2f} of {cost:.2f}")

    def _used_up(self, setting: str, spent: str) -> BudgetUsedUpError:
        now = self._clock()
        message = f"the budget of the day is used up ({setting}: {spent})"
        return BudgetUsedUpError(message, day=day_of(now), seconds=_DAY - now % _DAY)

    def note(self, model: str, *, prompt_tokens: int, completion_tokens: int) -> None:
        """Write down one call."""
        count("llm_calls")
        count("llm_tokens", prompt_tokens + completion_tokens)
        usage = Usage(
            user_id=self._user_id,
            day=day_of(self._clock()),
            extractor=self._extractor,
            model=model,
            calls=1,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cost_micros=self._budget.cost_micros(prompt_tokens, completion_tokens),
        )
        self._store.add_usage(usage)


def day_of(moment: float) -> str:
    """The day of an epoch second, as ``YYYY-MM-DD`` in UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(moment))
