"""Precision and recall of what learns on the gold conversations.

    python tests/benchmarks/learning.py [--llm] [--wrong]

Without ``--llm``: statements. With it, the model of ``REFLEXIO_LLM_MODEL``, ``REFLEXIO_LLM_BASE_URL`` and
``REFLEXIO_LLM_API_KEY``; without a key, a scripted one on the loopback: it answers with what statements find, and with
three lies besides (a turn that is not there, the agent's own words, everybody's rule), and every seventh time with
nonsense. That measures nothing but the way from a session to a prompt and from an answer to learnings: its numbers are
to be those of statements. ``--wrong`` lists what was missed and what was false, on the tuned half only: the other half
is there to be measured.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "learning"))

import gold

from reflexio_middleware.learning.extractor import Extractor, SessionView
from reflexio_middleware.learning.llm import LLMExtractor
from reflexio_middleware.learning.statements import StatementsExtractor
from reflexio_middleware.learning.turns import messages_of
from reflexio_middleware.settings import read_settings
from reflexio_middleware.testing import ScriptedModelServer
from reflexio_store.models import STANDING, UserPlaybook


class Purse:
    """A meter that only adds up."""

    def __init__(self) -> None:
        self.calls = self.tokens = 0

    def check(self) -> None:
        """There is no bound."""

    def note(self, model: str, *, prompt_tokens: int, completion_tokens: int) -> None:
        """Add a call."""
        self.calls += 1
        self.tokens += prompt_tokens + completion_tokens


class ScriptedModel:
    """What statements find in the session of a prompt, as a model would write it, and the lies."""

    def __init__(self) -> None:
        self._asked = 0

    def __call__(self, body: dict[str, Any]) -> str:
        """The answer to a request."""
        self._asked += 1
        repaired = len(body["messages"]) > 2
        if self._asked % 7 == 0 and not repaired:
            return "I am sorry, I cannot help with that."
        shown = body["messages"][1]["content"].split("SESSION\n")[1].split("\n\nAnswer with")[0]
        lines = re.findall(r"^\[\d+\] (\w+): (.*)$", shown, re.MULTILINE)
        text = "\n".join(f"{'agent' if role == 'assistant' else role}: {content}" for role, content in lines)
        session = SessionView("u1", "case", "v1", gold.session_of(gold.Case("", text)))
        numbers = {message.evidence: number for number, message in enumerate(messages_of(session), 1)}
        found = [change for change in StatementsExtractor().extract(session) if change.learning]
        proposed = [_proposed(change.learning, [numbers[item] for item in change.evidence]) for change in found]
        agents = [number for number, (role, _) in enumerate(lines, 1) if role == "assistant"]
        lies = [_lie("Likes what is not there.", [len(lines) + 5]), _lie("Every user wants discounts.", [1])]
        return json.dumps(
            {"changes": [*proposed, *lies, *(_lie("Said by the agent.", agents[:1]) for _ in agents[:1])]}
        )


def _proposed(learning: Any, turns: list[int]) -> dict[str, Any]:
    rule = isinstance(learning, UserPlaybook)
    return {
        "action": "add", "kind": "user_playbook" if rule else "profile", "target": "", "content": learning.content,
        "trigger": (learning.trigger or "") if rule else "", "rationale": "",
        "standing": rule and STANDING in learning.tags, "ttl": "infinity", "turns": turns,
    }  # fmt: skip


def _lie(content: str, turns: list[int]) -> dict[str, Any]:
    base = {"action": "add", "kind": "profile", "target": "", "trigger": "", "rationale": ""}
    return {**base, "content": content, "standing": False, "ttl": "infinity", "turns": turns}


@contextlib.contextmanager
def learner(llm: bool) -> Iterator[Extractor]:
    """What is measured, and a line that says so."""
    if not llm:
        print("statements")
        yield StatementsExtractor()
        return
    settings = read_settings()
    with contextlib.ExitStack() as stack:
        url, key = settings.llm_base_url, settings.llm_api_key
        if key is None:
            url = stack.enter_context(ScriptedModelServer(ScriptedModel())).base_url
        print(
            f"llm: {settings.llm_model} at {url or 'OpenAI'}"
            if key
            else "llm: a scripted model, for the pipeline alone"
        )
        made = LLMExtractor(settings.llm_model, base_url=url, api_key=key.get_secret_value() if key else "none")
        stack.callback(made.close)
        yield made


def main() -> None:
    """Print one line per group and half."""
    purse, began = Purse(), time.perf_counter()
    with learner("--llm" in sys.argv) as extractor:
        _print_tables(extractor, purse)
    if purse.calls:
        print(f"{purse.calls} calls, {purse.tokens:,} tokens, {time.perf_counter() - began:.1f} s")


def _print_tables(extractor: Extractor, purse: Purse) -> None:
    print(f"{'half':<10}{'group':<14}{'cases':>6}{'wanted':>8}{'right':>7}{'missed':>8}{'false':>7}")
    for half, cases in (("tuned", gold.TUNED), ("held out", gold.HELD_OUT)):
        total: Counter[str] = Counter()
        groups = dict.fromkeys(case.group for case in cases)
        for group in groups:
            counts: Counter[str] = Counter()
            for case in cases:
                if case.group == group:
                    counts += score(extractor, purse, case, show=half == "tuned" and "--wrong" in sys.argv)
            total += counts
            print(_line(half, group, counts))
        print(_line(half, "all", total))
        precision = total["right"] / max(1, total["right"] + total["false"])
        print(f"{half}: precision {precision:.3f}, recall {total['right'] / total['wanted']:.3f}\n")


def score(extractor: Extractor, purse: Purse, case: gold.Case, *, show: bool = False) -> Counter[str]:
    """How many learnings of one case were wanted, right, missed and false."""
    session = SessionView("u1", "case", "v1", gold.session_of(case), meter=purse)
    learned = [change.learning for change in extractor.extract(session) if change.learning]
    result = gold.compared(case, learned)
    if show and (result.missed or result.false):
        print(f"  {case.text!r}\n    missed {result.missed}\n    false  {result.false}")
    counts = Counter(cases=1, wanted=len(case.wants), right=result.right)
    return counts + Counter(missed=len(result.missed), false=len(result.false))


def _line(half: str, group: str, counts: Counter[str]) -> str:
    numbers = "".join(f"{counts[name]:>{width}}" for name, width in _COLUMNS)
    return f"{half:<10}{group:<14}{numbers}"


_COLUMNS = (("cases", 6), ("wanted", 8), ("right", 7), ("missed", 8), ("false", 7))

if __name__ == "__main__":
    main()
