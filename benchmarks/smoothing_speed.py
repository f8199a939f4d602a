"""Seconds an image of randomized smoothing: RobustKit's, a straightforward reference loop, and ART's.

    python benchmarks/smoothing_speed.py [--images 10] [--draws 10000] [-o benchmarks/results/smoothing_speed.md]

One network, images, n0 = 100, n and alpha for all, one process, in turn. The reference loop does what the paper's code
does: one image at a time in float32, batches of 400 copies, counts in Python. The adaptive mode is given one radius,
0.25 = 1 sigma, with the same n as its limit. ART's needs statsmodels, which ART doesn't install.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from machine import spread, stated
from scipy.stats import binomtest, norm
from torch import Tensor, nn

import robustkit
from robustkit.certifiers.smoothing import Smoothing
from robustkit.data.load import load_data
from robustkit.host import default_host

RESULT = Path(__file__).parent / "results" / "smoothing_speed.md"
SIGMA, N0, ALPHA, BATCH = 0.25, 100, 0.001, 400
Method = Callable[[nn.Module, Tensor, Tensor, int], list[float]]


@torch.no_grad()
def reference(model: nn.Module, x: Tensor, y: Tensor, n: int) -> list[float]:
    """Radii, 0 where it abstains or the class is not the label."""

    def counts(image: Tensor, draws: int) -> list[int]:
        found = [0] * 10
        while draws > 0:
            batch = image.repeat(min(BATCH, draws), 1, 1, 1)
            for label in model(batch + SIGMA * torch.randn_like(batch)).argmax(1).tolist():
                found[label] += 1
            draws -= BATCH
        return found

    radii = []
    for image, label in zip(x, y.tolist(), strict=True):
        first = counts(image, N0)
        top = first.index(max(first))
        hits = counts(image, n)[top]
        low = binomtest(hits, n, alternative="greater").proportion_ci(1 - ALPHA, method="exact").low
        radii.append(SIGMA * float(norm.ppf(low)) if low > 0.5 and top == label else 0.0)
    return radii


def fixed(model: nn.Module, x: Tensor, y: Tensor, n: int) -> list[float]:
    found = Smoothing(sigma=SIGMA, mode="fixed", n0=N0, n=n, alpha=ALPHA, batch_size=BATCH)(model, x, y)
    return torch.where(found.prediction == y, found.radius, 0.0).tolist()


def adaptive(model: nn.Module, x: Tensor, y: Tensor, n: int) -> list[float]:
    found = Smoothing(sigma=SIGMA, n=n, alpha=ALPHA, radii=(SIGMA,), batch_size=BATCH)(model, x, y)
    return torch.where(found.prediction == y, found.radius, 0.0).tolist()


def art(model: nn.Module, x: Tensor, y: Tensor, n: int) -> list[float]:
    from art.estimators.certification.randomized_smoothing import PyTorchRandomizedSmoothing

    smoothed = PyTorchRandomizedSmoothing(
        model=model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=10,
        device_type="cpu",
        sample_size=N0,
        scale=SIGMA,
        alpha=ALPHA,
    )
    prediction, radius = smoothed.certify(x.numpy(), n=n, batch_size=BATCH)
    return [float(r) if int(p) == int(t) else 0.0 for p, r, t in zip(prediction, radius, y, strict=True)]


METHODS: dict[str, Method] = {
    "reference loop": reference,
    "ART": art,
    "RobustKit, fixed": fixed,
    "RobustKit, adaptive, one radius": adaptive,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # ART's
    model = robustkit.train(f"noise:sigma={SIGMA}", recipe={"epochs": 2}, device="cpu").float()
    x, y = load_data("mnist_10k", host=default_host()).test.batch(torch.arange(given.images))
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    radii: dict[str, list[float]] = {}
    for _ in range(given.repeats):
        for name, method in METHODS.items():
            torch.manual_seed(0)
            began = time.process_time()
            radii[name] = method(model, x, y, given.draws)
            seconds[name].append((time.process_time() - began) / given.images)
    base = statistics.median(seconds["reference loop"])
    out = [
        "# Speed of randomized smoothing\n",
        f"Written by `benchmarks/smoothing_speed.py`. {stated()}\n",
        f"cnn on MNIST, {given.images} images, sigma = {SIGMA:g}, n0 = {N0}, n = {given.draws:,}, alpha = {ALPHA:g}, "
        f"float32, {given.repeats} repeats in turn; process seconds, which leave other work on the machine out.\n",
        "| method | seconds an image, median [min, max] | faster than the loop | mean radius | certified at 1 σ |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, values in seconds.items():
        found = radii[name]
        at = sum(radius >= SIGMA for radius in found) / len(found)
        mean = "–" if "one radius" in name else f"{sum(found) / len(found):.3f}"
        speed = base / statistics.median(values)
        out.append(f"| {name} | {spread(values, 4)} | {speed:.1f} × | {mean} | {100 * at:.0f} % |")
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text("\n".join(out) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
