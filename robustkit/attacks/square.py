"""Square attack: random search by squares, with scores alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.attacks.fits import require_norm
from robustkit.attacks.losses import named, reached
from robustkit.contracts import Threat
from robustkit.norms import flat, per_sample, project
from robustkit.params import check, param

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries of 10,000 after which the squares' area is halved."""
_GRID = 5
"""Tiles across the first perturbation in l2."""
_OVER = 3.0
"""In l1: a bump gets this times its budget before the projection, which takes it from the smallest changes. On a small
network for MNIST, eps 16, 300 queries, 31 % of 100 digits stand with 3 and 67 % with 1."""
_TINY = 1e-12
_LOOKS = (250, 500, 1000, 2000, 4000)
"""Queries after which samples without hope are given up, each judged by its pace since half as many."""
_SLOWER = 0.35
"""Share of that pace that is expected of what is left. Of 342 samples that gradients had left, 8 networks and balls, 48
fell to 5,000 queries; of these 31 still do, at 640 queries a sample, with 0.7 37, at 1,040."""


@dataclass(frozen=True, kw_only=True)
class Square:
    """Square attack (Andriushchenko et al. 2020, https://arxiv.org/abs/1912.00049; l1: Croce & Hein 2021,
    https://arxiv.org/abs/2103.01208).

    A candidate differs from the best point in a square at a random place, and replaces it where the margin (targeted:
    the cross-entropy) is better. linf: each channel of the square is at +eps or −eps; the start is of vertical
    stripes. l2: a bump of random sign is put into one square, with the budget that another square gives up;
    the start is a grid of bumps. l1: as l2, lengths and budgets in l1. Squares cover the share `area` of the image at
    first, which is halved after fixed shares of the queries.

    Departs from the paper: a square that would change nothing has its signs turned. In l1 bumps are three times too
    large before they are projected. What has fallen makes no more queries.

    Fields:
        queries: forward passes of a sample a restart, the start's included.
        restarts: of the whole search, on what still stands.
        area: first share of the image that a square covers; 0.8 is AutoAttack's.
        give_up: leave a sample alone once its loss, at the pace it has come to, would not reach 0 in the queries that
            are left. What stands to the end costs a tenth of the queries so, and a third of what fell late is lost.
        targeted: y are classes to reach, not labels to leave.

    Shapes: x (N, C, H, W) float in [0, 1]; y (N,) int64; returns like x.
    Cost: at most restarts · queries forward passes a sample, no backward pass.
    """

    queries: int = param(5000, "forward passes of a sample a restart", low=1)
    restarts: int = param(1, "of the whole search", low=1)
    area: float = param(0.8, "first share of the image in a square", low=0, high=1)
    give_up: bool = param(False, "what, at its pace, would not fall in the queries left")
    targeted: bool = param(False, "y are classes to reach")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return self.counted(model, x, y, threat)[0]

    @torch.no_grad()
    def counted(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> tuple[Tensor, Tensor]:
        """The same, with the number of queries that each sample took until it fell, or altogether, (N,) int64."""
        require_norm("square", threat)
        start, change = (_stripes, _signs) if threat.norm == "linf" else (_bumps, _moved)
        best = x.clone()
        value = torch.full((x.shape[0],), -torch.inf, dtype=x.dtype, device=x.device)
        queries = torch.zeros_like(y)
        for _ in range(self.restarts):
            rows = (~value.isposinf()).nonzero().squeeze(1)
            if not len(rows):
                break
            found, found_value, used = self._run(model, x[rows], y[rows], threat, start, change)
            queries[rows] += used
            better = found_value > value[rows]
            best[rows[better]], value[rows[better]] = found[better], found_value[better]
        return best, queries

    def _run(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        start: Callable[[Tensor, Threat], Tensor],
        change: Callable[[Tensor, Tensor, Threat, float], Tensor],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One search: points (N, ...), losses (N,), +inf where adversarial, and queries (N,)."""
        loss = named("cross_entropy" if self.targeted else "margin", self.targeted)
        found = x.clone()
        found_value = torch.full((x.shape[0],), -torch.inf, dtype=x.dtype, device=x.device)
        used = torch.full_like(y, self.queries)
        index, origin, label = torch.arange(len(x), device=x.device), x, y
        best, value, before = x, found_value.clone(), found_value
        for query in range(self.queries):
            candidate = change(best, origin, threat, self._share(query)) if query else start(origin, threat)
            logits = model(candidate)
            values = loss(logits, label).to(value.dtype)
            values = values.masked_fill(reached(logits, label, self.targeted), torch.inf)
            better = values > value
            best = torch.where(per_sample(better, x), candidate, best)
            value = torch.where(better, values, value)
            on = ~value.isposinf()
            if self.give_up and query + 1 in _LOOKS:
                gain = _SLOWER * (value - before) * (self.queries - query - 1) / ((query + 1) / 2)
                on &= value + gain >= 0
            if not bool(on.all()):  # at once: queries are what this attack is judged by
                found[index], found_value[index] = best, value
                used[index[~on]] = query + 1
                index, origin, label = index[on], origin[on], label[on]
                best, value, before = best[on], value[on], before[on]
                if not len(index):
                    break
            if query + 1 in (_LOOKS[0] // 2, *_LOOKS):
                before = value
        found[index], found_value[index] = best, value
        return found, found_value, used

    def _share(self, query: int) -> float:
        """Of the image that the square of this query covers; the paper's schedule is for 10,000 queries."""
        passed = query * 10_000 / self.queries
        return float(self.area / 2 ** sum(passed > at for at in _HALVINGS))


def _stripes(x: Tensor, threat: Threat) -> Tensor:
    """x ± eps, one sign a column and channel."""
    return project(x + threat.eps * _random_signs(x[:, :, :1]), x, threat)


def _signs(best: Tensor, x: Tensor, threat: Threat, share: float) -> Tensor:
    """x ± eps in one square, one sign a channel; elsewhere `best`."""
    side = max(1, round(math.sqrt(share * x.shape[2] * x.shape[3])))
    square = _square(x, side).expand(-1, x.shape[1], -1)  # (N, C, side²)
    inside, before = x.flatten(2).gather(2, square), best.flatten(2).gather(2, square)
    push = threat.eps * _random_signs(x[:, :, 0, :1])  # (N, C, 1)
    low, high = (inside - threat.eps).clamp_min(0), (inside + threat.eps).clamp_max(1)
    after = torch.where(push > 0, high, low)
    idle = (flat(after) == flat(before)).all(dim=1)
    after = torch.where(per_sample(idle, after), torch.where(push > 0, low, high), after)
    return best.flatten(2).scatter(2, square, after).reshape(x.shape)


def _bumps(x: Tensor, threat: Threat) -> Tensor:
    """A grid of bumps of length eps altogether, one sign a tile and channel."""
    height, width = x.shape[2:]
    delta = torch.zeros_like(x)
    tall, wide = max(1, height // _GRID), max(1, width // _GRID)
    for top in range(0, height - tall + 1, tall):
        for left in range(0, width - wide + 1, wide):
            tile = _bump(tall, wide, x)
            delta[:, :, top : top + tall, left : left + wide] = tile * _random_signs(x[:, :, :1, :1])
    length = flat(delta).norm(_power(threat), dim=1).clamp_min(_TINY)
    return project(x + delta * per_sample(threat.eps / length, x), x, threat)


def _moved(best: Tensor, x: Tensor, threat: Threat, share: float) -> Tensor:
    """The budget of two squares and what the box has left unused, put into a bump in the first one of them."""
    count, channels, height, width = x.shape
    side = max(3, round(math.sqrt(share * height * width))) // 2 * 2 + 1
    first, second = _square(x, side), _square(x, side)
    delta = (best - x).flatten(2)  # (N, C, H·W)
    both = torch.zeros(count, 1, height * width, dtype=torch.bool, device=x.device)
    both.scatter_(2, first, True).scatter_(2, second, True)
    power = _power(threat)
    size = delta.abs() ** power
    unused = (threat.eps**power - flat(size).sum(dim=1)).clamp_min(0)  # (N,)
    budget = ((size * both).sum(dim=2) + unused[:, None] / channels)[:, :, None] ** (1 / power)  # (N, C, 1)
    budget *= 1 if threat.norm == "l2" else _OVER
    first = first.expand(-1, channels, -1)
    old = delta.gather(2, first)
    tall, wide = min(side, height), min(side, width)
    bump = _halves(tall, wide, x) if float(torch.rand(())) < 0.5 else _halves(wide, tall, x).T
    bump = (bump / bump.norm(power).clamp_min(_TINY)).reshape(1, 1, -1)
    new = bump * _random_signs(x[:, :, 0, :1]) + old / old.norm(power, dim=2, keepdim=True).clamp_min(_TINY)
    new = new / new.norm(power, dim=2, keepdim=True).clamp_min(_TINY) * budget
    delta = delta.masked_fill(both, 0).scatter(2, first, new)
    return project(x + delta.reshape(x.shape), x, threat)


def _power(threat: Threat) -> int:
    """p of the Lp norm, in l2 and l1."""
    return 2 if threat.norm == "l2" else 1


def _bump(tall: int, wide: int, like: Tensor) -> Tensor:
    """(tall, wide): highest in the middle; ring k from the edge holds Σ_{i ≤ k} 1 / (n + 1 − i)², n rings."""
    rows, columns = torch.arange(tall, device=like.device), torch.arange(wide, device=like.device)
    ring = torch.minimum(
        torch.minimum(rows, tall - 1 - rows)[:, None], torch.minimum(columns, wide - 1 - columns)[None, :]
    )
    rings = (min(tall, wide) + 1) // 2
    terms = 1 / torch.arange(rings, 0, -1, device=like.device, dtype=like.dtype).square()
    return terms.cumsum(dim=0)[ring]


def _halves(tall: int, wide: int, like: Tensor) -> Tensor:
    """(tall, wide): a bump in the upper half, one of the other sign in the lower."""
    upper = tall // 2
    if not upper:
        return _bump(tall, wide, like)
    return torch.cat([_bump(upper, wide, like), -_bump(tall - upper, wide, like)])


def _square(x: Tensor, side: int) -> Tensor:
    """(N, 1, n) places in the H·W values of a channel, of a square at a random place for each sample."""
    height, width = x.shape[2:]
    tall, wide = min(side, height), min(side, width)
    top = torch.randint(height - tall + 1, (len(x), 1, 1, 1), device=x.device)
    left = torch.randint(width - wide + 1, (len(x), 1, 1, 1), device=x.device)
    rows = top + torch.arange(tall, device=x.device)[:, None]
    columns = left + torch.arange(wide, device=x.device)
    return (rows * width + columns).flatten(2)


def _random_signs(like: Tensor) -> Tensor:
    return torch.randint(2, like.shape, device=like.device).to(like.dtype) * 2 - 1
