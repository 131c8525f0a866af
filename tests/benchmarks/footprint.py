"""What importing and installing cost, beside pydantic alone.

    python tests/benchmarks/footprint.py [--install]

``--install`` also installs the project with its command line into an environment of its own (needs a package index).
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROUNDS = 15


def import_ms(module: str) -> float:
    """Milliseconds that importing takes in a fresh interpreter, as ``-X importtime`` counts them."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {module}"], capture_output=True, text=True, check=True
    )
    last = done.stderr.strip().splitlines()[-1]
    found = re.search(r"\|\s+(\d+) \|", last)
    assert found is not None, last
    return int(found[1]) / 1000


def imports() -> None:
    """A table of medians, the two interleaved in one run."""
    times: dict[str, list[float]] = {"pydantic": [], "reflexio_middleware": []}
    for _ in range(ROUNDS):
        for module, taken in times.items():
            taken.append(import_ms(module))
    floor = statistics.median(times["pydantic"])
    print(f"{'import':<24}{'median ms':>10}{'ratio':>8}")
    for module, taken in times.items():
        median = statistics.median(taken)
        print(f"{module:<24}{median:>10.1f}{median / floor:>8.2f}")


def installed(folder: Path) -> tuple[int, float]:
    """Distributions and megabytes in an environment."""
    (site,) = folder.glob("lib/python*/site-packages")
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    return len(list(site.glob("*.dist-info"))), size / 1e6


def install() -> None:
    """A table of what an install with the command line adds to an empty environment."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder, with_pip=True)
        before = installed(folder)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", f"{ROOT}[cli]"]
        subprocess.run(pip, check=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
        after = installed(folder)
    print(f"{'install [cli]':<24}{'packages':>10}{'MB':>8}")
    print(f"{'added':<24}{after[0] - before[0]:>10}{after[1] - before[1]:>8.1f}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--install", action="store_true")
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores")
    imports()
    if options.install:
        install()


if __name__ == "__main__":
    main()
