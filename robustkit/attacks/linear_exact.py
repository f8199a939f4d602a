"""The exact worst case of a linear classifier: the yardstick for all other attacks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.contracts import Norm, Threat
from robustkit.norms import flat
from robustkit.params import UsageError


@dataclass(frozen=True, kw_only=True)
class LinearExact:
    """The perturbation in ball ∩ box that maximises the margin of a linear classifier, in closed form.

    For logits W x + b and each class c ≠ y it maximises ⟨w_c − w_y, δ⟩ exactly, then takes the class with the
    largest margin. With g = w_c − w_y and room_i the way from x_i to the box in the direction of g_i:
    linf moves every coordinate by min(eps, room_i); l2 moves it by min(t·|g_i|, room_i) with t such that the
    length is eps (the KKT conditions; t by bisection); l1 fills the coordinates in the order of |g_i| until eps
    is spent (a fractional knapsack); l0 moves the eps coordinates with the largest |g_i|·room_i to the box.

    Shapes: x (N, C, H, W) float in [0, 1]; y (N,) int64 labels; returns like x.
    Errors: UsageError where the model is not affine in its input.
    Cost: K backward passes and 3 forward passes in all, whatever N.
    """

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        if not len(x):
            return x.clone()
        weight, bias = _affine(model, x)
        origin = flat(x).double()
        best = origin.clone()
        best_margin = torch.full((len(x),), -torch.inf, dtype=torch.float64, device=x.device)
        for target in range(weight.shape[0]):
            gain = weight[target] - weight[y]  # (N, D)
            moved = origin + _worst(gain, origin, threat.norm, threat.eps)
            margin = (gain * moved).sum(dim=1) + bias[target] - bias[y]
            better = (margin > best_margin) & (y != target)
            best[better], best_margin[better] = moved[better], margin[better]
        return best.clamp(0, 1).to(x.dtype).reshape(x.shape)


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
    """min(t·size, room) with t such that each row has length eps, or room where that is shorter."""
    smallest = size.masked_fill(size == 0, torch.inf).amin(dim=1, keepdim=True).clamp(1e-12, 1e12)
    low = torch.zeros_like(smallest)
    high = 1 / smallest  # here every coordinate has met its room, which is at most 1
    for _ in range(200):
        middle = (low + high) / 2
        too_long = torch.minimum(middle * size, room).norm(dim=1, keepdim=True) > eps
        low, high = torch.where(too_long, low, middle), torch.where(too_long, middle, high)
    return torch.minimum(low * size, room)


def _affine(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """(W (K, D), b (K,)) in float64 of an affine model, checked at the inputs themselves.

    Raises:
        UsageError: the model is not affine.
    """
    point = torch.full_like(x[:1], 0.5)
    point.requires_grad_()
    logits = model(point)[0]
    rows = [torch.autograd.grad(value, point, retain_graph=True)[0].reshape(-1) for value in logits]
    weight = torch.stack(rows).double()  # (K, D)
    with torch.no_grad():
        bias = model(point)[0].double() - weight @ point.reshape(-1).double()
        logits = model(x).double()
    error = (logits - (flat(x).double() @ weight.T + bias)).abs().amax()
    scale = logits.abs().amax().clamp_min(1.0)
    tolerance = 1e-2 if torch.is_autocast_enabled(x.device.type) else 1e-4 if x.dtype == torch.float32 else 1e-8
    if not bool(error <= tolerance * scale):
        raise UsageError(
            f"linear_exact needs a model that is affine in its input; this one departs from its linearisation "
            f"by {float(error):.3g} in the logits. Use it with model=linear, or use pgd"
        )
    return weight, bias
