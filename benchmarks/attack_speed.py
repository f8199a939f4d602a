"""Is an attack faster through RobustKit than called by hand? Is the native one?

    python benchmarks/attack_speed.py --data-dir FOLDER --cifar FILE.npz [--only cnn|resnet18|resnet20] [--rounds 5]
        [--network NAME] [--cases FGSM,PGD-20] [--samples N] [--dear N] [--work FILE] [-o FOLDER]

FOLDER holds Fashion-MNIST as the data set `fashion_mnist` wants it; FILE holds arrays x (N, 3, 32, 32) uint8 and y
(N,), of which the first 2,500 are used; resnet20 is an undefended network that others trained. For each attack: the
library called directly as its documentation shows (`direct.py`), the same through RobustKit, and the native one, in
turn in one process, all in float32 at equal settings. Robust accuracies are judged alike: right on the clean input,
and not misclassified inside of the ball. The floor is a bare loop of as many forward passes and input gradients as the
native attack needed. What is done stands in --work, a line a case, and is not measured again; the pages show the last
measurement of each case.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import direct
import numpy as np
import pandas as pd
import torch
from machine import spread, stated
from records import Records
from reference_networks import reference_network
from torch import Tensor, nn

import robustkit
from robustkit.contracts import Norm, Threat
from robustkit.data.load import load_data
from robustkit.engine.evaluate import Arena, BlockResult
from robustkit.files import as_npz, write_atomically
from robustkit.host import default_host
from robustkit.norms import distance
from robustkit.precision import search_model
from robustkit.report.files import markdown

RESULT = Path(__file__).parent / "results"
NOTES = Path(__file__).parent / "attack_speed_notes.md"


@dataclass(frozen=True)
class Case:
    """One attack at one setting: the native text, and text and direct call by library."""

    title: str
    norm: Norm
    native: str
    wrapped: dict[str, tuple[str, direct.Call]]
    dear: bool = False  # on fewer samples


def gradient_cases(eps: float, eps2: float) -> list[Case]:
    """Attacks with a budget: FGSM, BIM, MI-FGSM, PGD."""
    s, s2 = eps / 8, 2.5 * eps2 / 20
    return [
        Case(
            "FGSM",
            "linf",
            "fgsm",
            {
                "torchattacks": ("torchattacks.fgsm", direct.torchattacks("FGSM")),
                "foolbox": ("foolbox.fgsm", direct.foolbox("LinfFastGradientAttack")),
                "art": ("art.fgsm", direct.art("FastGradientMethod")),
            },
        ),
        Case(
            "BIM-10",
            "linf",
            f"bim:steps=10:step_size={s}",
            {
                "torchattacks": (
                    f"torchattacks.bim:steps=10:step_size={s}",
                    direct.torchattacks("BIM", alpha=s, steps=10),
                ),
                "foolbox": (
                    f"foolbox.bim:steps=10:step_size={s}",
                    direct.foolbox("LinfBasicIterativeAttack", abs_stepsize=s, steps=10),
                ),
                "art": (
                    f"art.bim:steps=10:step_size={s}",
                    direct.art("BasicIterativeMethod", eps_step=s, max_iter=10, verbose=False),
                ),
            },
        ),
        Case(
            "MI-FGSM-10",
            "linf",
            f"mifgsm:steps=10:step_size={s}",
            {
                "torchattacks": (
                    f"torchattacks.mifgsm:steps=10:step_size={s}",
                    direct.torchattacks("MIFGSM", alpha=s, steps=10, decay=1.0),
                ),
                "foolbox": (
                    f"foolbox.mifgsm:steps=10:step_size={s}",
                    direct.foolbox("LinfMomentumIterativeFastGradientMethod", abs_stepsize=s, steps=10, momentum=1.0),
                ),
                "art": (
                    f"art.mifgsm:steps=10:step_size={s}",
                    direct.art("MomentumIterativeMethod", eps_step=s, max_iter=10, decay=1.0, verbose=False),
                ),
            },
        ),
        Case(
            "PGD-20",
            "linf",
            f"pgd:steps=20:step_size={s}",
            {
                "torchattacks": (
                    f"torchattacks.pgd:steps=20:step_size={s}",
                    direct.torchattacks("PGD", alpha=s, steps=20),
                ),
                "foolbox": (
                    f"foolbox.pgd:steps=20:step_size={s}",
                    direct.foolbox("LinfPGD", abs_stepsize=s, steps=20),
                ),
                "art": (
                    f"art.pgd:steps=20:step_size={s}:restarts=1",
                    direct.art("ProjectedGradientDescent", eps_step=s, max_iter=20, num_random_init=1, verbose=False),
                ),
            },
        ),
        Case(
            "PGD-20",
            "l2",
            f"pgd:steps=20:step_size={s2}",
            {
                "torchattacks": (
                    f"torchattacks.pgdl2:steps=20:step_size={s2}",
                    direct.torchattacks("PGDL2", alpha=s2, steps=20),
                ),
                "foolbox": (
                    f"foolbox.pgd:steps=20:step_size={s2}",
                    direct.foolbox("L2PGD", abs_stepsize=s2, steps=20),
                ),
                "art": (
                    f"art.pgd:steps=20:step_size={s2}:restarts=1",
                    direct.art(
                        "ProjectedGradientDescent", norm=2, eps_step=s2, max_iter=20, num_random_init=1, verbose=False
                    ),
                ),
            },
        ),
    ]


def other_cases() -> list[Case]:
    """Adaptive steps, ensembles, black boxes and minimal distances."""
    return [
        Case(
            "APGD-50",
            "linf",
            "apgd:steps=50",
            {
                "torchattacks": (
                    "torchattacks.apgd:steps=50",
                    direct.torchattacks("APGD", norm="Linf", steps=50),
                ),
                "art": (
                    "art.apgd:steps=50:restarts=1",
                    direct.art("AutoProjectedGradientDescent", max_iter=50, nb_random_init=1, verbose=False),
                ),
            },
            dear=True,
        ),
        Case(
            "Square-300",
            "linf",
            "square:queries=300",
            {
                "torchattacks": (
                    "torchattacks.square:queries=300",
                    direct.torchattacks("Square", norm="Linf", n_queries=300),
                ),
                "art": ("art.square:queries=300", direct.art("SquareAttack", max_iter=300, verbose=False)),
            },
            dear=True,
        ),
        Case(
            "FAB-10",
            "linf",
            "fab:steps=10",
            {
                "torchattacks": (
                    "torchattacks.fab:steps=10",
                    direct.torchattacks("FAB", norm="Linf", steps=10, n_classes=10),
                )
            },
            dear=True,
        ),
        Case(
            "AutoAttack standard",
            "linf",
            "autoattack",
            {"pyautoattack": ("pyautoattack.autoattack", direct.pyautoattack("Linf"))},
            dear=True,
        ),
        Case(
            "DeepFool-50",
            "l2",
            "deepfool:steps=50",
            {
                "foolbox": (
                    "foolbox.deepfool:steps=50",
                    direct.foolbox("L2DeepFoolAttack", budget=False, steps=50),
                ),
                "torchattacks": (
                    "torchattacks.deepfool:steps=50",
                    direct.torchattacks("DeepFool", budget=False, steps=50),
                ),
                "art": (
                    "art.deepfool:steps=50",
                    direct.art("DeepFool", eps="", wants_labels=False, max_iter=50, verbose=False),
                ),
            },
            dear=True,
        ),
        Case(
            "C&W-50",
            "l2",
            "cw:steps=50:binary_search_steps=3",
            {
                "torchattacks": ("torchattacks.cw:steps=50", direct.torchattacks("CW", budget=False, steps=50)),
                "foolbox": (
                    "foolbox.cw:steps=50:binary_search_steps=3",
                    direct.foolbox("L2CarliniWagnerAttack", budget=False, steps=50, binary_search_steps=3),
                ),
                "art": (
                    "art.cw:steps=10:binary_search_steps=3",
                    direct.art("CarliniL2Method", eps="", max_iter=10, binary_search_steps=3, verbose=False),
                ),
            },
            dear=True,
        ),
        Case(
            "DDN-50",
            "l2",
            "ddn:steps=50",
            {"foolbox": ("foolbox.ddn:steps=50", direct.foolbox("DDNAttack", budget=False, steps=50))},
            dear=True,
        ),
    ]


@dataclass
class Timed:
    """Seconds of the rounds, and robust accuracies."""

    seconds: list[float] = field(default_factory=list)
    robust: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def accuracy(self) -> float:
        return statistics.mean(self.robust)


def robust_share(model: nn.Module, x: Tensor, y: Tensor, x_adv: Tensor, threat: Threat) -> float:
    """Share that is right on the clean input and not misclassified inside of the ball."""
    with torch.no_grad():
        right = model(x).argmax(dim=1) == y
        wrong = model(x_adv).argmax(dim=1) != y
    inside = distance(x_adv, x, threat.norm) <= threat.allowance
    return float((right & ~(wrong & inside)).float().mean())


def by_hand(call: direct.Call, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, into: Timed) -> None:
    began = time.perf_counter()
    x_adv = call(model, x, y, threat.eps).detach()
    into.seconds.append(time.perf_counter() - began)
    model.zero_grad(set_to_none=True)
    model.eval()
    into.robust.append(robust_share(model, x, y, x_adv.float(), threat))


def through(text: str, arena: Arena, x: Tensor, y: Tensor, threat: Threat, seed: int, into: Timed) -> BlockResult:
    """As a bench does it: verification and records of the passes included; the arena serves all its attacks."""
    attack = default_host().build("attack", text)
    began = time.perf_counter()
    result = arena.attack(attack, x, y, threat, seed=seed)
    into.seconds.append(time.perf_counter() - began)
    into.robust.append(robust_share(arena.model, x, y, result.x_adv, threat))
    return result


def floor(model: nn.Module, x: Tensor, y: Tensor, forwards: int, backwards: int) -> float:
    """Seconds of bare passes on batches of len(x): `backwards` input gradients, the other forwards alone."""
    network = search_model(model, "fp32", x[:2])
    began = time.perf_counter()
    for count in batches(backwards, len(x)):
        point = x[:count].clone().requires_grad_()
        torch.autograd.grad(nn.functional.cross_entropy(network(point), y[:count], reduction="sum"), point)
    with torch.no_grad():
        for count in batches(forwards - backwards, len(x)):
            network(x[:count])
    return time.perf_counter() - began


def batches(total: int, size: int) -> list[int]:
    whole, rest = divmod(max(total, 0), size)
    return [size] * whole + [rest] * (rest > 0)


def verification(model: nn.Module, x: Tensor) -> float:
    """Seconds of the host's own two float32 passes: clean, and what came back."""
    began = time.perf_counter()
    with torch.no_grad():
        model(x)
        model(x)
    return time.perf_counter() - began


