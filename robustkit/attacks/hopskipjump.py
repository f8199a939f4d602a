"""HopSkipJump: along the decision boundary towards the input, with decisions alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.attacks.fits import require_norm
from robustkit.attacks.losses import reached
from robustkit.attacks.nearest import Nearest
from robustkit.contracts import Norm, Threat
from robustkit.norms import distance, flat, per_sample, steepest
from robustkit.params import check, param

_TRIES = 100
"""Of random images, for one that is classified otherwise."""
_FINE = 10
"""Of these, the first that are noise by pixel; later ones are of larger cells, plain images among them."""
_HALVINGS = (10, 24)
"""Of a bracket, at least and at most; float32 resolves no more."""
_STRIDES = 15
"""Lengths of a step that are tried at most."""
_FEWEST = 10
"""Probes below which an estimate is not worth its step."""
_TOGETHER = 256
"""Probes in one forward pass, where there are fewer samples."""
_OUT = 1e-3
"""Share of its distance by which the result is moved off the boundary, where another batch's rounding decides."""


@dataclass(frozen=True, kw_only=True)
class HopSkipJump:
    """HopSkipJump, untargeted (Chen, Jordan & Wainwright 2020, https://arxiv.org/abs/1904.02144).

    From a random image that is classified otherwise, bisected towards x down to the boundary, in turns: the normal
    there is estimated as the mean of u (φ − mean φ) over random directions u, with φ = ±1 the decision at x_t + δu,
    δ = ‖x_t − x‖ / D; a step along it (linf: along its sign), of length ‖x_t − x‖ / √t, halved until it is still
    adversarial; and a bisection back to the boundary (linf: by clipping to smaller balls around x). The t-th
    estimate takes `directions` · √t probes.

    Departs from the paper: bisections take 10 to 24 queries; the last estimate takes what is left of the queries; the
    nearest point is returned, not the last one, moved away from x by a thousandth of its distance; and a sample for
    which ten noise images are of its own class starts at images of coarser noise.

    Fields:
        queries: forward passes of a sample at most, everything included.
        directions: probes of the first estimate.

    Shapes: x (N, C, H, W) float in [0, 1]; y (N,) int64; returns like x; x itself where nothing was found.
    Cost: at most `queries` forward passes a sample, no backward pass.
    """

    queries: int = param(5000, "forward passes of a sample at most", low=100)
    directions: int = param(100, "probes of the first estimate", low=10)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return self.counted(model, x, y, threat)[0]

    @torch.no_grad()
    def counted(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> tuple[Tensor, Tensor]:
        """The same, with the number of queries that each sample took until it fell within eps, or altogether, (N,)."""
        require_norm("hopskipjump", threat, ("linf", "l2"))
        nearest, ask, inside = Nearest(x, threat.norm), _Oracle(model, y), torch.zeros_like(y)
        if not len(x):
            return nearest.points, inside
        size = flat(x).shape[1]
        halvings = round(math.log2(size) * (2 if threat.norm == "linf" else 1.5))
        halvings = min(max(halvings, _HALVINGS[0]), _HALVINGS[1])

        def note(points: Tensor, hit: Tensor, rows: Tensor) -> None:
            nearest.note(points, hit, rows)
            new = (nearest.distance * (1 + _OUT) <= threat.allowance) & (inside == 0)
            inside[new] = ask.used[new]

        rows = torch.arange(len(x), device=x.device)
        fallen = ask(x, rows)
        note(x, fallen, rows)
        rows, current = _start(ask, x, rows[~fallen], min(_TRIES, self.queries // 2))
        step = 0
        while len(rows):
            current = _to_boundary(ask, x[rows], current, rows, threat.norm, halvings)
            note(current, torch.ones_like(rows, dtype=torch.bool), rows)
            step += 1
            spare = self.queries - ask.used[rows] - _STRIDES - halvings - 1
            probes = spare.clamp_max(int(self.directions * math.sqrt(step)))
            going = probes >= _FEWEST
            rows, current, probes = rows[going], current[going], probes[going]
            if len(rows):
                far = distance(current, x[rows], threat.norm)
                normal = _normal(ask, current, rows, probes, far / size)
                aim = steepest(normal, threat.norm)
                current = _step(ask, current, rows, aim, far / math.sqrt(step))
        rows = (nearest.distance.isfinite() & (nearest.distance > 0)).nonzero().squeeze(1)
        if len(rows):
            away = (x[rows] + (1 + _OUT) * (nearest.points[rows] - x[rows])).clamp(0, 1)
            hit = ask(away, rows)
            nearest.points[rows[hit]] = away[hit]
        return nearest.points, torch.where(inside > 0, inside, ask.used)


class _Oracle:
    """Decisions of a model, counted by sample: `used` (N,) int64.

    Asked for points (n, ...) of these rows of the batch, which may repeat: (n,) bool, whether they are adversarial.
    """

    def __init__(self, model: nn.Module, y: Tensor) -> None:
        self._model, self._y, self.used = model, y, torch.zeros_like(y)

    def __call__(self, points: Tensor, rows: Tensor) -> Tensor:
        self.used.index_add_(0, rows, torch.ones_like(rows))
        return reached(self._model(points), self._y[rows], targeted=False)


def _start(ask: _Oracle, x: Tensor, rows: Tensor, tries: int) -> tuple[Tensor, Tensor]:
    """Of `rows` those for which an adversarial image was found, (n,), and these images (n, ...)."""
    found, images = torch.zeros_like(rows, dtype=torch.bool), x[rows]
    for attempt in range(tries):
        open_ = (~found).nonzero().squeeze(1)
        if not len(open_):
            break
        like = images[open_]
        if attempt < _FINE:
            candidate = torch.rand_like(like)
        else:
            cells = int(torch.randint(1, 9, ()))
            coarse = torch.rand(len(like), like.shape[1], cells, cells, dtype=x.dtype, device=x.device)
            candidate = F.interpolate(coarse, size=like.shape[2:])
        hit = ask(candidate, rows[open_])
        images[open_[hit]], found[open_[hit]] = candidate[hit], True
    return rows[found], images[found]


def _to_boundary(ask: _Oracle, x: Tensor, points: Tensor, rows: Tensor, norm: Norm, halvings: int) -> Tensor:
    """The last adversarial ones on the way from points (n, ...) to x, like x."""
    way, far = points - x, per_sample(distance(points, x, norm), x)
    low, high = torch.zeros_like(far), torch.ones_like(far)
    best = points
    for _ in range(halvings):
        middle = (low + high) / 2
        if norm == "linf":
            candidate = x + torch.minimum(torch.maximum(way, -middle * far), middle * far)
        else:
            candidate = x + middle * way
        candidate = candidate.clamp(0, 1)
        hit = per_sample(ask(candidate, rows), x)
        best = torch.where(hit, candidate, best)
        low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
    return best


def _normal(ask: _Oracle, points: Tensor, rows: Tensor, probes: Tensor, reach: Tensor) -> Tensor:
    """The boundary's normal at points (n, ...), into the adversarial side, from probes (n,) at distance reach (n,)."""
    count = len(rows)
    total, signed = torch.zeros_like(points), torch.zeros_like(points)
    balance = torch.zeros_like(reach)
    together = max(1, _TOGETHER // count)
    place = torch.arange(count, device=rows.device).expand(together, count)
    for begin in range(0, int(probes.max()), together):
        wanted = torch.arange(begin, begin + together, device=rows.device)[:, None] < probes
        which = place[wanted]  # (m,)
        base, length = points[which], per_sample(reach[which], points)
        direction = torch.randn_like(base)
        direction /= per_sample(flat(direction).norm(dim=1).clamp_min(1e-30), base)
        probe = (base + length * direction).clamp(0, 1)
        sign = torch.where(ask(probe, rows[which]), 1.0, -1.0).to(points.dtype)
        shift = (probe - base) / length.clamp_min(1e-30)
        block = points.new_zeros(together, *points.shape)
        block[wanted] = shift
        total += block.sum(dim=0)
        block[wanted] = shift * per_sample(sign, shift)
        signed += block.sum(dim=0)
        signs = reach.new_zeros(together, count)
        signs[wanted] = sign
        balance += signs.sum(dim=0)
    mean = per_sample(balance / probes, points)
    return torch.where(mean.abs() == 1, mean * total, signed - mean * total)


def _step(ask: _Oracle, points: Tensor, rows: Tensor, aim: Tensor, length: Tensor) -> Tensor:
    """points (n, ...) moved along `aim`, by `length` (n,) or what of it, halved, keeps them adversarial."""
    moved = points.clone()
    open_ = torch.arange(len(rows), device=rows.device)
    for halved in range(_STRIDES):
        if not len(open_):
            break
        stride = per_sample(length[open_] / 2**halved, points)
        candidate = (points[open_] + stride * aim[open_]).clamp(0, 1)
        hit = ask(candidate, rows[open_])
        moved[open_[hit]] = candidate[hit]
        open_ = open_[~hit]
    return moved
