"""Seconds an image of randomized smoothing: RobustKit's, a straightforward reference loop, and ART's.

    python benchmarks/smoothing_speed.py [--model cnn|resnet18] [--images 10] [--draws 10000] [--repeats 3] [-o FILE]

One network, images, n0 = 100, n and alpha for all, one process, in turn. The reference loop does what the paper's code
does: one image at a time in float32, batches of 400 copies, counts in Python. RobustKit's rows come twice: on the
same module in float32, and on a copy of it whose convolutions and BatchNorms are fused, channels last, in the precision
that `auto` takes on the machine (bf16 where a processor multiplies in it, else float32); what is certified is then that
copy. The adaptive mode is given one radius, 0.25 = 1 sigma, with the same n as its limit, and the label; the others
select a class. Its batches hold no more than the first look's draws of all images.
ART's row needs statsmodels, which ART doesn't install.

cnn is trained on noise for two epochs. resnet18, on images of 3 x 32 x 32, is not trained, for its speed doesn't depend
on the weights; the label is what it predicts. Its votes are then all but unanimous, which is the cheapest case for the
adaptive mode: benchmarks/results/smoothing.md has the passes that images of trained networks need.
"""

from __future__ import annotations

import argparse
import importlib.util
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
from robustkit.precision import choose_precision, search_model

RESULTS = Path(__file__).parent / "results"
SIGMA, N0, ALPHA, BATCH = 0.25, 100, 0.001, 400
FIRST = 32
"""Draws at the first look of the adaptive mode."""
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
    batch = min(BATCH, FIRST * len(x))  # every batch is filled up, and there is no more to draw at the first look
    found = Smoothing(sigma=SIGMA, n=n, alpha=ALPHA, radii=(SIGMA,), batch_size=batch)(model, x, y)
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


def cnn(count: int) -> tuple[nn.Module, Tensor, Tensor, str]:
    model = robustkit.train(f"noise:sigma={SIGMA}", recipe={"epochs": 2}, device="cpu").float()
    x, y = load_data("mnist_10k", host=default_host()).test.batch(torch.arange(count))
    return model, x, y, "cnn on MNIST, trained on noise"


def resnet18(count: int) -> tuple[nn.Module, Tensor, Tensor, str]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = default_host().build("model", "resnet18").value((3, 32, 32), 10).eval()
        x = torch.rand(count, 3, 32, 32)
    with torch.no_grad():
        return model, x, model(x).argmax(dim=1), "ResNet-18 on images of 3 x 32 x 32, untrained (see the script's head)"


MODELS = {"cnn": (cnn, 10, 10_000, 3), "resnet18": (resnet18, 4, 1_000, 1)}
"""With images, draws and repeats by default."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="cnn")
    parser.add_argument("--images", type=int)
    parser.add_argument("--draws", type=int)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--without-art", action="store_true", help="leave ART's row out")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    if not given.without_art and importlib.util.find_spec("statsmodels") is None:
        parser.error("ART's row needs statsmodels; install it, or leave the row out with --without-art")
    warnings.simplefilter("ignore")  # ART's
    make, images, draws, repeats = MODELS[given.model]
    images, draws, repeats = given.images or images, given.draws or draws, given.repeats or repeats
    suffix = "" if given.model == "cnn" else f"_{given.model}"
    output = given.output or RESULTS / f"smoothing_speed{suffix}.md"
    model, x, y, told = make(images)
    precision = choose_precision(model, x)
    quick = search_model(model, precision, x)
    runs = {name: (method, model) for name, method in METHODS.items() if name != "ART" or not given.without_art}
    runs |= {
        f"{name}, fused, {precision}": (method, quick) for name, (method, _) in runs.items() if name.startswith("Rob")
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    radii: dict[str, list[float]] = {}
    for _ in range(repeats):
        for name, (method, network) in runs.items():
            torch.manual_seed(0)
            began = time.process_time()
            radii[name] = method(network, x, y, draws)
            seconds[name].append((time.process_time() - began) / images)
    base = statistics.median(seconds["reference loop"])
    long = base * (100_000 + N0) / (draws + N0)
    out = [
        "# Speed of randomized smoothing\n",
        f"Written by `benchmarks/smoothing_speed.py`. {stated()}\n",
        f"{told}, {images} images, sigma = {SIGMA:g}, n0 = {N0}, n = {draws:,}, alpha = {ALPHA:g}, {repeats} repeats "
        "in turn; process seconds, which leave other work on the machine out. `fused` is a copy of the network with "
        f"convolution and BatchNorm in one, channels last, in the precision that auto chose here, {precision}. The "
        f"last column sets the adaptive rows against the loop at n = 100,000, {long:,.1f} s an image in proportion to "
        "its passes; their own passes for images that are settled don't grow with n.\n",
        "| method | seconds an image, median [min, max] | faster than the loop | mean radius | certified at 1 σ | "
        "than the loop at 100,000 |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, values in seconds.items():
        found = radii[name]
        at = sum(radius >= SIGMA for radius in found) / len(found)
        single = "one radius" in name
        mean = "–" if single else f"{sum(found) / len(found):.3f}"
        took = statistics.median(values)
        far = f"{long / took:,.0f} ×" if single else "–"
        out.append(f"| {name} | {spread(values, 4)} | {base / took:.1f} × | {mean} | {100 * at:.0f} % | {far} |")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("\n".join(out) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