def measure(case: Case, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, rounds: int) -> list[dict[str, str]]:
    """One row a library, and one for the native attack."""
    hands = {name: Timed() for name in case.wrapped}
    wraps = {name: Timed() for name in case.wrapped}
    native, floors, checks = Timed(), [], []
    arena = Arena(model, "fp32", None, x)
    for turn in range(rounds + 1):
        if turn == 1:  # the first one warmed up
            for timed in (*hands.values(), *wraps.values(), native):
                timed.seconds.clear()
                timed.robust.clear()
            floors.clear()
            checks.clear()
        for name, (text, call) in case.wrapped.items():
            torch.manual_seed(turn)
            np.random.seed(turn)  # noqa: NPY002 - what ART draws from
            by_hand(call, model, x, y, threat, hands[name])
            through(text, arena, x, y, threat, turn, wraps[name])
        result = through(case.native, arena, x, y, threat, turn, native)
        floors.append(floor(model, x, y, result.forwards, result.backwards))
        checks.append(verification(model, x))
    of = {"attack": case.title, "norm": case.norm, "images": str(len(x)), "rounds": str(rounds)}
    rows = [
        {
            **of,
            "library": name,
            "direct s": spread(hands[name].seconds),
            "direct robust": f"{100 * hands[name].accuracy:.1f}",
            "RobustKit s": spread(wraps[name].seconds),
            "RobustKit robust": f"{100 * wraps[name].accuracy:.1f}",
            "RobustKit / direct": f"{wraps[name].median / hands[name].median:.2f}",
        }
        for name in case.wrapped
    ]
    fastest = min(hands, key=lambda name: hands[name].median)
    bare = statistics.median(floors)
    total = bare + statistics.median(checks)
    rows.append(
        {
            **of,
            "library": "native",
            "direct s": f"{hands[fastest].median:.3f} ({fastest}, the fastest)",
            "direct robust": f"{100 * hands[fastest].accuracy:.1f}",
            "RobustKit s": spread(native.seconds),
            "RobustKit robust": f"{100 * native.accuracy:.1f}",
            "RobustKit / direct": f"{native.median / hands[fastest].median:.2f}",
            "over the floor": f"{native.median / total:.2f}",
        }
    )
    return rows


