"""What certified training certifies on mnist_10k: `ibp_at` with the certifier `interval`.

    python benchmarks/certified_training.py [--epochs 20] [--eps 0.1 0.3] [-o benchmarks/results/certified_training.md]

The network is `cnn` (166,406 parameters), trained on 9,500 images; clean accuracy, PGD-40 and certified accuracy on all
2,000 test images, in one bench for each eps.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from machine import stated

import robustkit
from robustkit.report.files import markdown
from robustkit.report.footer import footer
from robustkit.report.format import readable

RESULT = Path(__file__).parent / "results" / "certified_training.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--eps", type=float, nargs="+", default=[0.1, 0.3])
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    given = parser.parse_args()
    recipe = {"epochs": given.epochs, "lr": 1e-3, "ramp": 0.6, "augment": "none"}
    said = " ".join(f"{name}={value}" for name, value in recipe.items())
    out = [
        "# Certified training on mnist_10k\n",
        f"Written by `benchmarks/certified_training.py`. {stated()}\n",
        f"`ibp_at`, model cnn, recipe {said}.\n",
    ]
    given.output.parent.mkdir(parents=True, exist_ok=True)
    for eps in given.eps:
        result = robustkit.bench(
            ["ibp_at"], ["pgd"], ["interval"], baseline=False, norm="linf", eps=[eps], recipe=recipe, device="cpu"
        )
        out.append(f"## Linf {eps:g}\n")
        out.append(markdown(readable(result.table, result.records), footer(result.records, result.environment)))
        given.output.write_text("\n".join(out), encoding="utf-8")


if __name__ == "__main__":
    main()
