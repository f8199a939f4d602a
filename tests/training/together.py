"""Run by test_team.py, alone or in each of two processes: trainings, with their loss by epoch and their weights."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path

import torch
from torch import distributed as dist
from torch import nn

from robustkit.contracts import Recipe, Threat, Training, TrainingProgress
from robustkit.defenses.free_at import FreeAT
from robustkit.defenses.pgd_at import PGDAT
from robustkit.defenses.smooth_adv import SmoothAdv
from robustkit.defenses.trades import TRADES
from robustkit.models.weights import save_weights
from robustkit.testing import small
from robustkit.training.history import NAME, read

RECIPE = Recipe(epochs=4, batch_size=40, lr=0.02, schedule="constant", augment="shift", ema=0.9)
TRAININGS = {
    "free": (FreeAT(replays=2), {"eps_draw": "uniform", "eps_per": "image"}, Threat("linf", 0.05)),
    "pgd": (PGDAT(steps=2, awp=0.01), {}, Threat("l2", 0.5)),
    "trades": (TRADES(steps=2), {}, Threat("l2", 0.5)),
    "linf": (PGDAT(steps=2, clean_share=0.5), {}, Threat("linf", 0.05)),
    "smooth": (SmoothAdv(steps=2), {}, Threat("l2", 0.5)),
    "batchnorm": (PGDAT(steps=2, clean_share=0.5), {}, Threat("linf", 0.05)),
}


class Stopped(Exception):
    pass


def network(normalised: bool) -> nn.Module:
    torch.manual_seed(19)
    layers: list[nn.Module] = [nn.Conv2d(3, 6, 3, padding=1)]
    if normalised:
        layers.append(nn.BatchNorm2d(6))
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(6 * 64, 10))


def main(names: str, folder: Path, stop_after: int) -> None:
    for name in names.split(","):
        defense, changes, threat = TRAININGS[name]
        passes = {"wrapped": 0, "bare with gradients of weights": 0}

        def stop(progress: TrainingProgress) -> None:
            if stop_after and progress.epoch == stop_after + 1:
                raise Stopped

        model = network(name == "batchnorm")
        model.register_forward_hook(lambda m, i, o, seen=passes: count(m, seen))
        training = Training(
            threat=threat,
            recipe=Recipe(**{**vars(RECIPE), **changes}),
            seed=3,
            precision="fp32",
            directory=folder / name,
            report=stop,
        )
        try:
            trained = defense(model, small.data(), training)
        except Stopped:
            os._exit(7)  # as a kill ends a process: nothing is put away
        rank = dist.get_rank() if dist.is_initialized() else 0
        save_weights(trained, folder / f"{name}-{rank}.safetensors")
        if rank == 0:
            losses = [row["loss"] for row in read(folder / name / NAME)]
            robust = [row["validation_robust_accuracy"] for row in read(folder / name / NAME)]
            found = {"losses": losses, "robust": robust, **passes}
            (folder / f"{name}.json").write_text(json.dumps(found))
    if dist.is_initialized():
        dist.destroy_process_group()


def count(model: nn.Module, seen: dict[str, int]) -> None:
    """Forward passes of a training step that reach the weights: through DDP's wrapper, or past it."""
    if not model.training:
        return
    frame, inside = sys._getframe(), False
    while frame is not None:
        inside = inside or "parallel/distributed.py" in frame.f_code.co_filename
        frame = frame.f_back  # type: ignore[assignment]
    seen["wrapped" if inside else "bare with gradients of weights"] += 1


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
