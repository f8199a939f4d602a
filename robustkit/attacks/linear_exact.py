"""The exact worst case of a linear classifier: the yardstick for all other attacks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.contracts import Norm, Threat
from robustkit.norms import flat, project
from robustkit.params import UsageError


@dataclass(frozen=True, kw_only=True)
class LinearExact:
    """The perturbation in ball ∩ box that maximises the margin of a linear classifier, in closed form.

    For logits W x + b and each class c ≠ y it maximises ⟨w_c − w_y, δ⟩ exactly, then takes the class with the
    largest margin. With g = w_c − w_y and room_i the way from x_i to the box in the direction of g_i:
    linf moves every coordinate by min(eps, room_i); l2 moves it by min(t·|g_i|, room_i) with t such that the
    length is eps (the KKT conditions); l1 fills the coordinates in the order of |g_i| until eps
    is spent (a fractional knapsack); l0 moves the eps coordinates with the largest |g_i|·room_i to the box.

    Where the box leaves no room for more, it stops short of the ball.

    Shapes: x (N, C, H, W) float in [0, 1]; y (N,) int64 labels; returns like x.
    Errors: UsageError where the model is not affine in its input, at the inputs or at what was found.
    Cost: K backward passes of one sample, and 2 forward passes a sample.
    """

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        if not len(x):
            return x.clone()
        weight, bias = affine(model, x)
        require_affine(model, x, weight, bias)
        origin = flat(x).double()
        best = origin.clone()
        best_margin = torch.full((len(x),), -torch.inf, dtype=torch.float64, device=x.device)
        for target in range(weight.shape[0]):
            gain = weight[target] - weight[y]  # (N, D)
            moved = origin + _worst(gain, origin, threat.norm, threat.eps)
            margin = (gain * moved).sum(dim=1) + bias[target] - bias[y]
            better = (margin > best_margin) & (y != target)
            best[better], best_margin[better] = moved[better], margin[better]
        x_adv = project(best.to(x.dtype).reshape(x.shape), x, threat)  # rounding to x's dtype may leave the ball
        require_affine(model, x_adv, weight, bias)  # it may be affine near x alone
        return x_adv


def _worst(gain: Tensor, x: Tensor, norm: Norm, eps: float) -> Tensor:
    """argmax ⟨gain, δ⟩ over ‖δ‖ ≤ eps and 0 ≤ x + δ ≤ 1; all (N, D) float64."""
    room = torch.where(gain > 0, 1 - x, x) * (gain != 0)
    size = gain.abs()
    if norm == "linf":
        moved = room.clamp_max(eps)
    elif norm == "l1":
        order = size.argsort(dim=1, descending=True)
        sorted_room = room.gather(1, order)
        spent = sorted_room.cumsum(dim=1) - sorted_room
        moved = torch.zeros_like(room).scatter(1, order, torch.minimum((eps - spent).clamp_min(0), sorted_room))
    elif norm == "l0":
        count = min(int(eps), room.shape[1])
        moved = torch.zeros_like(room)
        if count:
            chosen = (size * room).topk(count, dim=1).indices
            moved.scatter_(1, chosen, room.gather(1, chosen))
    else:
        moved = _fill_l2(size, room, eps)
    return gain.sign() * moved


def _fill_l2(size: Tensor, room: Tensor, eps: float) -> Tensor:
    """min(t·size, room) with t such that each row has length eps, or room where that is shorter.

    In the order in which coordinates meet their room as t grows, the length at each such t is known in closed
    form; t lies before the first at which it is eps.
    """
    bend, order = torch.where(size > 0, room / size.clamp_min(1e-30), 1e30).sort(dim=1)
    room_squared, size_squared = room.gather(1, order).square(), size.gather(1, order).square()
    spent = room_squared.cumsum(dim=1) - room_squared  # by those that met their room before
    free = size_squared.flip(1).cumsum(dim=1).flip(1)  # by t² of all others
    short = spent + bend.square() * free < eps**2
    first = short.sum(dim=1, keepdim=True).clamp_max(size.shape[1] - 1)
    stretch = ((eps**2 - spent.gather(1, first)).clamp_min(0) / free.gather(1, first).clamp_min(1e-60)).sqrt()
    return torch.where(short.all(dim=1, keepdim=True), room, torch.minimum(stretch * size, room))


def affine(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """(W (K, D), b (K,)) in float64: the model's linearisation in the middle of the box."""
    with torch.enable_grad():
        point = torch.full_like(x[:1], 0.5).requires_grad_()
        logits = model(point)[0]
        rows = [torch.autograd.grad(value, point, retain_graph=True)[0].reshape(-1) for value in logits]
    weight = torch.stack(rows).double()  # (K, D)
    return weight, logits.detach().double() - weight @ point.detach().reshape(-1).double()


def require_affine(
    model: nn.Module, x: Tensor, weight: Tensor, bias: Tensor, who: str = "linear_exact", instead: str = "pgd"
) -> None:
    """Raises UsageError where the logits at x are not W x + b."""
    with torch.no_grad():
        logits = model(x)
    error = (logits.double() - (flat(x).double() @ weight.T + bias)).abs().amax()
    scale = logits.double().abs().amax().clamp_min(1.0)
    if not bool(error <= _tolerance(logits) * scale):
        raise UsageError(
            f"{who} needs a model that is affine in its input; this one departs from its linearisation "
            f"by {float(error):.3g} in the logits. Use it with model=linear, or use {instead}"
        )


def _tolerance(logits: Tensor) -> float:
    """How far rounding may take the logits, relative to the largest.

    A search in low precision hands its logits on as float32, but they still lie on the coarse grid.
    """
    if logits.dtype == torch.float64:
        return 1e-8
    coarse = any(torch.equal(logits.to(dtype).to(logits.dtype), logits) for dtype in (torch.bfloat16, torch.float16))
    return 3e-2 if coarse else 1e-4