@dataclass(frozen=True)
class Subject:
    """Networks by name, made when asked for; images, labels, eps in linf and l2."""

    networks: dict[str, Callable[[], nn.Module]]
    x: Tensor
    y: Tensor
    eps: float
    eps2: float


def cnn(given: argparse.Namespace) -> Subject:
    """Two networks on Fashion-MNIST, trained for three epochs."""
    settings = {"dataset": "fashion_mnist", "model": "cnn", "precision": "fp32", "data_dir": str(given.data_dir)}
    networks = {
        defense: partial(robustkit.train, defense, recipe={"epochs": 3}, norm="linf", eps=0.1, **settings)
        for defense in ("standard", "pgd_at")
    }
    data = load_data("fashion_mnist", host=default_host(), data_dir=given.data_dir)
    return Subject(networks, *data.test.batch(torch.arange(given.samples or 200)), 0.1, 1.0)


def resnet18(given: argparse.Namespace) -> Subject:
    """Two ResNet-18 on a few CIFAR-10 images, trained for a few epochs: not good ones, but of the real size."""
    with np.load(given.cifar) as arrays:
        x, y = arrays["x"][:2500], arrays["y"][:2500].astype(np.int64)
    path = Path(tempfile.gettempdir()) / "robustkit_attack_speed.npz"
    split = {"x_train": x[:2000], "y_train": y[:2000], "x_test": x[2000:], "y_test": y[2000:]}
    write_atomically(path, as_npz(split))  # at each call: FILE may be another one
    settings = {"dataset": f"npz:{path}", "model": "resnet18", "precision": "fp32"}
    recipe = {"batch_size": 50, "lr": 0.05, "augment": "none", "ramp": 0.0}
    networks = {
        defense: partial(
            robustkit.train, defense, recipe={**recipe, "epochs": epochs}, norm="linf", eps=8 / 255, **settings
        )
        for defense, epochs in (("standard", 10), ("rfgsm_at", 5))
    }
    data = load_data(f"npz:{path}", host=default_host())
    return Subject(networks, *data.test.batch(torch.arange(given.samples or 8)), 8 / 255, 0.5)


