"""What free adversarial training costs and reaches, beside standard and PGD training.

    python benchmarks/training_cost.py [--repeats 5] [--epochs 64] [-o benchmarks/results/training_cost.md]

Cost: seconds a weight update of `free_at` (m = 4) over those of `standard`, trained in turn in one process, each with
the same number of updates on the same data; the same for `pgd_at`. Robustness: `free_at` and `pgd_at` on
mnist_10k, Linf 0.3, PGD-40 on all 2,000 test images.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from machine import spread, stated

import robustkit
from robustkit.contracts import Training
from robustkit.data.load import load_data
from robustkit.host import default_host
from robustkit.models.build import build_model

RESULT = Path(__file__).parent / "results" / "training_cost.md"
METHODS = ("standard", "free_at:replays=4", "pgd_at:steps=7")


def seconds_of(defense: str) -> float:
    """Process seconds of four passes over the data in float32 (free: one epoch, replayed four times)."""
    host = default_host()
    data = load_data("mnist_10k", host=host)
    recipe = dataclasses.replace(data.recipe, epochs=4, ramp=0.0)
    model = build_model("cnn", data, host=host)
    training = Training(threat=data.threat, recipe=recipe, precision="fp32")
    component = host.build("defense", defense)
    began = time.process_time()
    component.value(model, data, training)
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=64, help="of free_at, before they are divided by m")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    given = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    for _ in range(given.repeats):
        for name in METHODS:
            seconds[name].append(seconds_of(name))
    base = statistics.median(seconds["standard"])
    out = [
        "# What free adversarial training costs and reaches\n",
        stated() + "\n",
        f"## Cost of four passes over the 9,500 training images (cnn, float32, {given.repeats} repeats in turn)\n",
        "| method | process seconds, median [min, max] | over standard |\n|---|---:|---:|",
    ]
    out += [
        f"| {name} | {spread(values)} | {statistics.median(values) / base:.2f} |" for name, values in seconds.items()
    ]
    out += ["", "## Robust accuracy on mnist_10k, Linf 0.3, PGD-40, n = 2,000\n"]
    from robustkit.report.files import markdown
    from robustkit.report.format import readable

    for defense, recipe in (("pgd_at", {}), ("free_at", {"epochs": given.epochs, "lr": 0.005})):
        result = robustkit.bench([defense], ["pgd"], baseline=False, recipe=recipe)
        said = " ".join(f"{name}={value}" for name, value in recipe.items())
        out.append(f"`{defense}`, recipe {said or 'as usual'}:\n")
        out.append(markdown(readable(result.table, result.records)))
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text("\n".join(out), encoding="utf-8")


if __name__ == "__main__":
    main()
