"""Reverse engineering of triggers: all classes in one optimisation, one entry a class.

In eval mode no class touches another: the loss is a sum over classes and Adam works value by value, so that this
is exactly K separate searches, in one forward and backward pass a batch instead of K.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit.detectors.controller import Controller, Rules

EPSILON = 1e-7
_BETAS = (0.5, 0.9)
_INSIDE = 1e-3
_AT_ONCE = 8192
"""Images in one pass at most; classes beyond it are computed in turns."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """How long and on what.

    Args:
        steps: of the controller at most.
        batches: a step.
        batch_size: images in a batch.
        lr: of Adam.
        rules: of the controller.
        halving: drop the half of the classes with the larger masks after each tenth of the steps.
        warm: steps of a first search, of one batch each, whose triggers and weights the search begins with; 0: none.
        seed: of starts and batches; the start of a class depends on its number, not on the others.
    """

    steps: int
    batches: int
    batch_size: int
    lr: float
    rules: Rules
    halving: bool = False
    warm: int = 0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Triggers:
    """What was found for k classes.

    Args:
        mask: (k, 1, H, W) in [0, 1].
        pattern: (k, C, H, W) in [0, 1].
        norm: (k,) L1 of the mask; H W, the whole image, where no trigger reached the threshold.
        feasible: (k,) bool, whether one did.
        steps: (k,) int64, steps taken.
        cost: (k,) the controller's last weight.
        gradients: images that were passed forward and backward, over all classes.
    """

    mask: Tensor
    pattern: Tensor
    norm: Tensor
    feasible: Tensor
    steps: Tensor
    cost: Tensor
    gradients: int


@dataclass(frozen=True)
class _Running:
    """The classes that are still being searched; every tensor has one row for each."""

    rows: Tensor  # (k,) where they stand in the result
    a: Tensor  # (k, 1, H, W), mask before tanh
    b: Tensor  # (k, C, H, W), pattern before tanh
    moments: tuple[Tensor, Tensor, Tensor, Tensor]
    controller: Controller

    def keep(self, rows: Tensor) -> _Running:
        first, second, third, fourth = (moment[rows] for moment in self.moments)
        return _Running(
            self.rows[rows], self.a[rows], self.b[rows], (first, second, third, fourth), self.controller.keep(rows)
        )


def invert(
    model: nn.Module, images: Tensor, targets: Tensor, search: Search, exact: nn.Module | None = None
) -> Triggers:
    """Search the smallest trigger of each target class.

    Args:
        model: frozen, in eval mode; may run in low precision inside.
        images: (N, C, H, W) in [0, 1], clean; its dtype is that of the search.
        targets: (k,) int64 classes.
        search: how.
        exact: the model in full precision, which has the last word on a trigger; None where `model` is that.
    """
    running, gradients = _start(images, targets, search), 0
    if search.warm:
        first = invert(model, images, targets, replace(search, steps=search.warm, batches=1, warm=0, halving=False))
        running, gradients = _resume(running, first), first.gradients
    count = len(targets)
    mask = squash(running.a)
    pattern = squash(running.b)
    feasible = torch.zeros(count, dtype=torch.bool, device=images.device)
    taken = torch.zeros(count, dtype=torch.int64, device=images.device)
    cost = torch.zeros(count, dtype=images.dtype, device=images.device)
    rung = max(1, search.steps // 10)
    time = 0
    batches = _batches(images, search)
    for number in range(1, search.steps + 1):
        wanted = targets[running.rows]
        success = torch.zeros_like(running.controller.cost)
        size = torch.zeros_like(success)
        seen = []
        for _ in range(search.batches):
            x = next(batches)
            seen.append(x)
            time += 1
            hits, sizes = _descend(model, x, wanted, running, search.lr, time)
            success += hits / search.batches
            size += sizes / search.batches
            gradients += len(x) * len(wanted)
        m, p = squash(running.a), squash(running.b)
        better = running.controller.better(success, size, search.rules)
        if exact is not None and bool(better.any()):
            better = better.clone()
            checked = better.nonzero().flatten()
            x = torch.cat(seen)
            better[checked] = success_rate(exact, x, m[checked], p[checked], wanted[checked]) >= search.rules.threshold
        at = running.rows[better]
        mask[at], pattern[at], feasible[at] = m[better], p[better], True
        rest = ~feasible[running.rows]
        mask[running.rows[rest]], pattern[running.rows[rest]] = m[rest], p[rest]
        finished = running.controller.step(success, size, better, search.rules)
        taken[running.rows] = number
        cost[running.rows] = running.controller.cost
        if search.halving and number % rung == 0 and len(running.rows) > 1:
            finished = finished | _worse_half(running.controller.best)
        left = (~finished).nonzero().flatten()
        if not len(left):
            break
        if len(left) < len(running.rows):
            running = running.keep(left)
    norm = mask.sum(dim=(1, 2, 3))
    whole = torch.full_like(norm, float(mask[0].numel()))
    return Triggers(
        mask=mask,
        pattern=pattern,
        norm=torch.where(feasible, norm, whole),
        feasible=feasible,
        steps=taken,
        cost=cost,
        gradients=gradients,
    )


def invert_by_class(
    model: nn.Module, images: Tensor, targets: Tensor, search: Search, exact: nn.Module | None = None
) -> Triggers:
    """The same search, one class after the other: the reference, and the yardstick of the speed."""
    found = [invert(model, images, target[None], replace(search, halving=False), exact) for target in targets]
    return Triggers(
        mask=torch.cat([one.mask for one in found]),
        pattern=torch.cat([one.pattern for one in found]),
        norm=torch.cat([one.norm for one in found]),
        feasible=torch.cat([one.feasible for one in found]),
        steps=torch.cat([one.steps for one in found]),
        cost=torch.cat([one.cost for one in found]),
        gradients=sum(one.gradients for one in found),
    )


def squash(a: Tensor) -> Tensor:
    """From the whole line to (0, 1)."""
    return torch.tanh(a) / (2 - EPSILON) + 0.5


def stamp(x: Tensor, mask: Tensor, pattern: Tensor) -> Tensor:
    """x' = (1 - m) x + m p."""
    return x + mask * (pattern - x)


