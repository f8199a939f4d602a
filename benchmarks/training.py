"""What each adversarial training costs, and what it reaches.

    python benchmarks/training.py [--images 4000] [--epochs 8] [--seeds 0,1,2] [--limit 500]

Every method is trained from the same first weights with the same recipe, and attacked by PGD (50 steps, 10 restarts)
and APGD on targeted DLR; the worst case is the share that stands against both. What one weight update costs is
measured apart, by update_cost.py.

What is finished is kept in --work: weights, and one line a measurement in records.jsonl. A second call goes on there,
and with a larger --limit attacks the images that are new. At full size, with a GPU:

    python benchmarks/training.py --dataset cifar10 --model preact_resnet18 --device cuda --images 0 --epochs 30 \
        --limit 2000 --precision auto -o benchmarks/results/training_cifar10.md
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from machine import stated
from records import Records
from torch import Tensor, nn

import robustkit
from robustkit.contracts import Data, Recipe, Training
from robustkit.data.load import load_data
from robustkit.data.splits import Subset, in_memory
from robustkit.engine.statistics import wilson
from robustkit.host import default_host
from robustkit.models.build import build_model
from robustkit.models.weights import load_checkpoint, save_weights
from robustkit.tables import robust as stands

RESULTS = Path(__file__).parent / "results"
Record = dict[str, Any]
PLAIN: dict[str, float] = {}
EMA = {"ema": 0.99}
# a label, the defense, and the fields of the recipe in which it differs from the others
METHODS: tuple[tuple[str, str, dict[str, float]], ...] = (
    ("standard", "standard", PLAIN),
    ("pgd_at", "pgd_at", PLAIN),
    ("free_at m=4", "free_at:replays=4", PLAIN),
    ("nfgsm", "nfgsm", PLAIN),
    ("nfgsm + ema", "nfgsm", EMA),
    ("fast_at", "fast_at", PLAIN),
    ("fgsm_at", "fgsm_at", PLAIN),
    ("trades", "trades", PLAIN),
    ("mart", "mart", PLAIN),
    ("pgd_at + awp", "pgd_at:awp=0.01", PLAIN),
    ("free_at m=2", "free_at:replays=2", PLAIN),
    ("free_at m=8", "free_at:replays=8", PLAIN),
    ("free_at m=4, longer", "free_at:replays=4", {"epochs": 4, "lr": 0.5}),  # factors
)
ATTACKS = ("pgd:steps=50:restarts=10", "apgd:loss=dlr_targeted:classes=3")
PART = 500
"""Images that are attacked between two records."""
NOBODY = {"limit": 0, "clean": 0, "pgd": 0, "apgd": 0, "worst": 0}


class Work(Records):
    """The folder of what is finished."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "records.jsonl")
        self._folder = folder

    def furthest(self, limit: int, **key: Any) -> Record:
        """The record of the most images up to `limit`; that of none, where there is none."""
        return max((r for r in self.every(**key) if r["limit"] <= limit), key=lambda r: r["limit"], default=NOBODY)

    def add(self, record: Record) -> Record:
        print(record, flush=True)
        return super().add(record)

    def weights(self, label: str, seed: int, settings: str) -> Path:
        name = "".join(letter if letter.isalnum() else "-" for letter in f"{settings} {label} {seed}")
        return self._folder / f"{name}.safetensors"


@contextlib.contextmanager
def counted(model: nn.Module) -> Iterator[dict[str, int]]:
    """Counts images that pass forward and backward."""
    seen = {"forward": 0, "backward": 0}

    def forward(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen["forward"] += len(output)
        if output.requires_grad:
            output.register_hook(lambda gradient: seen.__setitem__("backward", seen["backward"] + len(gradient)))

    handle = model.register_forward_hook(forward)
    try:
        yield seen
    finally:
        handle.remove()


def trained(
    label: str, defense: str, changes: dict[str, float], seed: int, data: Data, given: Any, work: Work
) -> Record:
    settings = f"{given.dataset} {given.model} {given.images} {given.epochs}"
    key = {"kind": "training", "label": label, "seed": seed, "settings": settings}
    path = work.weights(label, seed, settings)
    found = work.find(**key)
    if found is not None and path.is_file():
        return found
    host = default_host()
    recipe = recipe_of(data, given)
    if label.endswith("longer"):
        changes = {"epochs": given.epochs * int(changes["epochs"]), "lr": recipe.lr * changes["lr"]}
    recipe = dataclasses.replace(recipe, **changes)
    model = build_model(given.model, data, host=host, seed=seed)
    training = Training(threat=data.threat, recipe=recipe, seed=seed, device=given.device, precision=given.precision)
    component = host.build("defense", defense)
    wall, cpu = time.perf_counter(), time.process_time()
    with counted(model) as passes, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a collapse, judged here on too little validation data
        model = component.value(model, data, training)
    record = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "epochs": recipe.epochs}
    save_weights(model, path)
    per_image = {name: count / len(data.train) for name, count in passes.items()}
    return work.add({**key, **record, **per_image})


