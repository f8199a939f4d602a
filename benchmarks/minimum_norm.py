"""Which search for the nearest adversarial point is the stronger, and which the cheaper? DDN, FMN, FAB, DeepFool.

    python benchmarks/minimum_norm.py [--limit 20] [-o benchmarks/results/minimum_norm.md]

Two networks for digits, undefended and adversarially trained in linf; the same test images, those that both get right.
Cost is in passes, forward and backward, which don't depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))

from machine import stated

import robustkit
from robustkit.attacks.ddn import DDN
from robustkit.attacks.deepfool import DeepFool
from robustkit.attacks.fab import FAB
from robustkit.attacks.fmn import FMN
from robustkit.contracts import Norm, Threat
from robustkit.data.mnist_10k import MNIST10k
from robustkit.engine.counting import Counter
from robustkit.norms import distance
from robustkit.report.files import markdown

RESULT = Path(__file__).parent / "results" / "minimum_norm.md"
NETWORKS = {"undefended": "standard", "pgd_at, eps 0.2": "pgd_at:steps=5"}
ATTACKS: dict[str, tuple[Any, tuple[Norm, ...]]] = {
    "ddn, 30 steps": (DDN(steps=30), ("l2",)),
    "ddn, 100 steps": (DDN(steps=100), ("l2",)),
    "fmn, 30 steps": (FMN(steps=30), ("linf", "l2", "l1")),
    "fmn, 100 steps": (FMN(steps=100), ("linf", "l2", "l1")),
    "fmn, 300 steps": (FMN(steps=300), ("linf", "l2", "l1")),
    "fab, 10 steps": (FAB(steps=10), ("linf", "l2", "l1")),
    "fab, 30 steps": (FAB(steps=30), ("linf", "l2", "l1")),
    "fab aimed at 9 classes, 10 steps": (FAB(steps=10, aimed=True), ("linf", "l2", "l1")),
    "deepfool": (DeepFool(), ("linf", "l2")),
}


def measured(model: nn.Module, attack: Any, x: Tensor, y: Tensor, norm: Norm) -> tuple[Tensor, float]:
    """(N,) distances, +inf where nothing was found, and passes a sample."""
    network = Counter(model).eval()
    torch.manual_seed(0)
    x_adv = attack(network, x, y, Threat(norm, 0.0))
    with torch.no_grad():
        stands = model(x_adv).argmax(dim=1) == y
    passes = (network.tally.forwards + network.tally.backwards) / len(x)
    return distance(x_adv, x, norm).masked_fill(stands, torch.inf), passes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = MNIST10k()()
    common: dict[str, Any] = {"norm": "linf", "eps": [0.2], "recipe": {"epochs": 5}, "device": "cpu"}
    models = {name: robustkit.train(defense, **common).requires_grad_(False) for name, defense in NETWORKS.items()}
    x, y = data.test.batch(torch.arange(2 * given.limit))
    with torch.no_grad():
        right = torch.stack([model(x).argmax(dim=1) == y for model in models.values()]).all(dim=0)
    x, y = x[right][: given.limit], y[right][: given.limit]
    rows = []
    for norm in ("linf", "l2", "l1"):
        for name, model in models.items():
            found = {
                label: measured(model, attack, x, y, norm)  # type: ignore[arg-type]
                for label, (attack, norms) in ATTACKS.items()
                if norm in norms
            }
            nearest = torch.stack([far for far, _ in found.values()]).amin(dim=0)
            for label, (far, passes) in found.items():
                rows.append(
                    {
                        "norm": norm,
                        "network": name,
                        "attack": label,
                        "median distance": f"{float(far.median()):.4g}",
                        "of the nearest of all": f"{float((far / nearest).median()):.3f}",
                        "nearest, or within 1 %": f"{100 * float((far <= 1.01 * nearest).double().mean()):.0f} %",
                        "not found": int(far.isinf().sum()),
                        "passes an image": f"{passes:.0f}",
                    }
                )
                sys.stderr.write(f"{rows[-1]}\n")
    out = [
        "# The nearest adversarial point: who finds it, and at which cost\n",
        f"{len(x)} test digits, those that both networks get right; passes are forward and backward together, of one "
        "image. The nearest of all is, image by image, the least of the distances in the same block. Repeat with "
        "`python benchmarks/minimum_norm.py`.\n",
        stated() + "\n",
        markdown(pd.DataFrame(rows)),
    ]
    notes = Path(__file__).parent / "minimum_norm_notes.md"
    if notes.is_file():
        out.append(notes.read_text(encoding="utf-8"))
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text("\n".join(out), encoding="utf-8")


if __name__ == "__main__":
    main()
