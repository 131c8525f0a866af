"""What commands print: tables and text for people, JSON for programs."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import datetime
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

_PIPED_WIDTH: Final = 100
_STEPS: Final = ((90, 1, "s"), (5400, 60, "min"), (86_400, 3600, "h"))
_DIRECTIONS = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_STEERING: Final = dict.fromkeys(
    (*range(9), *range(11, 32), *range(127, 160), *_DIRECTIONS), "\N{REPLACEMENT CHARACTER}"
)


def screen(*, errors: bool = False) -> Console:
    """The terminal (or pipe) that people read; ``errors``: the one for what is no result."""
    stream = sys.stderr if errors else sys.stdout
    fixed = None if stream.isatty() or "COLUMNS" in os.environ else _PIPED_WIDTH
    return Console(stderr=errors, highlight=False, width=fixed)


def print_json(value: Any) -> None:
    """Print one JSON document."""
    coding = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "")
    text = json.dumps(value, ensure_ascii=coding != "utf8", indent=2, default=str)
    sys.stdout.write(f"{text}\n")


def note(message: str) -> None:
    """Say something that is no result, on stderr."""
    sys.stderr.write(f"{message}\n")


def said(text: str, style: str = "") -> Text:
    """Somebody's words as they are: no markup is read, and nothing in them can steer the terminal."""
    return Text(harmless(text), style=style)


def harmless(text: str) -> str:
    """The text without what steers a terminal: control characters other than tab and line break, and directions."""
    return text.replace("\r\n", "\n").translate(_STEERING)


def one_line(text: str, limit: int) -> str:
    """The words on one line, cut to ``limit`` characters."""
    words = " ".join(text[: limit * 8].split())
    return words if len(words) <= limit else f"{words[: limit - 1]}…"


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table; what does not fit a column goes on in the next line, and is never cut."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold underline")
    for name in columns:
        made.add_column(name, overflow="fold", justify="right" if name in right else "left", no_wrap=name in right)
    return made


def indented(content: RenderableType, by: int = 2) -> Padding:
    """The content, moved to the right."""
    return Padding(content, (0, 0, 0, by), expand=False)


def ago(seconds: float, now: float | None = None) -> str:
    """A moment (epoch seconds) as people say it: ``"3 min ago"``, or the local date of an earlier day."""
    passed = (time.time() if now is None else now) - seconds
    if -60 <= passed < 10:
        return "just now"
    for limit, unit, name in _STEPS:
        if 0 <= passed < limit:
            return f"{int(passed // unit)} {name} ago"
    return moment(seconds, "%Y-%m-%d")


def moment(seconds: float, form: str = "%Y-%m-%d %H:%M") -> str:
    """A moment (epoch seconds) as local date and time; as a number where no calendar holds it."""
    try:
        return datetime.fromtimestamp(seconds).astimezone().strftime(form)
    except (OverflowError, ValueError, OSError):
        return str(int(seconds))


def many(count: int, name: str) -> str:
    """``"1 request"``, ``"2 requests"``."""
    return f"{count:,} {name}{'' if count == 1 else 's'}"
