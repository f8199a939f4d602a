"""What certified training certifies on MNIST: `ibp_at` with the certifiers `interval` and `crown_ibp`.

    python benchmarks/certified_training.py --data-dir FOLDER [--eps 0.3 0.1] [--defense ibp_at:kappa=0 ...]
        [--epochs 12] [-o benchmarks/results/certified_training.md]

FOLDER holds MNIST as the data set `mnist` wants it; --dataset mnist_10k needs none. The network is `cnn` (166,406
parameters), trained on all but the validation images. Clean and certified accuracy are of all test images; PGD-40 is
run on the first --attacked of them, and no certificate may lie where it succeeds. Trained networks and records are
kept, so a second call goes on where the first was stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from machine import stated

import robustkit
from robustkit.report.files import markdown
from robustkit.report.footer import footer
from robustkit.report.format import readable

RESULT = Path(__file__).parent / "results" / "certified_training.md"
SMALL = "mnist_10k"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="mnist", choices=["mnist", SMALL])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--defense", nargs="+", default=["ibp_at:kappa=0:warmup=0.25"])
    parser.add_argument("--eps", type=float, nargs="+", default=[0.3, 0.1])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--ramp", type=float, default=0.2)
    parser.add_argument("--attacked", type=int, default=2000)
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    given = parser.parse_args()
    if given.dataset != SMALL and given.data_dir is None:
        parser.error(f"--dataset {given.dataset} needs --data-dir, the folder where it lies")
    recipe: dict[str, Any] = {
        "epochs": given.epochs,
        "batch_size": given.batch_size,
        "optimizer": "adam",
        "lr": given.lr,
        "schedule": "onecycle",
        "ramp": given.ramp,
        "augment": "none",
    }
    said = ":".join(f"{name}={value}" for name, value in recipe.items())
    out = [
        f"# Certified training on {given.dataset}\n",
        f"Written by `benchmarks/certified_training.py`. {stated()}\n",
        f"Model cnn, --recipe {said}. Certified accuracy is told at eps alone (`top` is eps), so no mean radius is.\n",
    ]
    given.output.parent.mkdir(parents=True, exist_ok=True)
    for eps in given.eps:
        certifiers = [f"{name}:top={eps:g}:steps=1" for name in ("interval", "crown_ibp")]
        settings: dict[str, Any] = {
            "dataset": given.dataset,
            "data_dir": None if given.data_dir is None else str(given.data_dir),
            "baseline": False,
            "norm": "linf",
            "eps": [eps],
            "recipe": recipe,
            "device": "cpu",
        }
        for attacks, limit, title in (
            ([], None, "all test images"),
            (["pgd"], given.attacked, f"the first {given.attacked:,}, attacked"),
        ):
            result = robustkit.bench(given.defense, attacks, certifiers, limit=limit, **settings)
            out.append(f"## Linf {eps:g}, {title}\n")
            out.append(markdown(readable(result.table, result.records), footer(result.records, result.environment)))
            given.output.write_text("\n".join(out), encoding="utf-8")


if __name__ == "__main__":
    main()
