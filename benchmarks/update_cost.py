"""What one weight update of each adversarial training costs, over one of standard training.

    python benchmarks/update_cost.py [--repeats 7] [--device cpu] [-o benchmarks/results/update_cost.md]

Two networks: `cnn` on 28 x 28 in batches of 100, and `preact_resnet18` on 32 x 32 in batches of 16. Methods take turns
in one process, so that the machine's moods meet all of them; processor time on a CPU, which other load disturbs least.
Images are random: no cost depends on what they show. Beside each method stands the floor, a bare loop of the passes
it cannot do without.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
import torch.nn.functional as F
from machine import spread, stated
from torch import Tensor, nn

from robustkit.contracts import Data, Threat, Training
from robustkit.data.load import load_data
from robustkit.data.splits import Subset, in_memory
from robustkit.host import default_host
from robustkit.models.build import build_model
from robustkit.training.batches import Batches
from robustkit.training.setup import make_optimizer

RESULT = Path(__file__).parent / "results" / "update_cost.md"
METHODS = ("standard", "free_at:replays=4", "nfgsm", "pgd_at:steps=7", "pgd_at:steps=10", "trades:steps=10")
PLAIN_TRADES = "trades-10, natural logits anew at every step"
TARGETS = {"free_at:replays=4": 1.15, **{f"pgd_at:steps={k}": (2 * k + 3) / 3 * 1.1 for k in (7, 10)}}
FLOORS = {"free_at:replays=4": 0, "pgd_at:steps=7": 7, "pgd_at:steps=10": 10}
"""Input gradients before the update; free training has none, but takes the input's gradient with the weights'."""


@dataclass(frozen=True)
class Setting:
    """A network, its images and how many updates are timed together."""

    network: str
    shape: tuple[int, int, int]
    batch: int
    updates: int


SETTINGS = (Setting("cnn", (1, 28, 28), 100, 20), Setting("preact_resnet18", (3, 32, 32), 16, 3))


def data_of(setting: Setting) -> Data:
    """The recipe of mnist_10k on random images, without what is measured apart: validation, and a growing radius."""
    base = load_data("mnist_10k", host=default_host())
    count = setting.batch * setting.updates
    images = torch.rand(count, *setting.shape, generator=torch.Generator().manual_seed(0))
    train = _Pixels((255 * images).round().to(torch.uint8), torch.arange(count) % 10)
    few = Subset(train, torch.arange(2))
    recipe = dataclasses.replace(base.recipe, batch_size=setting.batch, epochs=1, ramp=0.0, augment="none")
    return dataclasses.replace(
        base,
        name="random",
        shape=setting.shape,
        train=in_memory(train) or train,
        val=few,
        test=few,
        recipe=recipe,
        threat=Threat("linf", 8 / 255),
    )


@dataclass(frozen=True)
class _Pixels:
    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.images[indices].float() / 255, self.labels[indices]


def plain_trades(model: nn.Module, data: Data, training: Training) -> None:
    """TRADES as its formula reads: the natural logits are computed wherever they stand in it."""
    model = model.to(training.device)
    optimizer = make_optimizer(model, training.recipe)
    eps, step = data.threat.eps, 0.226 * data.threat.eps
    for x, y in Batches(data.train, training.recipe, torch.device(training.device), 0).epoch(0):
        model.eval()
        x_adv = (x + 0.001 * torch.randn_like(x)).clamp(0, 1)
        for _ in range(10):
            x_adv.requires_grad_()
            apart = F.kl_div(model(x_adv).log_softmax(1), model(x).softmax(1), reduction="sum")
            (gradient,) = torch.autograd.grad(apart, x_adv)
            x_adv = x_adv.detach() + step * gradient.sign()
            x_adv = torch.minimum(torch.maximum(x_adv, x - eps), x + eps).clamp(0, 1)
        model.train()
        optimizer.zero_grad()
        natural = F.cross_entropy(model(x), y)
        robust = F.kl_div(model(x_adv).log_softmax(1), model(x).softmax(1), reduction="batchmean")
        (natural + 6 * robust).backward()
        optimizer.step()


def bare(model: nn.Module, data: Data, training: Training, gradients: int) -> None:
    """The passes alone: `gradients` of the input with frozen weights, then one update with its optimiser's step."""
    model = model.to(training.device).train()
    optimizer = make_optimizer(model, training.recipe)
    for x, y in Batches(data.train, training.recipe, torch.device(training.device), 0).epoch(0):
        model.eval().requires_grad_(False)
        for _ in range(gradients):
            point = x.detach().requires_grad_()
            torch.autograd.grad(F.cross_entropy(model(point), y, reduction="sum"), point)
        model.train().requires_grad_(True)
        optimizer.zero_grad()
        point = x.detach().requires_grad_(gradients == 0)
        F.cross_entropy(model(point), y).backward()
        optimizer.step()