def resnet20(given: argparse.Namespace) -> Subject:
    """An undefended CIFAR-10 network of 91.7 % that others trained, in the folder ROBUSTKIT_DATA."""
    folder = os.environ.get("ROBUSTKIT_DATA")
    if not folder:
        raise SystemExit("resnet20 needs the reference models: set ROBUSTKIT_DATA to their folder, or give --only cnn")
    name = "cifar10_resnet20"
    count = given.samples or 16
    with np.load(Path(folder) / "cifar10" / "test.npz") as arrays:
        x, y = torch.from_numpy(arrays["x"][:count]), torch.from_numpy(arrays["y"][:count].astype(np.int64))
    return Subject({name: partial(reference_network, name, Path(folder))}, x.float() / 255, y, 8 / 255, 0.5)


SUBJECTS: dict[str, Callable[[argparse.Namespace], Subject]] = {"cnn": cnn, "resnet18": resnet18, "resnet20": resnet20}
DEAR = {"cnn": 12, "resnet18": 2, "resnet20": 4}


def measured(
    name: str, network: str, subject: Subject, given: argparse.Namespace, work: Records
) -> list[dict[str, Any]]:
    """A record a case: what stands in `work`, and what is asked for besides."""
    model, clean = None, 0.0
    asked = given.network in (None, network)
    dear = given.dear or DEAR[name]
    found = []
    for case in (*gradient_cases(subject.eps, subject.eps2), *other_cases()):
        x, y = (subject.x[:dear], subject.y[:dear]) if case.dear else (subject.x, subject.y)
        key = {"subject": name, "network": network, "attack": case.title, "norm": case.norm}
        settings = {"native": case.native, "images": len(x), "rounds": given.rounds, "version": robustkit.__version__}
        record = work.find(**key, **settings)
        if record is None and asked and (not given.cases or case.title in given.cases.split(",")):
            if model is None:
                model = subject.networks[network]().eval()
                with torch.no_grad():
                    right = model(subject.x).argmax(dim=1) == subject.y
                clean = float(right.float().mean())
            threat = Threat(case.norm, subject.eps2 if case.norm == "l2" else subject.eps)
            rows = measure(case, model, x, y, threat, given.rounds)
            record = work.add({**key, **settings, "clean": clean, "stated": stated(), "rows": rows})
            sys.stderr.write(f"{name} {network} {case.title} {case.norm}\n")
        record = record or work.find(**key)
        if record is not None:
            found.append(record)
    return found


