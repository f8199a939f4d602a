"""How often does an honest network get a red flag? Probes of small networks trained here, none built to hide anything.

    python benchmarks/red_flags.py [-o benchmarks/results/red_flags.md]

Four architectures, each trained for two epochs on 2,000 digits in five ways; the probes are those of a bench.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))

from machine import stated

from robustkit.attacks.pgd import PGD
from robustkit.contracts import Threat
from robustkit.data.mnist_10k import MNIST10k
from robustkit.engine.statistics import wilson
from robustkit.flags.probe import probe
from robustkit.models.cnn import CNN
from robustkit.models.lenet5 import LeNet5
from robustkit.models.linear import Linear
from robustkit.models.mlp import MLP
from robustkit.report.files import markdown

RESULT = Path(__file__).parent / "results" / "red_flags.md"
NETWORKS = {"linear": Linear(), "mlp": MLP(), "cnn": CNN(), "lenet5": LeNet5()}
STEPS = {"standard": 0, "standard, other seed": 0, "noise": 0, "single-step, eps 0.1": 1, "PGD of 5 steps, eps 0.2": 5}


def trained(network: nn.Module, how: str, x: Tensor, y: Tensor) -> nn.Module:
    """Adam, two epochs; on noise of standard deviation 0.2, or on adversarial examples, where `how` says so."""
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    threat = Threat("linf", 0.1 if STEPS[how] == 1 else 0.2)
    for _ in range(2):
        for rows in torch.randperm(len(x)).split(100):
            batch = x[rows]
            if how == "noise":
                batch = (batch + 0.2 * torch.randn_like(batch)).clamp(0, 1)
            elif STEPS[how]:
                batch = PGD(steps=STEPS[how])(network, batch, y[rows], threat)
            optimizer.zero_grad()
            F.cross_entropy(network(batch), y[rows]).backward()
            optimizer.step()
    return network.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = MNIST10k()()
    x, y = data.train.batch(torch.arange(2000))
    test, labels = data.test.batch(torch.arange(64))
    rows = []
    for name, architecture in NETWORKS.items():
        for seed, how in enumerate(STEPS):
            torch.manual_seed(seed)
            network = trained(architecture(data.shape, len(data.classes)), how, x, y)
            flags = probe(network, test, labels)
            right = float((network(test).argmax(dim=1) == labels).float().mean())
            rows.append(
                {
                    "network": name,
                    "training": how,
                    "clean": f"{100 * right:.0f} %",
                    "flags": "; ".join(f"{flag.name}: {flag.evidence}" for flag in flags) or "none",
                }
            )
            sys.stderr.write(f"{rows[-1]}\n")
    wrong = sum(row["flags"] != "none" for row in rows)
    low, high = wilson(wrong, len(rows))
    out = [
        "# Red flags of honest networks\n",
        f"{wrong} of {len(rows)} networks flagged, {100 * wrong / len(rows):.0f} % "
        f"[{100 * low:.0f}, {100 * high:.0f}]. "
        "Flags that come of the model itself, on 64 test digits. Repeat with `python benchmarks/red_flags.py`.\n",
        stated() + "\n",
        markdown(pd.DataFrame(rows)),
    ]
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text("\n".join(out), encoding="utf-8")


if __name__ == "__main__":
    main()
