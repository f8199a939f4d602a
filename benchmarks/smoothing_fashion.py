"""Certified accuracy on Fashion-MNIST: standard, adversarial and noise training at three noise levels.

    python benchmarks/smoothing_fashion.py --data-dir FOLDER [--images 500] [--epochs 2] [--threads 1]

FOLDER holds Fashion-MNIST as the data set `fashion_mnist` wants it; networks are trained on all of it. Rows are kept in
--work as they come, and a second call goes on there. Writes benchmarks/results/smoothing_fashion.md and its plots.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from machine import stated

import robustkit

RESULTS = Path(__file__).parent / "results"
SIGMAS = (0.25, 0.5, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--work", type=Path, default=Path("runs/smoothing_fashion"))
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    out = [
        "# Randomized smoothing on Fashion-MNIST\n",
        f"cnn, trained on all 60,000 images for {given.epochs} epochs, pgd_at in linf at 0.1; the first {given.images} "
        "test images, adaptive mode, alpha = 0.001, radii in l2. `noise` is trained on the noise it is "
        "certified with. ACR is the mean radius over all images, 0 where nothing is certified; the other mean is over "
        "the certified alone. Percent of images certified at each radius. Repeat with `python "
        f"benchmarks/smoothing_fashion.py --data-dir FOLDER --images {given.images} --epochs {given.epochs}`.\n",
        stated() + "\n",
    ]
    for sigma in SIGMAS:
        robustkit.certify(
            ["standard", "pgd_at", f"noise:sigma={sigma}"],
            sigma=[sigma],
            radii=[k / 4 for k in range(9)],
            directory=given.work / f"sigma-{sigma}",
            dataset="fashion_mnist",
            data_dir=str(given.data_dir),
            model="cnn",
            norm="linf",
            eps=0.1,
            limit=given.images,
            recipe={"epochs": given.epochs},
        )
        sys.stderr.write(f"sigma {sigma}\n")
        table = (given.work / f"sigma-{sigma}" / "table.md").read_text(encoding="utf-8")
        picture = f"smoothing_fashion_{sigma}.svg"
        given.output.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(given.work / f"sigma-{sigma}" / "curves.svg", given.output / picture)
        out += [f"## sigma = {sigma}\n", table, f"![certified accuracy over radius]({picture})\n"]
        (given.output / "smoothing_fashion.md").write_text("\n".join(out), encoding="utf-8")


if __name__ == "__main__":
    main()
