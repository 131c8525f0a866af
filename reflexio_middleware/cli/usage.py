"""``usage``: what models took, by day, extractor and model."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Annotated, Any

import typer
from rich.table import Table

from reflexio_middleware.cli.home import stored
from reflexio_middleware.cli.options import Json, Store, User, chosen_store
from reflexio_middleware.cli.screen import print_json, said, screen, table

_DAY = 86_400
_NUMBERS = ("calls", "prompt_tokens", "completion_tokens", "cost_micros")


def usage(
    context: typer.Context,
    user: User = None,
    days: Annotated[int, typer.Option("--days", min=1, max=3650, help="How many days back.")] = 30,
    by_user: Annotated[bool, typer.Option("--by-user", help="A line for each user.")] = False,
    as_json: Json = False,
    store: Store = None,
) -> None:
    """Show what learning by models took: calls, tokens and cost.

    Days are those of UTC; the cost is in the currency of REFLEXIO_LLM_PRICE_INPUT and _OUTPUT.
    """
    from reflexio_middleware.learning.metering import day_of

    with stored(chosen_store(context, store)) as client:
        since = day_of(time.time() - (days - 1) * _DAY)
        found = client.store.get_usage(since=since, user_id=user)
    sums: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0] * len(_NUMBERS))
    for one in found:
        key = (one.day, *((one.user_id,) if by_user else ()), one.extractor, one.model)
        sums[key] = [total + getattr(one, name) for total, name in zip(sums[key], _NUMBERS, strict=True)]
    names = ("day", *(("user",) if by_user else ()), "extractor", "model")
    if as_json:
        print_json([_as_json(names, key, numbers) for key, numbers in sums.items()])
    elif not sums:
        typer.echo(f"no model was asked in the last {days} days")
    else:
        screen().print(_table(names, sums))


def _as_json(names: tuple[str, ...], key: tuple[str, ...], numbers: list[int]) -> dict[str, Any]:
    counted = dict(zip(_NUMBERS, numbers, strict=True))
    return {**dict(zip(names, key, strict=True)), **counted, "cost": counted.pop("cost_micros") / 1e6}


def _table(names: tuple[str, ...], sums: dict[tuple[str, ...], list[int]]) -> Table:
    numbers = ("calls", "tokens in", "tokens out", "cost")
    made = table(*names, *numbers, right=numbers)
    for key, (calls, asked, answered, micros) in sums.items():
        made.add_row(*map(said, key), f"{calls:,}", f"{asked:,}", f"{answered:,}", f"{micros / 1e6:.4f}")
    return made
