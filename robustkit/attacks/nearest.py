"""What minimum-norm attacks share: the nearest adversarial point so far, balls of a radius each, a last bisection."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from robustkit.attacks.losses import named, reached
from robustkit.contracts import Norm
from robustkit.norms import distance, flat, per_sample

_SURE = 1e-4
"""Lead, relative to the largest logit, from which a point counts: judged again in another batch it shall not stand."""
_HALVINGS = 12


class Nearest:
    """The nearest point seen to fall, for each sample of a batch.

    Args:
        x: (N, ...) the samples.
        norm: of the distance.

    Fields:
        points: (N, ...), x where nothing was found.
        distance: (N,), +inf where nothing was found.
    """

    def __init__(self, x: Tensor, norm: Norm) -> None:
        self._x, self._norm = x, norm
        self.points = x.clone()
        self.distance = torch.full((x.shape[0],), torch.inf, dtype=x.dtype, device=x.device)

    def note(self, points: Tensor, hit: Tensor, rows: Tensor | None = None) -> None:
        """Keep of points (n, ...) those that fall, hit (n,), nearer than any before; `rows` of the batch, or all."""
        rows = torch.arange(len(self._x), device=points.device) if rows is None else rows
        far = distance(points, self._x[rows], self._norm)
        nearer = hit & (far < self.distance[rows])
        self.points[rows[nearer]], self.distance[rows[nearer]] = points[nearer], far[nearer]


def falls(logits: Tensor, y: Tensor, targeted: bool) -> Tensor:
    """(N,) bool: the attack has what it wants, by more than rounding."""
    return named("margin", targeted)(logits, y) > sure(logits)


def sure(logits: Tensor) -> Tensor:
    """(N,) lead from which a point counts."""
    return _SURE * logits.abs().amax(dim=1)


@torch.no_grad()
def open_rows(model: nn.Module, x: Tensor, y: Tensor, nearest: Nearest, targeted: bool) -> Tensor:
    """(n,) the samples that are not adversarial as they are; of the others `nearest` knows that."""
    if not len(x):
        return torch.zeros(0, dtype=torch.int64, device=x.device)
    done = reached(model(x), y, targeted)
    nearest.note(x, done)
    return (~done).nonzero().squeeze(1)


@torch.no_grad()
def bisect(model: nn.Module, x: Tensor, y: Tensor, nearest: Nearest, targeted: bool) -> Tensor:
    """The last adversarial point on the way from what was found to x, as far as 12 forward passes tell."""
    rows = (nearest.distance.isfinite() & (nearest.distance > 0)).nonzero().squeeze(1)
    if not len(rows):
        return nearest.points
    origin, label = x[rows], y[rows]
    way = nearest.points[rows] - origin
    low, high = torch.zeros_like(nearest.distance[rows]), torch.ones_like(nearest.distance[rows])
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        points = (origin + per_sample(middle, x) * way).clamp_(0, 1)
        hit = falls(model(points), label, targeted)
        nearest.note(points, hit, rows)
        low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
    return nearest.points


def onto_ball(delta: Tensor, radius: Tensor, norm: Norm) -> Tensor:
    """The nearest point to delta (N, ...) of the ball of radius (N,) around 0, in l2; l0: the largest are kept."""
    if norm == "linf":
        bound = per_sample(radius, delta)
        return torch.minimum(torch.maximum(delta, -bound), bound)
    values = flat(delta)
    if norm == "l2":
        length = values.norm(dim=1).clamp_min(1e-30)
        return delta * per_sample((radius / length).clamp_max(1), delta)
    size = values.abs()
    ordered = size.sort(dim=1, descending=True).values
    if norm == "l0":
        count = radius.clamp(0, size.shape[1]).long()[:, None]
        rank = size.argsort(dim=1, descending=True).argsort(dim=1)
        return (values * (rank < count)).reshape(delta.shape)
    # l1: what is left when all are shrunk alike (Duchi et al. 2008, https://doi.org/10.1145/1390156.1390191)
    inside = size.sum(dim=1) <= radius
    place = torch.arange(1, size.shape[1] + 1, device=delta.device, dtype=delta.dtype)
    shrink = (ordered.cumsum(dim=1) - radius[:, None]) / place
    last = ((ordered > shrink) * place).argmax(dim=1, keepdim=True)
    shrunk = values.sign() * (size - shrink.gather(1, last)).clamp_min(0)
    return torch.where(inside[:, None], values, shrunk).reshape(delta.shape)


def cosine(first: float, last: float, step: int, steps: int) -> float:
    """From `first` to `last` along half a period of the cosine."""
    return last + (first - last) * (1 + math.cos(math.pi * step / steps)) / 2
