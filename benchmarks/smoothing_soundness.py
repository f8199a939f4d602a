"""How often each mode of randomized smoothing promises too much, by simulation.

    python benchmarks/smoothing_soundness.py [--simulations 20000] [-o benchmarks/results/smoothing_soundness.md]

Certifications at alpha = 0.05 of inputs whose share lies just below and far below the share that a radius needs; the
modes and the counting of false promises are those of tests/certifiers/test_stopping.py.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "certifiers"))

import numpy as np
from machine import stated
from scipy.stats import binom
from test_stopping import ALPHA, FAR, JUST, MODES, THRESHOLDS, N, check_sound

from robustkit.certifiers.confidence import lower_limit

N0 = 20
"""Draws of the selection, as in those tests."""
RESULT = Path(__file__).parent / "results" / "smoothing_soundness.md"


def exact(p: float) -> float:
    """The rate of `fixed` for two classes of shares p and 1 − p, summed over all counts that selection and estimation
    may give. A tie of the selection, N0 draws, goes to the first class.
    """
    hits = np.arange(N + 1)
    promised = lower_limit(hits, N, ALPHA)
    first = binom.sf(N0 / 2 - 0.5, N0, p)
    rates = []
    for share in (p, 1 - p):
        false = (promised >= 0.5) & (promised > share)
        rates.append(float(binom.pmf(hits, N, share) @ false))
    return float(first * rates[0] + (1 - first) * rates[1])


def exact_rows(below: tuple[float, ...]) -> list[str]:
    return [
        f"| fixed, exactly | {place} | " + " | ".join(f"{exact(threshold - gap):.4f}" for gap in below) + " |"
        for place, threshold in enumerate(THRESHOLDS)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=20_000)
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    given = parser.parse_args()
    below = (*JUST, *FAR)
    out = [
        "# False promises of randomized smoothing\n",
        f"Written by `benchmarks/smoothing_soundness.py`. {stated()}\n",
        f"{given.simulations:,} simulated certifications a cell at alpha = {ALPHA:g}, at most {N:,} draws each. Share "
        "of false promises (a radius above the true one by any amount), and in brackets the upper limit of its "
        "one-sided 99.9 % interval (Clopper & Pearson). Columns: how far the true share lies below the share that "
        "radius 0, 1 σ or 2 σ needs. No more than alpha is allowed. Far below a threshold `fixed` still errs at its "
        "nominal rate, for it promises some radius to every input; that it promised the threshold's own radius "
        f"never happened more than {{most}} times from {FAR[1]:g} below it. Its exact rates, summed over the binomial "
        "distributions, stand below the simulated ones: a cell above alpha is chance.\n",
        "| mode | radius / σ | " + " | ".join(f"{gap:g}" for gap in below) + " |",
        "|---|---:|" + "---:|" * len(below),
    ]
    far = 0
    for mode, run in MODES.items():
        rates = check_sound(run, given.simulations, below)
        far = max(far, *(rate.reached for rate in rates if rate.below >= FAR[1]))
        for place in range(3):
            row = rates[place * len(below) : (place + 1) * len(below)]
            cells = (f"{rate.errors / rate.simulations:.4f} [{rate.upper:.4f}]" for rate in row)
            out.append(f"| {mode} | {place} | " + " | ".join(cells) + " |")
        if mode == "fixed":
            out += exact_rows(below)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text("\n".join(out).replace("{most}", str(far)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
