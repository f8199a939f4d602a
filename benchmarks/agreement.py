"""Do libraries agree? The same attack from every library, on the same models, images, eps, steps and step sizes.

    python benchmarks/agreement.py [--samples 200] [-o benchmarks/results/agreement.md]

For each attack: robust accuracy with its 95 % interval, the share of samples on which the verdict equals that of the
first row, the median distance of what fell, passes a sample and seconds. Search and verdict in float32.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from machine import stated

import robustkit
from robustkit.contracts import Norm, Threat
from robustkit.data.load import load_data
from robustkit.engine.evaluate import Arena, BlockResult
from robustkit.engine.statistics import wilson
from robustkit.host import default_host
from robustkit.report.files import markdown

RESULT = Path(__file__).parent / "results" / "agreement.md"
EPS: dict[str, dict[Norm, float]] = {
    "standard": {"linf": 0.1, "l2": 1.0},
    "pgd_at": {"linf": 0.3, "l2": 2.5},
}
"""Where each model has samples that fall and samples that stand."""


@dataclass(frozen=True)
class Group:
    """One attack; every library at the same settings where it has them."""

    title: str
    norm: Norm
    attacks: tuple[str, ...]
    samples: int | None = None  # fewer, where the attack is dear


GROUPS = (
    Group("FGSM", "linf", ("fgsm", "torchattacks.fgsm", "foolbox.fgsm", "art.fgsm")),
    Group("FGM", "l2", ("fgsm", "foolbox.fgsm", "art.fgsm")),
    Group(
        "BIM, 10 steps of 0.05",
        "linf",
        tuple(f"{name}:steps=10:step_size=0.05" for name in ("bim", "torchattacks.bim", "foolbox.bim", "art.bim")),
    ),
    Group(
        "PGD, 40 steps of 0.0125, random start",
        "linf",
        (
            "pgd:steps=40:step_size=0.0125",
            "torchattacks.pgd:steps=40:step_size=0.0125",
            "foolbox.pgd:steps=40:step_size=0.0125",
            "art.pgd:steps=40:step_size=0.0125:restarts=1",
        ),
    ),
    Group(
        "PGD, 40 steps of 0.125, random start",
        "l2",
        (
            "pgd:steps=40:step_size=0.125",
            "torchattacks.pgdl2:steps=40:step_size=0.125",
            "foolbox.pgd:steps=40:step_size=0.125",
            "art.pgd:steps=40:step_size=0.125:restarts=1",
        ),
    ),
    Group(
        "MI-FGSM, 10 steps of 0.05, decay 1",
        "linf",
        tuple(
            f"{name}:steps=10:step_size=0.05"
            for name in ("mifgsm", "torchattacks.mifgsm", "foolbox.mifgsm", "art.mifgsm")
        ),
    ),
    Group(
        "APGD on cross-entropy, 50 steps, 1 restart",
        "linf",
        ("apgd:steps=50", "torchattacks.apgd:steps=50:restarts=1", "art.apgd:steps=50:restarts=1"),
        100,
    ),
    Group(
        "Square, 500 queries",
        "linf",
        ("square:queries=500", "torchattacks.square:queries=500", "art.square:queries=500"),
        100,
    ),
    Group(
        "DeepFool, 50 steps",
        "l2",
        ("deepfool:steps=50", "foolbox.deepfool:steps=50", "torchattacks.deepfool:steps=50", "art.deepfool:steps=50"),
        50,
    ),
    Group(
        "Carlini and Wagner, 100 steps a constant",
        "l2",
        (
            "cw:steps=100:binary_search_steps=5:initial_const=1",
            "foolbox.cw:steps=100:binary_search_steps=5:initial_const=1",
            "art.cw:steps=100:binary_search_steps=5:initial_const=1",
            "torchattacks.cw:steps=500",
        ),
        50,
    ),
    Group(
        "Minimal distance by gradients, 100 steps",
        "l2",
        ("ddn:steps=100", "foolbox.ddn:steps=100", "fmn:steps=100", "foolbox.fmn:steps=100"),
        100,
    ),
    Group(
        "FAB, 20 steps, 1 restart",
        "linf",
        ("fab:steps=20", "torchattacks.fab:steps=20:restarts=1"),
        50,
    ),
    Group(
        "AutoAttack, and what other libraries call so",
        "linf",
        (
            "autoattack",
            "pyautoattack.autoattack",
            "torchattacks.apgd_fab_square_10:queries=1000",
            "art.apgd_deepfool_square:steps=20:restarts=1:queries=200",
        ),
        30,
    ),
)


class LastWord(Arena):
    """Scores what each attack returns itself: nothing that fell on the way is kept in its place."""

    _steady = False


def measure(group: Group, threat: Threat, arena: Arena, x: torch.Tensor, y: torch.Tensor) -> list[dict[str, str]]:
    """One row a library."""
    host = default_host()
    rows: list[dict[str, str]] = []
    first: torch.Tensor | None = None
    for text in group.attacks:
        component = host.build("attack", text)
        try:
            result = arena.attack(component, x, y, threat, seed=0)
        except Exception as error:  # a failing library is a result too
            rows.append({"attack": component.label, "robust": f"error: {error}"})
            continue
        fallen = fell(result, y, threat)
        robust = (result.clean_pred == y) & ~fallen
        first = robust if first is None else first
        rows.append(row(component.label, result, robust, first, y, threat))
    return rows


def fell(result: BlockResult, y: torch.Tensor, threat: Threat) -> torch.Tensor:
    """Misclassified within eps: for attacks with a budget, and for those that minimise the distance."""
    distance = getattr(result, f"dist_{threat.norm}")
    return result.attacked & (result.adv_pred != y) & (distance <= threat.allowance)


def row(
    label: str, result: BlockResult, robust: torch.Tensor, first: torch.Tensor, y: torch.Tensor, threat: Threat
) -> dict[str, str]:
    count = len(y)
    low, high = wilson(int(robust.sum()), count)
    fooled = result.attacked & (result.adv_pred != y)
    distances = getattr(result, f"dist_{threat.norm}")[fooled]
    tried = max(int(result.attacked.sum()), 1)
    return {
        "attack": label,
        "robust": f"{100 * float(robust.float().mean()):.1f} [{100 * low:.1f}, {100 * high:.1f}]",
        "agrees": f"{100 * float((robust == first).float().mean()):.1f} %",
        "fooled": str(int(fooled.sum())),
        "median distance": f"{float(distances.median()):.3f}" if len(distances) else "–",
        "passes": f"{(result.forwards + result.backwards) / tried:.0f}",
        "seconds": f"{result.seconds:.2f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    given = parser.parse_args()
    import pandas as pd

    data = load_data("mnist_10k", host=default_host())
    x, y = data.test.batch(torch.arange(given.samples))
    out = [
        "# Do libraries agree?\n",
        "The same attack from every library, on the same model, images, eps, steps and step size, through RobustKit: "
        "the verdict is the host's, on what each attack returned in the end (a bench counts what fell on the way too). "
        "`agrees`: samples with the same verdict as the first row. `fooled`: misclassified "
        "at any distance; its median distance is in the norm of the heading. Repeat with "
        "`python benchmarks/agreement.py`.\n",
        stated() + "\n",
    ]
    for defense in ("standard", "pgd_at"):
        model = robustkit.train(defense, model="cnn", precision="fp32")
        clean = float((model(x).argmax(dim=1) == y).float().mean())
        out.append(f"## `{defense}` (cnn, mnist_10k, clean {100 * clean:.1f} %)\n")
        arena = LastWord(model, "fp32", None, x)
        for group in GROUPS:
            count = min(group.samples or given.samples, given.samples)
            threat = Threat(group.norm, EPS[defense][group.norm])
            rows = measure(group, threat, arena, x[:count], y[:count])
            sys.stderr.write(f"{defense}: {group.title}\n")
            out.append(f"### {group.title} ({group.norm}, eps {threat.eps:g}, n = {count})\n")
            out.append(markdown(pd.DataFrame(rows).fillna("–")))
    given.output.parent.mkdir(parents=True, exist_ok=True)
    notes = Path(__file__).parent / "agreement_notes.md"
    if notes.is_file():
        out.append(notes.read_text(encoding="utf-8"))
    given.output.write_text("\n".join(out), encoding="utf-8")


if __name__ == "__main__":
    main()