def page(name: str, subject: Subject, records: dict[str, list[dict[str, Any]]]) -> str:
    """The records by network, as people read them."""
    machines = dict.fromkeys(record["stated"] for found in records.values() for record in found)
    out = [
        f"# Attacks by hand and through RobustKit: {name}\n",
        "Seconds: median [min, max] of the rounds, after one to warm up. Repeat with "
        f"`python benchmarks/attack_speed.py --only {name}`; its head says what the columns are.\n",
        *(f"{machine} Float32; linf {subject.eps:.4g}, l2 {subject.eps2:g}.\n" for machine in machines),
    ]
    for network, found in records.items():
        if found:
            out.append(f"## `{network}`, clean {100 * found[-1]['clean']:.1f} %\n")
            out.append(markdown(pd.DataFrame([row for record in found for row in record["rows"]]).fillna("–")))
    return "\n".join([*out, NOTES.read_text(encoding="utf-8")])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--cifar", type=Path)
    parser.add_argument("--only", choices=sorted(SUBJECTS))
    parser.add_argument("--network", help="such as standard; by default all")
    parser.add_argument("--cases", help="titles by comma, such as FGSM,PGD-20; by default all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, help="images; by default 200 for cnn, 8 for resnet18, 16 for resnet20")
    parser.add_argument("--dear", type=int, help="images for dear attacks; by default 12, 2 and 4")
    parser.add_argument("--work", type=Path, default=Path("runs/attack_speed_benchmark.jsonl"))
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    given = parser.parse_args()
    work = Records(given.work)
    for name in [given.only] if given.only else SUBJECTS:
        subject = SUBJECTS[name](given)
        records = {network: measured(name, network, subject, given, work) for network in subject.networks}
        write_atomically(given.output / f"attack_speed_{name}.md", page(name, subject, records).encode())


if __name__ == "__main__":
    main()