def attacked(label: str, seed: int, data: Data, given: Any, work: Work) -> Record:
    """How many of the first `limit` images stand; from the most that were attacked before, in parts of `PART`."""
    settings = f"{given.dataset} {given.model} {given.images} {given.epochs}"
    key = {"kind": "attack", "label": label, "seed": seed, "settings": settings}
    found = work.find(**key, limit=given.limit) or work.furthest(given.limit, **key)
    if found["limit"] == given.limit:
        return found
    model = build_model(given.model, data, host=default_host())
    load_checkpoint(model, work.weights(label, seed, settings))
    model = model.to(given.device).eval()
    while (first := int(found["limit"])) < given.limit:
        last = min(first + PART, given.limit)
        more = standing(model, data, range(first, last))
        found = work.add({**key, "limit": last, **{name: found[name] + count for name, count in more.items()}})
    return found


def standing(model: nn.Module, data: Data, images: range) -> dict[str, int]:
    """How many of these test images are right: clean, under each attack, and under both."""
    x, y = data.test.batch(torch.arange(images.start, images.stop))
    result = robustkit.evaluate(model, (x, y), list(ATTACKS), data.threat)
    clean = [record for record in result.records if record["component"] is None]
    right: dict[str, int] = {"clean": round(clean[0]["metrics"]["clean_accuracy"] * len(images))}
    both = torch.ones(len(images), dtype=torch.bool)
    for name, record in zip(("pgd", "apgd"), (r for r in result.records if r["component"] is not None), strict=True):
        robust = torch.from_numpy(stands(record, result.samples[record["key"]], data.threat.eps))
        right[name] = int(robust.sum())
        both &= robust
    return right | {"worst": int(both.sum())}


def recipe_of(data: Data, given: Any) -> Recipe:
    return dataclasses.replace(data.recipe, epochs=given.epochs)


def interval(counts: list[int], limit: int) -> str:
    """Mean over the seeds with the score interval of one network's share, which holds for images of the same kind."""
    mean = statistics.mean(counts)
    low, high = wilson(round(mean), limit)
    spreads = f", {100 * min(counts) / limit:.1f}–{100 * max(counts) / limit:.1f}" if len(counts) > 1 else ""
    return f"{100 * mean / limit:.1f} [{100 * low:.1f}, {100 * high:.1f}{spreads}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="fashion_mnist")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--model", default="cnn")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--images", type=int, default=4000, help="the first of the training set; 0: all")
    parser.add_argument("--epochs", type=int, default=8, help="a multiple of 8, so that free training divides it")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--limit", type=int, default=500, help="test images that are attacked")
    parser.add_argument("--finished", action="store_true", help="measure nothing, write what is finished")
    parser.add_argument("--work", type=Path, default=Path("runs/training_benchmark"))
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "training.md")
    given = parser.parse_args()
    data = load_data(given.dataset, host=default_host(), data_dir=given.data_dir)
    few = Subset(data.val, torch.arange(4))  # validation is no part of what is timed
    first = data.train if not given.images else Subset(data.train, torch.arange(given.images))
    data = dataclasses.replace(data, train=in_memory(first) or first, val=in_memory(few) or few)
    work = Work(given.work)
    rows: dict[str, list[tuple[Record, Record]]] = {label: [] for label, _, _ in METHODS}
    for seed in map(int, given.seeds.split(",")):
        for label, defense, changes in METHODS:
            if given.finished and not finished(label, seed, given, work):
                continue
            done = trained(label, defense, changes, seed, data, given, work)
            rows[label].append((done, attacked(label, seed, data, given, work)))
            write(given, data, rows)


def finished(label: str, seed: int, given: Any, work: Work) -> bool:
    key = {"label": label, "seed": seed, "settings": f"{given.dataset} {given.model} {given.images} {given.epochs}"}
    return work.find(kind="attack", limit=given.limit, **key) is not None


