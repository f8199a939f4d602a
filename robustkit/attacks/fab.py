"""Fast adaptive boundary attack: along the boundary towards the sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.attacks.apgd import likeliest_wrong
from robustkit.attacks.deepfool import linearised
from robustkit.attacks.fits import require_norm
from robustkit.attacks.gradient import input_gradient
from robustkit.attacks.nearest import Nearest, bisect, falls, open_rows, sure
from robustkit.contracts import Norm, Threat
from robustkit.norms import distance, flat, per_sample
from robustkit.params import check, param

_PULL = 0.1
"""Largest weight of the sample's own projection in a step."""
_BEYOND = 1.05
"""Projections are overshot by this factor."""
_BACK = 0.9
"""From an adversarial point the search goes on at this share of the way from the sample."""
_RADIUS: dict[Norm, float] = {"linf": 0.3, "l2": 1.0, "l1": 5.0}
"""Of random starts, where nothing was found before."""
_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class FAB:
    """Fast adaptive boundary attack (Croce & Hein 2020, https://arxiv.org/abs/1907.02044).

    The point and the sample are both projected onto the linearised boundary within the box, exactly in each norm; the
    next point lies between the two, the nearer to the latter the shorter its way. An adversarial point is noted,
    and the search goes on at 0.9 of the way to it.

    Departs from the paper: the way back from the nearest point is bisected, once, after all restarts.

    Fields:
        steps: linearisations a restart.
        restarts: the first from the sample itself, others from random points within half the distance found.
        aimed: aim at each of the likeliest wrong classes, one after the other (FAB-T: one backward pass a step),
            and not at that whose boundary is nearest.
        classes: likeliest wrong classes looked at or aimed at.

    Shapes: x (N, C, H, W) float in [0, 1]; y (N,) int64 labels; returns like x; x itself where nothing was found.
    Cost: restarts · steps · (2 forward and `classes` backward passes) and 14 forward passes a sample; aimed: classes ·
    restarts · steps · (2 forward and 1 backward), and 15 forward.
    """

    steps: int = param(100, "linearisations a restart", low=1)
    restarts: int = param(1, "the first from the sample, others random", low=1)
    aimed: bool = param(False, "at each of the likeliest wrong classes in turn")
    classes: int = param(9, "likeliest wrong classes", low=1)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return self.search(model, x, y, threat.norm, enough=0.0)

    @torch.no_grad()  # but for the passes that say otherwise
    def search(self, model: nn.Module, x: Tensor, y: Tensor, norm: Norm, enough: float) -> Tensor:
        """The same; a sample is left alone once it fell at a distance of at most `enough`, in input units."""
        require_norm("fab", Threat(norm, 0.0))
        nearest = Nearest(x, norm)
        rows = open_rows(model, x, y, nearest, targeted=False)
        if len(rows):
            aims: tuple[Tensor | None, ...] = (None,)
            if self.aimed:
                every = torch.zeros(len(x), min(self.classes, _classes(model, x) - 1), dtype=y.dtype, device=x.device)
                every[rows] = likeliest_wrong(model, x[rows], y[rows], self.classes)
                aims = every.unbind(1)
            for aim in aims:
                for restart in range(self.restarts):
                    rows = rows[nearest.distance[rows] > enough]
                    self._run(model, x, y, norm, nearest, rows, aim, enough, at_random=restart > 0)
        return bisect(model, x, y, nearest, targeted=False)

    def _run(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        norm: Norm,
        nearest: Nearest,
        rows: Tensor,
        aim: Tensor | None,
        enough: float,
        *,
        at_random: bool,
    ) -> None:
        """One search of these rows, noting all that falls."""
        origin, label = x[rows], y[rows]
        current = _beside(origin, nearest.distance[rows], norm) if at_random else origin
        for _ in range(self.steps):
            if not len(rows):
                break
            slope, gap = self._boundary(model, current, label, None if aim is None else aim[rows], norm)
            level = gap + (flat(slope) * flat(current - origin)).sum(dim=1)  # of the same plane, at the sample
            near, own = to_plane(current, slope, gap, norm), to_plane(origin, slope, level, norm)
            size, own_size = (distance(d, torch.zeros_like(d), norm) for d in (near, own))
            pull = per_sample((size / (size + own_size).clamp_min(_TINY)).clamp(0, _PULL), x)
            current = (1 - pull) * (current + _BEYOND * near) + pull * (origin + _BEYOND * own)
            current = current.clamp_(0, 1)
            hit = falls(model(current), label, targeted=False)
            nearest.note(current, hit, rows)
            back = origin + _BACK * (current - origin)
            current = torch.where(per_sample(hit, x), back, current)
            if enough:
                open_ = nearest.distance[rows] > enough
                rows, origin, label, current = rows[open_], origin[open_], label[open_], current[open_]

    def _boundary(
        self, model: nn.Module, x: Tensor, y: Tensor, aim: Tensor | None, norm: Norm
    ) -> tuple[Tensor, Tensor]:
        """∇(z_k − z_y) like x and the lead to be gained (n,), z_y − z_k and a little more: of the class aimed at,
        or of that with the nearest boundary.
        """
        if aim is not None:
            slope, value, logits = input_gradient(model, x, torch.stack([y, aim], dim=1), _difference)
            return slope, (2 * sure(logits) - value).to(x.dtype)
        lead, slopes, logits = linearised(model, x, y, self.classes)
        dual = {"linf": 1.0, "l2": 2.0}.get(norm, torch.inf)
        length = torch.linalg.vector_norm(slopes.flatten(2), dual, dim=2).clamp_min(_TINY)  # (k, n)
        chosen, every = (lead.T.abs() / length).argmin(dim=0), torch.arange(len(x), device=x.device)
        return slopes[chosen, every], (lead[every, chosen] + 2 * sure(logits)).to(x.dtype)