def runs(setting: Setting, device: str) -> dict[str, Callable[[], float]]:
    """Seconds of one update, by method."""
    host, data = default_host(), data_of(setting)
    clock = time.process_time if device == "cpu" else time.perf_counter

    def timed(run: Callable[[nn.Module, Data, Training], object], epochs: int = 1) -> float:
        recipe = dataclasses.replace(data.recipe, epochs=epochs)
        model = build_model(setting.network, data, host=host)
        training = Training(threat=data.threat, recipe=recipe, device=device, precision="fp32")
        began = clock()
        run(model, data, training)
        if device != "cpu":
            torch.cuda.synchronize()
        return (clock() - began) / (setting.updates * epochs)

    def method(name: str) -> Callable[[], float]:
        return lambda: timed(host.build("defense", name).value, 4 if name.startswith("free_at") else 1)

    def floor(gradients: int) -> Callable[[], float]:
        return lambda: timed(lambda model, part, training: bare(model, part, training, gradients))

    return {
        **{name: method(name) for name in METHODS},
        PLAIN_TRADES: lambda: timed(plain_trades),
        **{f"floor of {name}": floor(gradients) for name, gradients in FLOORS.items()},
    }


def measure(setting: Setting, repeats: int, device: str) -> dict[str, list[float]]:
    """Milliseconds an update; the first turn warms up and is dropped."""
    every = runs(setting, device)
    seconds: dict[str, list[float]] = {name: [] for name in every}
    for turn in range(repeats + 1):
        for name, run in every.items():
            seconds[name].append(1000 * run())
        sys.stderr.write(f"{setting.network}: turn {turn} of {repeats}\n")
    return {name: values[1:] for name, values in seconds.items()}


def section(setting: Setting, found: dict[str, list[float]]) -> list[str]:
    def over(name: str, base: str) -> float:
        return statistics.median(a / b for a, b in zip(found[name], found[base], strict=True))

    out = [
        f"## `{setting.network}`, {' x '.join(map(str, setting.shape))}, batches of {setting.batch}\n",
        "| method | milliseconds an update | over standard | target | | the floor over standard |",
        "|---|---:|---:|---:|---|---:|",
    ]
    for name in (*METHODS, PLAIN_TRADES):
        ratio, target = over(name, "standard"), TARGETS.get(name)
        verdict = "" if target is None else "met" if ratio <= target else "missed"
        floor = f"{over(f'floor of {name}', 'standard'):.2f}" if name in FLOORS else ""
        wanted = "" if target is None else f"≤ {target:.2f}"
        out.append(f"| `{name}` | {spread(found[name], 2)} | {ratio:.2f} | {wanted} | {verdict} | {floor} |")
    saved = over("trades:steps=10", PLAIN_TRADES)
    said = "met" if saved <= 0.75 else "missed"
    return [*out, "", f"trades-10 over the straightforward one: {saved:.2f} (target ≤ 0.75, {said}).\n"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    given = parser.parse_args()
    out = [
        "# Cost of one weight update\n",
        stated(given.device) + "\n",
        f"float32, random images, {given.repeats} repeats in turn after one to warm up: median [min, max], and median "
        f"of the ratios within a repeat. Repeat with `python benchmarks/update_cost.py --repeats {given.repeats}`.\n",
    ]
    for setting in SETTINGS:
        out += section(setting, measure(setting, given.repeats, given.device))
        given.output.parent.mkdir(parents=True, exist_ok=True)
        notes = Path(__file__).parent / "update_cost_notes.md"
        given.output.write_text("\n".join([*out, notes.read_text(encoding="utf-8")]), encoding="utf-8")


if __name__ == "__main__":
    main()
