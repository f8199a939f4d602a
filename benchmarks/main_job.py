"""The main job: one command from nothing to its table, and once more from its records; writes results/main_job.md.

    python benchmarks/main_job.py [--seeds 0,1,2]

For each seed: `robustkit bench --defense pgd_at --attacks fgsm,pgd --seeds SEED` with an empty cache and no run
directory, then the same command again, each in a process of its own, wall time from start to end.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from machine import spread, stated

RESULT = Path(__file__).parent / "results" / "main_job.md"
SCRIPT = str(Path(sys.executable).parent / "robustkit")
COMMAND = ["bench", "--defense", "pgd_at", "--attacks", "fgsm,pgd"]


def timed(command: list[str], folder: Path) -> tuple[float, str]:
    """Wall seconds and the table."""
    began = time.perf_counter()
    done = subprocess.run(
        [SCRIPT, *command],
        cwd=folder,
        env={**os.environ, "ROBUSTKIT_CACHE": str(folder / "cache")},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return time.perf_counter() - began, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    given = parser.parse_args()
    first: list[float] = []
    again: list[float] = []
    tables = []
    for seed in given.seeds.split(","):
        with tempfile.TemporaryDirectory() as name:
            command = [*COMMAND, "--seeds", seed]
            seconds, table = timed(command, Path(name))
            first.append(seconds)
            tables.append(table)
            for _ in range(3):
                seconds, same = timed(command, Path(name))
                again.append(seconds)
                assert same == table, "the second call printed another table"
        sys.stderr.write(f"seed {seed}: {first[-1]:.1f} s, again {statistics.median(again[-3:]):.1f} s\n")
    out = [
        "# The main job\n",
        f"`robustkit {' '.join(COMMAND)}` from an empty cache, and again from its records. "
        "Repeat with `python benchmarks/main_job.py`.\n",
        stated() + "\n",
        "| call | seconds, median [min, max] | n |\n|---|---:|---:|",
        f"| first | {spread(first, 1)} | {len(first)} |",
        f"| again | {spread(again, 1)} | {len(again)} |\n",
        *tables,
    ]
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text("\n".join(out), encoding="utf-8")


if __name__ == "__main__":
    main()
