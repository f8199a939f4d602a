"""Ascent whose step sizes are found on the way: the loop of Auto-PGD."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from robustkit.attacks.gradient import input_gradient
from robustkit.attacks.losses import Loss, reached
from robustkit.contracts import Threat
from robustkit.norms import flat, per_sample, project, steepest

_COMPACT_BELOW = 7 / 8
"""As in `climb`."""
_MOMENTUM = 0.75
_RISING = 0.75
"""Share of steps that must have raised the loss for the step size to stay."""
_SPARSE = 1.5
"""In l1: the next step moves this part of the values that the best point moves, and steps shrink by it."""
_SETTLED = 0.95
"""In l1: how much of its support the best point must have kept for steps to shrink."""


@dataclass(kw_only=True)
class _Rows:
    """What the search knows of each sample that still stands; every field has one row a sample."""

    index: Tensor  # in the batch
    x: Tensor
    y: Tensor
    goal: Tensor
    current: Tensor
    previous: Tensor
    best: Tensor
    slope: Tensor  # gradient at best
    value: Tensor  # loss at best
    last: Tensor  # loss at previous
    size: Tensor  # of a step
    rises: Tensor  # of the loss, since the last checkpoint
    noted: Tensor  # loss at best, at the last checkpoint
    shrunk: Tensor  # the step size, at the last checkpoint
    support: Tensor  # l1: values that the best point moved at the last checkpoint
    share: Tensor  # l1: of the values that a step moves

    def select(self, rows: Tensor) -> _Rows:
        return replace(self, **{f.name: getattr(self, f.name)[rows] for f in fields(self)})


@torch.no_grad()  # but for the passes that say otherwise
def ascend(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    start: Tensor,
    *,
    steps: int,
    loss: Loss,
    goal: Tensor | None = None,
    targeted: bool = False,
    stride: float = 1.0,
    ends: bool = True,
) -> tuple[Tensor, Tensor]:
    """Maximise `loss` from `start` by Auto-PGD (Croce & Hein 2020; l1: 2021).

    linf, l2: z = Π(x_k + η·d), x_{k+1} = Π(x_k + 0.75 (z − x_k) + 0.25 (x_k − x_{k−1})), d the steepest
    direction. η is 2 eps first. At checkpoints, which come closer and closer, it is halved, and the search goes on
    from the best point, where less than 3/4 of the steps raised the loss, or where neither η nor the best loss
    has changed since the checkpoint before.

    l1: x_{k+1} = Π(x_k + η·d), d spread evenly over the values with the largest gradient: at first a fifth of
    all, then at each checkpoint (every 4 % of the steps) as many as the best point has moved, over 1.5. η is eps
    first; it shrinks by 1.5, down to eps / 10, while the best point's support shrinks by less than 5 %, and
    is eps again, from the best point, where that shrinks by more.

    Args:
        model: as the host gives it; x, y, threat: as for an attack.
        start: (N, ...) first iterate, inside ball and box.
        steps: gradient evaluations at most.
        loss: (logits, goal) → (N,), to be maximised.
        goal: what `loss` is given, one row a sample; None: y.
        targeted: whether reaching y, rather than leaving it, ends the search.
        stride: first step size over the one named above.
        ends: whether a sample that has fallen is left alone; otherwise its loss is raised to the last step.

    Returns:
        The adversarial iterate, or the one of highest loss, (N, ...); and the losses there, (N,), +inf
        where it was adversarial and `ends`. Cost: `steps` forward and backward passes and one forward pass at most.
    """
    best = start.clone()
    best_value = torch.full((x.shape[0],), -torch.inf, dtype=x.dtype, device=x.device)
    sparse = threat.norm == "l1"
    size = torch.full_like(best_value, stride * threat.eps * (1 if sparse else 2))
    rows = _Rows(
        index=torch.arange(x.shape[0], device=x.device),
        x=x,
        y=y,
        goal=y if goal is None else goal,
        current=start.clone(),
        previous=start,
        best=start.clone(),
        slope=torch.zeros_like(start),
        value=best_value.clone(),
        last=best_value.clone(),
        size=size,
        rises=torch.zeros_like(size),
        noted=best_value.clone(),
        shrunk=torch.ones_like(size, dtype=torch.bool),
        support=torch.full_like(size, torch.inf),
        share=torch.full_like(size, 0.2),
    )
    lengths = _every(steps) if sparse else checkpoints(steps)
    for step in range(steps + 1):
        if not len(rows.index):
            break
        if step < steps:
            gradient, values, logits = input_gradient(model, rows.current, rows.goal, loss)
        else:
            logits = model(rows.current)
            values, gradient = loss(logits, rows.goal), rows.slope
        values = values.to(rows.value.dtype)
        if ends:
            values = values.masked_fill(reached(logits, rows.y, targeted), torch.inf)
        better = values > rows.value
        rows.value = torch.where(better, values, rows.value)
        rows.best = torch.where(per_sample(better, x), rows.current, rows.best)
        rows.slope = torch.where(per_sample(better, x), gradient, rows.slope)
        rows.rises += (values > rows.last) & (step > 0)
        rows.last = values
        standing = ~rows.value.isposinf()
        best[rows.index[better]], best_value[rows.index[better]] = rows.best[better], rows.value[better]
        if step == steps:
            break
        if step in lengths:
            again = _sparser(rows, threat.eps * stride) if sparse else _halved(rows, lengths[step])
            rows.current = torch.where(per_sample(again, x), rows.best, rows.current)
            gradient = torch.where(per_sample(again, x), rows.slope, gradient)
            rows.last = torch.where(again, rows.value, rows.last)
        if standing.sum() <= _COMPACT_BELOW * len(standing):
            rows, gradient = rows.select(standing), gradient[standing]
        aim = _sparse_step(gradient, rows.share) if sparse else steepest(gradient, threat.norm)
        following = project(rows.current + per_sample(rows.size, x) * aim, rows.x, threat)
        if not sparse and step:
            following = rows.current + _MOMENTUM * (following - rows.current)
            following = project(following + (1 - _MOMENTUM) * (rows.current - rows.previous), rows.x, threat)
        rows.previous, rows.current = rows.current, following
    return best, best_value


def checkpoints(steps: int) -> dict[int, int]:
    """Step → length of the interval that ends there: at 22 % of the steps, then 3 % shorter each, at least 6 %."""
    found: dict[int, int] = {}
    before, now, previous = 0.0, 0.22, 0
    while (step := math.ceil(now * steps - 1e-9)) < steps:
        if step > previous:
            found[step] = step - previous
        before, now, previous = now, now + max(now - before - 0.03, 0.06), step
    return found


def _every(steps: int) -> dict[int, int]:
    length = max(1, math.ceil(0.04 * steps - 1e-9))
    return dict.fromkeys(range(length, steps, length), length)


def _halved(rows: _Rows, length: int) -> Tensor:
    """(N,) bool: the step size was halved, and the search goes on from the best point."""
    stalled = ~rows.shrunk & (rows.noted >= rows.value)
    rows.shrunk = (rows.rises < _RISING * length) | stalled
    rows.size = torch.where(rows.shrunk, rows.size / 2, rows.size)
    rows.noted = rows.value
    rows.rises = torch.zeros_like(rows.rises)
    return rows.shrunk


def _sparser(rows: _Rows, longest: float) -> Tensor:
    """(N,) bool: the best point's support shrank; steps are long again, and the search goes on from there."""
    support = (flat(rows.best) != flat(rows.x)).sum(dim=1).to(rows.support.dtype)
    shrank = support < _SETTLED * rows.support
    rows.size = torch.where(shrank, longest, (rows.size / _SPARSE).clamp_min(longest / 10))
    rows.share = support / _SPARSE / max(1, flat(rows.x).shape[1])
    rows.support = support
    return shrank


def _sparse_step(gradient: Tensor, share: Tensor) -> Tensor:
    """Length 1 in l1, spread evenly over the `share` (N,) of values with the largest gradient."""
    size = flat(gradient).abs()
    count = (share * size.shape[1]).long().clamp(1, size.shape[1])
    threshold = size.sort(dim=1, descending=True).values.gather(1, count[:, None] - 1)
    chosen = flat(gradient).sign() * (size >= threshold)
    return (chosen / chosen.abs().sum(dim=1, keepdim=True).clamp_min(1)).reshape(gradient.shape)
