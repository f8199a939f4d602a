"""Neural Cleanse: all classes in one batch against one class after the other, same settings, same process.

    python benchmarks/neural_cleanse_speed.py --runs 3

The peer is the plain loop over classes (the published schedule), with the same starts, batches and controller, so
that both end in the same masks; the table says how far the norms differ.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import torch
from machine import spread, stated

from robustkit.data.load import load_data
from robustkit.detectors.neural_cleanse import NeuralCleanse
from robustkit.host import default_host
from robustkit.models.build import build_model
from robustkit.models.weights import load_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--model", default="cnn")
    parser.add_argument("--dataset", default="mnist_10k")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "neural_cleanse_speed.md")
    given = parser.parse_args()
    host = default_host()
    data = load_data(given.dataset, host=host)
    model = build_model(given.model, data, host=host)
    load_checkpoint(model, given.checkpoint)
    model = model.to(given.device).eval()
    x = data.val.batch(torch.arange(min(500, len(data.val))))[0].to(given.device)
    base = NeuralCleanse(steps=given.steps, batches=given.batches)
    ways = {
        "class by class, float32": dataclasses.replace(base, schedule="by_class", precision="fp32"),
        "one batch": base,
        "one batch, halving": dataclasses.replace(base, halving=True),
        f"one batch, warm={given.steps}, half the steps": dataclasses.replace(
            base, steps=given.steps // 2, warm=given.steps
        ),
    }
    wall: dict[str, list[float]] = {name: [] for name in ways}
    work: dict[str, list[float]] = {name: [] for name in ways}
    found = {}
    for _ in range(given.runs):
        for name, detector in ways.items():  # in turn, so that other work on the machine meets all alike
            torch.manual_seed(0)
            began, cpu = time.perf_counter(), time.process_time()
            found[name] = detector.search(model, x, len(data.classes))
            if given.device != "cpu":
                torch.cuda.synchronize()
            wall[name].append(time.perf_counter() - began)
            work[name].append(time.process_time() - cpu)
    peer = found["class by class, float32"]
    lines = [
        "# Neural Cleanse: all classes at once",
        "",
        f"{stated(given.device)} {given.model} on {given.dataset}, {len(data.classes)} classes, {len(x)} images, "
        f"at most {given.steps} steps of {given.batches} batches of 32; {given.runs} runs in turn, median [range].",
        "",
        "| schedule | seconds | CPU seconds | times faster, CPU | images passed | median norm | change of a norm |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in ways:
        factor = min(work["class by class, float32"]) / min(work[name])
        difference = float(((found[name].norm - peer.norm).abs() / peer.norm).max())
        shown = f"{100 * difference:.2f} %"
        if "halving" in name:
            shown = "(upper bounds)"
        elif "warm" in name:
            shown = "(another search)"
        lines.append(
            f"| {name} | {spread(wall[name], 1)} | {spread(work[name], 1)} | {factor:.2f} "
            f"| {found[name].gradients} | {float(found[name].norm.median()):.1f} | {shown} |"
        )
    given.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(given.output.read_text())


if __name__ == "__main__":
    main()
