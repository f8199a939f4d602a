"""Lp geometry on batches: distances, projections onto ball ∩ box, random points, steepest directions.

Inputs are (N, ...) tensors, images in [0, 1]; distances in input units. Projections keep float32 rounding in
mind: what they return satisfies `distance <= threat.allowance`, and lies in the box exactly.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustkit.contracts import Norm, Threat


def flat(x: Tensor) -> Tensor:
    """(N, ...) → (N, D)."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))  # -1 is ambiguous where N is 0


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """(N,) → (N, 1, ..., 1), to be multiplied with `like` (N, ...)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def distance(a: Tensor, b: Tensor, norm: Norm) -> Tensor:
    """‖a − b‖ for each sample, (N,); l0 counts the values that differ at all."""
    difference: Tensor = flat(a - b)
    if norm == "linf":
        return difference.abs().amax(dim=1)
    if norm == "l2":
        return difference.square().sum(dim=1).sqrt()
    if norm == "l1":
        return difference.abs().sum(dim=1)
    return (difference != 0).sum(dim=1).to(difference.dtype)


def project(x_adv: Tensor, x: Tensor, threat: Threat) -> Tensor:
    """A point of ball ∩ box near `x_adv`; `x` must lie in the box.

    linf, l1: the Euclidean projection onto ball ∩ box (for l1 after Croce & Hein 2021,
    https://arxiv.org/abs/2103.01208, by bisection on the multiplier). l0: the eps largest changes are kept.
    l2: onto the ball, then onto the box; x lies in both, so the second step cannot leave the ball, but the
    result is not always the nearest point. The projection onto the intersection would need a bisection for
    each step of an attack and gained nothing measurable in them.
    """
    if threat.norm == "linf":
        return torch.minimum(torch.maximum(x_adv, x - threat.eps), x + threat.eps).clamp(0, 1)
    if threat.norm == "l2":
        delta = x_adv - x
        length = distance(x_adv, x, "l2")
        # a hair inside, so that rounding in x + delta cannot push the distance out again
        scale = (threat.eps / length.clamp_min(1e-12)).clamp_max(1)
        return (x + delta * per_sample(scale, delta)).clamp(0, 1)
    if threat.norm == "l1":
        return _project_l1(x_adv, x, threat.eps)
    return _project_l0(x_adv, x, int(threat.eps))


def random_start(x: Tensor, threat: Threat) -> Tensor:
    """A point drawn uniformly from the ball around each sample, then clipped to the box.

    From torch's global generator. l2: Gaussian direction, radius eps·U^(1/D). l1: a Laplace direction by
    its own l1 length, radius eps·U^(1/D). l0: eps values chosen at random, each drawn from the box.
    """
    count, size = x.shape[0], x[0].numel() if x.shape[0] else 1
    if threat.norm == "linf":
        return (x + torch.empty_like(x).uniform_(-threat.eps, threat.eps)).clamp(0, 1)
    if threat.norm == "l0":
        rank = torch.rand_like(flat(x)).argsort(dim=1).argsort(dim=1).reshape(x.shape)
        return torch.where(rank < int(threat.eps), torch.rand_like(x), x)
    radius = threat.eps * torch.rand(count, dtype=x.dtype, device=x.device) ** (1 / size)
    if threat.norm == "l2":
        direction = torch.randn_like(x)
    else:
        uniform = torch.rand_like(x) - 0.5
        direction = -uniform.sign() * torch.log1p(-2 * uniform.abs().clamp_max(0.5 - 1e-7))
    length = distance(direction, torch.zeros_like(direction), threat.norm).clamp_min(1e-12)
    return (x + direction * per_sample(radius / length, x)).clamp(0, 1)


def steepest(gradient: Tensor, norm: Norm, x: Tensor | None = None, share: float = 0.05) -> Tensor:
    """The step of unit length in `norm` that gains most to first order, (N, ...) like `gradient`.

    linf: sign(g). l2: g/‖g‖. l1: the exact answer is the single largest coordinate; as in SLIDE (Tramèr &
    Boneh 2019, https://arxiv.org/abs/1904.13000) the step is spread evenly over the `share` of coordinates
    with the largest gradient that can still move, which one coordinate alone cannot use inside a box.

    Args:
        gradient: (N, ...).
        norm: "linf", "l2" or "l1".
        x: where the step starts; for l1, coordinates at the box's edge that would leave it are passed over.
        share: of the coordinates that an l1 step moves.
    """
    if norm == "linf":
        return gradient.sign()
    if norm == "l2":
        length = flat(gradient).square().sum(dim=1).sqrt().clamp_min(1e-12)
        return gradient / per_sample(length, gradient)
    if norm == "l1":
        usable = gradient
        if x is not None:
            stuck = ((gradient > 0) & (x >= 1)) | ((gradient < 0) & (x <= 0))
            usable = gradient.masked_fill(stuck, 0)
        size = flat(usable).abs()
        count = max(1, int(share * size.shape[1]))
        threshold = size.topk(count, dim=1).values[:, -1:]
        chosen = (size >= threshold) & (size > 0)
        moved = chosen.sum(dim=1, keepdim=True).clamp_min(1)
        return (flat(usable).sign() * chosen / moved).reshape(gradient.shape)
    raise ValueError(f"no steepest direction in {norm}: attacks for linf, l2 and l1 alone take gradient steps")


def _project_l1(x_adv: Tensor, x: Tensor, eps: float) -> Tensor:
    """argmin ‖z − x_adv‖₂ s.t. ‖z − x‖₁ ≤ eps, 0 ≤ z ≤ 1.

    The optimum is sign(δ)·clip(|δ| − λ, 0, room), where room is the way to the box; λ ≥ 0 is found by
    bisection and rounded up, so that the result is inside the ball.
    """
    delta = flat(x_adv - x)  # (N, D)
    room = torch.where(delta >= 0, 1 - flat(x), flat(x))
    size = delta.abs()
    low = torch.zeros_like(size[:, :1])
    high = size.amax(dim=1, keepdim=True) if size.shape[1] else low
    inside = torch.minimum(size, room).sum(dim=1, keepdim=True) <= eps
    for _ in range(40):
        middle = (low + high) / 2
        too_long = torch.minimum((size - middle).clamp_min(0), room).sum(dim=1, keepdim=True) > eps
        low, high = torch.where(too_long, middle, low), torch.where(too_long, high, middle)
    multiplier = torch.where(inside, torch.zeros_like(high), high)
    moved = delta.sign() * torch.minimum((size - multiplier).clamp_min(0), room)
    return (x + moved.reshape(x.shape)).clamp(0, 1)


def _project_l0(x_adv: Tensor, x: Tensor, count: int) -> Tensor:
    """Keep the `count` largest changes of each sample."""
    clipped = x_adv.clamp(0, 1)
    change = flat(clipped - x).abs()
    if count >= change.shape[1]:
        return clipped
    if count <= 0:
        return x.clone()
    kept = torch.zeros_like(change, dtype=torch.bool)
    kept.scatter_(1, change.topk(count, dim=1).indices, True)
    return torch.where(kept.reshape(x.shape), clipped, x)