@torch.no_grad()
def success_rate(model: nn.Module, x: Tensor, mask: Tensor, pattern: Tensor, targets: Tensor) -> Tensor:
    """(k,) share of the images (N, C, H, W) that each trigger turns into its target."""
    rates = []
    for m, p, target in zip(mask, pattern, targets, strict=True):
        hits = [(model(stamp(part, m, p)).argmax(dim=1) == target).sum() for part in torch.split(x, 500)]
        rates.append(torch.stack(hits).sum() / len(x))
    return torch.stack(rates)


def _start(images: Tensor, targets: Tensor, search: Search) -> _Running:
    """Masks and patterns drawn uniformly, each class by a generator of its own."""
    _, channels, height, width = images.shape
    drawn = []
    for target in targets.tolist():
        generator = torch.Generator().manual_seed(1_000_003 * search.seed + target)
        drawn.append(torch.rand(1 + channels, height, width, generator=generator, dtype=torch.float64))
    start = torch.atanh((torch.stack(drawn) - 0.5) * (2 - EPSILON)).to(images)
    a, b = start[:, :1].clone(), start[:, 1:].clone()
    zeros = (torch.zeros_like(a), torch.zeros_like(a), torch.zeros_like(b), torch.zeros_like(b))
    rows = torch.arange(len(targets), device=images.device)
    return _Running(rows, a, b, zeros, Controller.start(len(targets), images.device, images.dtype))


def _resume(running: _Running, found: Triggers) -> _Running:
    """Begin at what was found; what is nearly 0 or 1 a little inside, where tanh has a slope."""
    a, b = (
        torch.atanh((part.clamp(_INSIDE, 1 - _INSIDE) - 0.5) * (2 - EPSILON)) for part in (found.mask, found.pattern)
    )
    return replace(running, a=a, b=b, controller=replace(running.controller, cost=found.cost.clone()))


def _batches(images: Tensor, search: Search) -> Iterator[Tensor]:
    """Batches of the images in a new order each pass, without end."""
    generator = torch.Generator().manual_seed(search.seed)
    size = min(search.batch_size, len(images))
    while True:
        order = torch.randperm(len(images), generator=generator).to(images.device)
        for start in range(0, len(images) - size + 1, size):
            yield images[order[start : start + size]]


def _descend(
    model: nn.Module, x: Tensor, targets: Tensor, running: _Running, lr: float, time: int
) -> tuple[Tensor, Tensor]:
    """One step of Adam on every class, in place; returns success rates and mask sizes before it, each (k,)."""
    m, p = squash(running.a), squash(running.b)
    hits, total, weighted = _gradients(model, x, m, p, targets)
    # x' = x + m (p - x): the sums over the batch of g and of g x give both gradients
    to_pattern = m * total  # (k, C, H, W)
    to_mask = (p * total).sum(dim=1, keepdim=True) - weighted + running.controller.cost.reshape(-1, 1, 1, 1)
    slope_a, slope_b = ((1 - ((2 - EPSILON) * (part - 0.5)) ** 2) / (2 - EPSILON) for part in (m, p))
    first_a, second_a, first_b, second_b = running.moments
    for value, gradient, first, second in (
        (running.a, to_mask * slope_a, first_a, second_a),
        (running.b, to_pattern * slope_b, first_b, second_b),
    ):
        first.mul_(_BETAS[0]).add_(gradient, alpha=1 - _BETAS[0])
        second.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
        scale = (second / (1 - _BETAS[1] ** time)).sqrt_().add_(EPSILON)
        value.addcdiv_(first, scale, value=-lr / (1 - _BETAS[0] ** time))
    return hits, m.sum(dim=(1, 2, 3))


def _gradients(model: nn.Module, x: Tensor, m: Tensor, p: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the mean cross-entropy with regard to x': summed over the batch, and that weighted by x over channels."""
    each = max(1, _AT_ONCE // len(x))
    hits, totals, weighted = [], [], []
    for rows in torch.split(torch.arange(len(targets), device=x.device), each):
        marked = stamp(x, m[rows, None], p[rows, None]).flatten(0, 1).requires_grad_()  # (k B, C, H, W)
        wanted = targets[rows].repeat_interleave(len(x))
        with torch.enable_grad():
            logits = model(marked)
            loss = functional.cross_entropy(logits, wanted, reduction="sum") / len(x)
            (gradient,) = torch.autograd.grad(loss, marked)
        gradient = gradient.reshape(len(rows), *x.shape)  # (k, B, C, H, W)
        totals.append(gradient.sum(dim=1))
        weighted.append(torch.einsum("kbchw,bchw->khw", gradient, x)[:, None])
        hits.append((logits.detach().argmax(dim=1) == wanted).reshape(len(rows), len(x)).to(x.dtype).mean(dim=1))
    return torch.cat(hits), torch.cat(totals), torch.cat(weighted)


def _worse_half(best: Tensor) -> Tensor:
    """(k,) bool: all but the better half, the odd one kept."""
    order = best.argsort(stable=True)
    worse = torch.ones_like(best, dtype=torch.bool)
    worse[order[: (len(best) + 1) // 2]] = False
    return worse
