"""AutoAttack beside its reference: native standard and fast form, pyautoattack, and what two libraries call so.

    python benchmarks/autoattack.py [--data DIR] [--samples 50] [--dear 20] [--few 10] [--work FILE] [-o FILE]

DIR holds `reference_models/` (networks that others trained), `mnist/`, `cifar10/` and Fashion-MNIST's idx files;
without it only networks trained here are attacked. Every attack is given the same images, all of one row's network in
one run (the dear ones of other libraries a few), and scored by the host on what it returned. Search and verdict in
float32. Networks that are done stand in --work, a line each, and are not measured again. Writes
benchmarks/results/autoattack.md.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))

from agreement import LastWord, fell
from machine import stated
from records import Records
from reference_networks import reference_network

import robustkit
from robustkit.contracts import Norm, Threat
from robustkit.data.load import load_data
from robustkit.engine.statistics import wilson
from robustkit.host import Host, default_host
from robustkit.report.files import markdown

RESULT = Path(__file__).parent / "results" / "autoattack.md"
OURS = ("autoattack", "autoattack:form=fast")
REFERENCE = "pyautoattack.autoattack"
OTHERS = ("torchattacks.apgd_fab_square_10", "art.apgd_deepfool_square")
"""What the classes named AutoAttack in torchattacks and ART run, at their defaults."""


@dataclass(frozen=True)
class Case:
    """A network and a ball; a reference network is named by its file, one trained here by its defense."""

    network: str
    threat: Threat
    data: str = "mnist_10k"
    training: tuple[tuple[str, Any], ...] = ()
    others: bool = False  # beside those of other libraries, which know no l1 and are dear


L2_TRAINING = (("norm", "l2"), ("eps", 2.0))
CASES = (
    Case("standard", Threat("linf", 0.1), others=True),
    Case("pgd_at", Threat("linf", 0.3)),
    Case("trades", Threat("linf", 0.3)),
    Case("fgsm_at", Threat("linf", 0.3)),
    Case("mnist_kw_eps0.1", Threat("linf", 0.1), "mnist"),
    Case("fashion_mnist_kw_eps0.1", Threat("linf", 0.1), "fashion_mnist", others=True),
    Case("cifar10_resnet20", Threat("linf", 1 / 255), "cifar10"),
    Case("standard", Threat("l2", 1.0)),
    Case("pgd_at", Threat("l2", 2.0), training=L2_TRAINING),
    Case("mnist_kw_eps0.1", Threat("l2", 1.5), "mnist"),
    Case("fashion_mnist_kw_eps0.1", Threat("l2", 1.0), "fashion_mnist"),
    Case("cifar10_resnet20", Threat("l2", 0.15), "cifar10"),
    Case("standard", Threat("l1", 8.0)),
    Case("pgd_at", Threat("l1", 10.0), training=L2_TRAINING),
    Case("mnist_kw_eps0.1", Threat("l1", 10.0), "mnist"),
    Case("fashion_mnist_kw_eps0.1", Threat("l1", 8.0), "fashion_mnist"),
    Case("cifar10_resnet20", Threat("l1", 2.0), "cifar10"),
)


def network_of(case: Case, folder: Path | None) -> nn.Module | None:
    """None: a reference network, and no folder to read it from."""
    if case.data == "mnist_10k":
        return robustkit.train(case.network, model="cnn", precision="fp32", **dict(case.training))
    return None if folder is None else reference_network(case.network, folder)


def images_of(case: Case, folder: Path | None, count: int, host: Host) -> tuple[Tensor, Tensor]:
    """The first test images."""
    if case.data == "cifar10":
        assert folder is not None
        with np.load(folder / "cifar10" / "test.npz") as file:
            return torch.from_numpy(file["x"][:count]).float() / 255, torch.from_numpy(file["y"][:count]).long()
    return load_data(case.data, host=host, data_dir=folder).test.batch(torch.arange(count))


def measure(case: Case, model: nn.Module, images: Tensor, labels: Tensor, few: int, host: Host) -> list[dict[str, Any]]:
    """One row an attack, the reference first; those of other libraries on the first `few` images."""
    rows: list[dict[str, Any]] = []
    reference: Tensor | None = None
    for text in (REFERENCE, *OURS, *(OTHERS if case.others else ())):
        count = few if text in OTHERS else len(images)
        x, y = images[:count], labels[:count]
        component = host.build("attack", text)
        result = LastWord(model, "fp32", None, x).attack(component, x, y, case.threat, seed=0)
        robust = (result.clean_pred == y) & ~fell(result, y, case.threat)
        reference = robust if reference is None else reference
        first = reference[:count]
        tried = max(int(result.attacked.sum()), 1)
        rows.append(
            {
                "attack": component.label,
                "n": count,
                "robust": int(robust.sum()),
                "only it brings down": int((first & ~robust).sum()),
                "only the reference": int((robust & ~first).sum()),
                "passes": (result.forwards + result.backwards) / tried,
                "seconds": result.seconds,
            }
        )
        sys.stderr.write(f"{case.network} {case.threat} {rows[-1]}\n")
    return rows


def shown(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """As people read it; seconds and passes over those of the reference, where the images are the same."""
    out = []
    for row in rows:
        count = row["n"]
        low, high = wilson(row["robust"], count)
        agree = 1 - (row["only it brings down"] + row["only the reference"]) / count
        out.append(
            {
                "attack": row["attack"],
                "n": str(count),
                "robust": f"{100 * row['robust'] / count:.1f} [{100 * low:.1f}, {100 * high:.1f}]",
                "agrees": f"{100 * agree:.1f} %",
                "only it brings down": str(row["only it brings down"]),
                "only the reference": str(row["only the reference"]),
                "passes a sample": f"{row['passes']:.0f}",
                "seconds": f"{row['seconds']:.1f}",
                "of the reference": f"{row['seconds'] / rows[0]['seconds']:.2f}" if count == rows[0]["n"] else "–",
            }
        )
    return pd.DataFrame(out)


def summed(every: list[tuple[Case, int, list[dict[str, Any]]]], norm: Norm | None) -> dict[str, dict[str, float]]:
    """Over the networks of one norm, or all: what each of ours left standing, passes and seconds over the reference."""
    chosen = [(count, rows) for case, count, rows in every if norm in (None, case.threat.norm)]
    total = sum(count for count, _ in chosen)
    found = {}
    for place, name in enumerate((REFERENCE, *OURS)):
        mine = [rows[place] for _, rows in chosen]
        theirs = [rows[0] for _, rows in chosen]
        found[name] = {
            "n": total,
            "robust": 100 * sum(row["robust"] for row in mine) / total,
            "passes": sum(row["passes"] for row in mine) / sum(row["passes"] for row in theirs),
            "seconds": sum(row["seconds"] for row in mine) / sum(row["seconds"] for row in theirs),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--samples", type=int, default=50)
    parser.add_argument("--dear", type=int, default=20, help="images of the residual network")
    parser.add_argument("--few", type=int, default=10, help="images for the attacks of other libraries")
    parser.add_argument("--cases", type=int, nargs="*", help="numbers of the networks to attack; none: all")
    parser.add_argument("--work", type=Path, default=Path("runs/autoattack_benchmark.jsonl"))
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    given = parser.parse_args()
    host = default_host()
    every = []
    work = Records(given.work)
    for number, case in enumerate(CASES):
        wanted = given.dear if case.data == "cifar10" else given.samples
        few = min(given.few, wanted)
        ours = [host.build("attack", text).value.stages(case.threat.norm) for text in OURS]
        key = f"{robustkit.__version__} {case} {wanted} {few} {ours}"
        done = work.find(key=key)
        if done is None:
            model = network_of(case, given.data) if not given.cases or number in given.cases else None
            if model is None:
                continue
            x, y = images_of(case, given.data, wanted, host)
            done = work.add({"key": key, "rows": measure(case, model, x, y, few, host)})
        every.append((case, wanted, done["rows"]))
        write(given.output, every)


def write(path: Path, every: list[tuple[Case, int, list[dict[str, Any]]]]) -> None:
    out = [
        "# AutoAttack beside its reference\n",
        "Standard form, fast form and `pyautoattack` (version standard) on the same images and networks in one run, "
        "one after the other; scored by the host on what each returned. `only it brings down`, `only the reference`: "
        "samples on which the two verdicts differ. Passes are forward and backward passes of one sample, of those "
        "attacked. `torchattacks.apgd_fab_square_10` and `art.apgd_deepfool_square` are what these libraries call "
        "AutoAttack, at their defaults: the first has 10 iterations for the reference's 100, the second DeepFool for "
        "FAB and no targeted APGD. Repeat with `python benchmarks/autoattack.py --data DIR`.\n",
        stated() + "\n",
        "## All networks\n",
    ]
    norms: list[Norm | None] = [None, *dict.fromkeys(case.threat.norm for case, _, _ in every)]
    total = [
        {
            "norm": norm or "all",
            "attack": name,
            "n": f"{found['n']:.0f}",
            "robust": f"{found['robust']:.2f}",
            "passes of the reference": f"{found['passes']:.3f}",
            "seconds of the reference": f"{found['seconds']:.3f}",
        }
        for norm in norms
        for name, found in summed(every, norm).items()
    ]
    out.append(markdown(pd.DataFrame(total)))
    for case, count, rows in every:
        training = ", ".join(f"{name}={value}" for name, value in case.training)
        out.append(
            f"## `{case.network}`{f' ({training})' if training else ''}, {case.data}, {case.threat}, n = {count}\n"
        )
        out.append(markdown(shown(rows)))
    path.parent.mkdir(parents=True, exist_ok=True)
    notes = Path(__file__).parent / "autoattack_notes.md"
    if notes.is_file():
        out.append(notes.read_text(encoding="utf-8"))
    path.write_text("\n".join(out), encoding="utf-8")


if __name__ == "__main__":
    main()
