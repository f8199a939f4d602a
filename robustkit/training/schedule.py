"""Learning rate and radius as functions of the progress of a training, both counted in weight updates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from robustkit.contracts import Recipe


def rate(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of update `step` (0-based) of `steps`.

    "cyclic": linear from 0 to the peak at 2/5, then linear to 0 (Wong et al. 2020). "onecycle": cosine from
    1/25 of the peak to the peak at 1/4, then cosine to 0 (Smith & Topin 2017, https://arxiv.org/abs/1708.07120).
    "step": times 0.1 at 1/2 and at 3/4 (Madry et al. 2018; Rice et al. 2020).
    """
    done = (step + 0.5) / max(steps, 1)
    if recipe.schedule == "constant":
        return recipe.lr
    if recipe.schedule == "step":
        return recipe.lr * (1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01)
    if recipe.schedule == "cyclic":
        return recipe.lr * (done / 0.4 if done < 0.4 else (1 - done) / 0.6)
    if done < 0.25:
        return recipe.lr * (1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * done / 0.25)) / 2)
    return recipe.lr * (1 + math.cos(math.pi * (done - 0.25) / 0.75)) / 2


def radius(recipe: Recipe, eps: float, step: int, steps: int) -> float:
    """The radius at update `step`: grows linearly from 0 over the share `recipe.ramp` of the training."""
    reached = (step + 1) / max(steps, 1)
    return eps if reached >= recipe.ramp else eps * reached / recipe.ramp


def drawn_shares(recipe: Recipe, size: int, generator: torch.Generator) -> Iterator[float | Tensor]:
    """For each batch of an epoch, the share of the radius that is used: 1, or drawn as the recipe says.

    A number, or (size,) float32 with one for each image.
    """
    if recipe.eps_draw == "fixed":
        yield from itertools.repeat(1.0)
    share = _draw(recipe, size, generator)
    while True:
        yield share if recipe.eps_per == "image" else float(share)
        if recipe.eps_per != "epoch":
            share = _draw(recipe, size, generator)


def _draw(recipe: Recipe, size: int, generator: torch.Generator) -> Tensor:
    shape = (size,) if recipe.eps_per == "image" else ()
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
    if recipe.eps_draw == "uniform":
        return uniform.float()
    # the inverse of the distribution function of |N(0, 1)| cut off at 2, of which 1 is half
    most = math.erf(2 / math.sqrt(2))
    normal: Tensor = torch.special.ndtri((1 + uniform * most) / 2) / 2
    return normal.float()
