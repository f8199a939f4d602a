"""Adversarial points for attacks that walk from one towards the input.

foolbox draws a starting point for each sample of a batch and gives up on all of them where one is missing
(`ValueError` in Boundary and HopSkipJump, a bare `assert` in Pointwise and Brendel-Bethge). Here a sample
without one is left out, and comes back unchanged.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch

from robustkit_foolbox.bridge import adversarial, attacks, criterion

if TYPE_CHECKING:
    from torch import Tensor

DRAWS = 1000
"""Random images tried as starting points, and steps of salt and pepper, as the library does by default."""

BEYOND = (1e-2, 1e-4)
"""A walk ends on the boundary itself, where the size of a batch decides in float32; it is taken past it by one of
these shares of its distance."""


def walk(attack: Any, network: Any, x: Tensor, goal: Any, *, alone: bool = False) -> Tensor:
    """Run `attack` from starting points; x (N, C, H, W) float32 → same shape. `alone`: one sample at a time."""
    targeted, y = labels_of(goal)
    start, found = starting_points(network, x, y, targeted)
    result = x.clone()
    index = found.nonzero().flatten()
    for part in index.split(1) if alone else (index,):
        if len(part):
            goal = criterion(y[part], targeted)
            end = attack.run(network, x[part], goal, starting_points=start[part]).detach()
            result[part] = start[part]
            for beyond in BEYOND:  # the last one that holds is the nearest
                point = (x[part] + (1 + beyond) * (end - x[part])).clamp(0, 1)
                good = adversarial(network, point, y[part], targeted).view(-1, 1, 1, 1)
                result[part] = torch.where(good, point, result[part])
    return result


def starting_points(network: Any, x: Tensor, y: Tensor, targeted: bool) -> tuple[Tensor, Tensor]:
    """Points (N, C, H, W), and whether each is adversarial (N,).

    In this order: the input blended with uniform noise, with salt and pepper, another sample of the batch.
    """
    start = x.clone()
    found = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    sources = (
        attacks.LinearSearchBlendedUniformNoiseAttack(directions=DRAWS, steps=50),
        attacks.SaltAndPepperNoiseAttack(steps=DRAWS),
    )
    for source in sources:
        left = ~found
        if not bool(left.any()):
            break
        with warnings.catch_warnings():  # the library warns where its draws don't suffice; the next source follows
            warnings.simplefilter("ignore")
            point = source.run(network, x[left], criterion(y[left], targeted)).detach().clamp(0, 1)
        start[left] = point
        found[left] = adversarial(network, point, y[left], targeted)
    if not bool(found.all()):
        _from_batch(network, x, y, targeted, start, found)
    return start, found


def _from_batch(network: Any, x: Tensor, y: Tensor, targeted: bool, start: Tensor, found: Tensor) -> None:
    """Fill what is missing with other samples of the batch, in place."""
    with torch.no_grad():
        predicted = network(x).argmax(dim=1)  # (N,)
    for index in torch.nonzero(~found).flatten().tolist():
        fits = predicted == y[index] if targeted else predicted != y[index]
        fits[index] = False
        if bool(fits.any()):
            start[index] = x[int(fits.nonzero()[0])]
            found[index] = True


def labels_of(goal: Any) -> tuple[bool, Tensor]:
    """Whether a criterion is targeted, and its labels (N,)."""
    targeted = hasattr(goal, "target_classes")
    labels: Tensor = (goal.target_classes if targeted else goal.labels).raw
    return targeted, labels