def to_plane(x: Tensor, slope: Tensor, gap: Tensor, norm: Norm) -> Tensor:
    """The shortest δ (N, ...) in `norm` with ⟨slope, δ⟩ = gap (N,) and x + δ in the box; all the way to the box where
    that is too short.

    linf: min(t, room) each, l2: min(t·|slope|, room), with t in closed form from the order in which values meet their
    room. l1: values with the largest |slope| first, to the end of their room.
    """
    pull = flat(slope) * gap.sign()[:, None]
    weight, wanted = pull.abs(), gap.abs()[:, None]
    room = torch.where(pull > 0, 1 - flat(x), flat(x)) * (weight > 0)
    if norm == "l1":
        order = weight.argsort(dim=1, descending=True)
        gains = (weight * room).gather(1, order)
        share = ((wanted - gains.cumsum(dim=1) + gains) / gains.clamp_min(1e-30)).clamp(0, 1)
        moved = torch.zeros_like(room).scatter(1, order, share * room.gather(1, order))
    else:
        speed = torch.ones_like(weight) if norm == "linf" else weight
        bend, order = (room / speed.clamp_min(1e-30)).sort(dim=1)
        gains, rates = (weight * room).gather(1, order), (weight * speed).gather(1, order)
        spent = gains.cumsum(dim=1) - gains  # by those that met their room before
        free = rates.flip(1).cumsum(dim=1).flip(1)
        short = spent + bend * free < wanted
        first = short.sum(dim=1, keepdim=True).clamp_max(room.shape[1] - 1)
        time = (wanted - spent.gather(1, first)).clamp_min(0) / free.gather(1, first).clamp_min(1e-30)
        moved = torch.minimum(time * speed, room)
        moved = torch.where(short.all(dim=1, keepdim=True), room, moved)
    return (pull.sign() * moved).reshape(x.shape)


def _difference(logits: Tensor, goal: Tensor) -> Tensor:
    own, aim = logits.gather(1, goal).unbind(1)
    return aim - own


def _beside(x: Tensor, far: Tensor, norm: Norm) -> Tensor:
    """A random point within half the distance `far` (N,)."""
    direction = 2 * torch.rand_like(x) - 1 if norm == "linf" else torch.randn_like(x)
    length = distance(direction, torch.zeros_like(x), norm).clamp_min(_TINY)
    radius = torch.where(far.isfinite(), far, torch.full_like(far, _RADIUS[norm])) / 2
    return (x + direction * per_sample(radius / length, x)).clamp(0, 1)


def _classes(model: nn.Module, x: Tensor) -> int:
    return int(model(x[:1]).shape[1])
