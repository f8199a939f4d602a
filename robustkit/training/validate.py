"""How right a network is on held-out data."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustkit.contracts import Split, Threat
from robustkit.training.modes import in_eval
from robustkit.training.perturbation import Perturbation

_AT_ONCE = 500
_WATCHED = 256
"""Validation samples that are attacked after each epoch: 3 points of standard error, at little cost."""


def accuracy(model: nn.Module, split: Split, device: str) -> float:
    """Share of `split` that `model` predicts right, in eval mode; NaN on an empty split."""
    return _share(model, split, device, len(split), lambda x, y: x)


def robust_accuracy(model: nn.Module, split: Split, device: str, threat: Threat, attack: Perturbation) -> float:
    """Share of 256 samples, evenly spread over `split`, that `model` predicts right under `attack`, in eval mode."""
    return _share(model, split, device, min(_WATCHED, len(split)), lambda x, y: attack(model, x, y, threat))


def _share(model: nn.Module, split: Split, device: str, count: int, moved: Callable[[Tensor, Tensor], Tensor]) -> float:
    right = 0
    with in_eval(model):
        for start in range(0, count, _AT_ONCE):
            index = torch.arange(start, min(start + _AT_ONCE, count)) * len(split) // count  # may be sorted by class
            x, y = split.batch(index)
            x, y = x.to(device), y.to(device)
            x = moved(x, y)
            with torch.no_grad():
                right += int((model(x).argmax(dim=1) == y).sum())
    return right / count if count else math.nan