def write(given: Any, data: Data, rows: dict[str, list[tuple[Record, Record]]]) -> None:
    """The result as far as it has come."""
    rows = {label: found for label, found in rows.items() if found}
    if not {"standard", "pgd_at"} <= set(rows):
        return
    out = [
        "# What adversarial training costs, and what it reaches\n",
        stated(given.device) + "\n",
        f"{given.dataset}, the first {len(data.train):,} training images, {given.model}, {data.threat}, "
        f"{given.epochs} epochs of the data set's recipe ({data.recipe.optimizer}, lr {data.recipe.lr:g}, "
        f"{data.recipe.schedule}, batches of {data.recipe.batch_size}), {given.precision}. A short training on a part "
        "of the data: it compares methods, and is no record of what they can reach.\n",
        f"The first {given.limit:,} test images, attacked by `{ATTACKS[0]}` and `{ATTACKS[1]}`; worst case: right "
        "under both. Percent, mean over the seeds, with the 95 % score interval of that many images, then the lowest "
        "and the highest seed. Passes: images through the network forward and backward for each training image, "
        "counted. "
        "Seconds: processor time of the training, without validation; beside it wall time, which other load on the "
        "machine lengthens.\n",
        "| method | seeds | clean | PGD-50-10 | worst case | forward | backward | processor s | wall s | of pgd_at's |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]

    wanted = len(given.seeds.split(","))
    missing = [
        f"{label} ({wanted - len(rows.get(label, ()))})" for label, _, _ in METHODS if len(rows.get(label, ())) < wanted
    ]
    if missing:
        out.insert(
            3,
            f"**Unfinished**: runs that are still missing, by method: {', '.join(missing)}. The same call goes on from "
            "there.\n",
        )

    def mean(label: str, part: int, name: str) -> float:
        return statistics.mean(pair[part][name] for pair in rows[label])

    for label, found in rows.items():
        counts = {name: [attack[name] for _, attack in found] for name in ("clean", "pgd", "worst")}
        shares = " | ".join(interval(counts[name], given.limit) for name in counts)
        out.append(
            f"| {label} | {len(found)} | {shares} | {mean(label, 0, 'forward'):.1f} | "
            f"{mean(label, 0, 'backward'):.1f} | {mean(label, 0, 'cpu'):.1f} | {mean(label, 0, 'wall'):.1f} | "
            f"{mean(label, 0, 'cpu') / mean('pgd_at', 0, 'cpu'):.2f} |"
        )
    out += [
        "\n`free_at m=4, longer` makes four times the passes of `free_at m=4` at half the learning rate, still fewer "
        "than `pgd_at`. `nfgsm + ema` averages the weights with a decay of 0.99.\n",
        f"![accuracy against cost]({given.output.stem}.svg)\n",
        "What one weight update costs: [update_cost.md](update_cost.md).\n",
        "## Against the targets\n",
        "| target | measured | |",
        "|---|---:|---|",
    ]

    def line(words: str, value: float, limit: float, below: bool) -> str:
        met = value <= limit if below else value >= limit
        return f"| {words} {'≤' if below else '≥'} {limit:.2f} | {value:.3f} | {'met' if met else 'missed'} |"

    for name in ("free_at m=4", "free_at m=4, longer"):
        if name in rows:
            out.append(
                line(
                    f"robust accuracy (PGD) of {name} over pgd_at's",
                    mean(name, 1, "pgd") / mean("pgd_at", 1, "pgd"),
                    0.9,
                    False,
                )
            )
    if "nfgsm + ema" in rows:
        share = mean("nfgsm + ema", 1, "pgd") / mean("pgd_at", 1, "pgd")
        out.append(line("robust accuracy (PGD) of nfgsm + ema over pgd_at's", share, 0.95, False))
        out.append(
            line(
                "processor time of nfgsm + ema over pgd_at's",
                mean("nfgsm + ema", 0, "cpu") / mean("pgd_at", 0, "cpu"),
                0.35,
                True,
            )
        )
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text("\n".join(out) + "\n", encoding="utf-8")
    plot(given, rows)


def plot(given: Any, rows: dict[str, list[tuple[Record, Record]]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams["svg.hashsalt"] = "robustkit"
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    for name, marker, colour in (("clean", "o", "#8c8c8c"), ("worst", "s", "#1f5fa8")):
        words = {"clean": "clean", "worst": "worst case of PGD-50-10 and APGD"}[name]
        xs = [statistics.mean(done["cpu"] for done, _ in found) for found in rows.values()]
        shares = [[100 * attack[name] / given.limit for _, attack in found] for found in rows.values()]
        means = [statistics.mean(values) for values in shares]
        reach = [
            [m - min(v) for m, v in zip(means, shares, strict=True)],
            [max(v) - m for m, v in zip(means, shares, strict=True)],
        ]
        axes.errorbar(xs, means, yerr=reach, fmt=marker, color=colour, label=words, capsize=2, markersize=5)
        if name == "worst":
            for place, (x, y, label) in enumerate(sorted(zip(xs, means, rows, strict=True))):
                lift = (-14, 12, -25, 23)[place % 4]  # neighbours at heights of their own
                line = {"arrowstyle": "-", "color": "#8c8c8c", "lw": 0.5}
                axes.annotate(label, (x, y), xytext=(4, lift), textcoords="offset points", fontsize=7, arrowprops=line)
    axes.set(xlabel="processor seconds of training", ylabel="accuracy (%)", xscale="log", ylim=(0, 100))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.margins(x=0.12)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper right", fontsize=8)
    figure.savefig(given.output.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(given.output.with_suffix(".png"), dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
