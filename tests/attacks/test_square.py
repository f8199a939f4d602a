"""Square: its books, its moves, and beside the authors' own code on the same trained network."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks.square import Square, _bump, _bumps, _halves, _moved, _signs, _stripes
from robustkit.contracts import Norm, Threat
from robustkit.norms import distance

Make = Callable[..., Any]
EPS: dict[Norm, float] = {"linf": 0.09, "l2": 1.5, "l1": 16.0}
norms = pytest.mark.parametrize("norm", ["linf", "l2", "l1"])


def standing(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.as_tensor(model(x).argmax(dim=1) == y)


@norms
def test_not_weaker_than_the_authors_code(trained: Any, norm: Norm) -> None:
    pytest.importorskip("pyautoattack")
    from pyautoattack.square import SquareAttack

    x, y, queries = trained.x[:150], trained.y[:150], 300
    name = {"linf": "Linf", "l2": "L2", "l1": "L1"}[norm]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        theirs = SquareAttack(
            trained.model, eps=EPS[norm], norm=name, n_queries=queries, p_init=0.8, n_restarts=1, seed=0, device="cpu"
        ).perturb(x, y)
        torch.manual_seed(0)
        ours = Square(queries=queries)(trained.model, x, y, Threat(norm, EPS[norm]))
    robust = standing(trained.model, theirs, y).double().mean()
    assert 0.05 <= robust <= 0.95
    # two random searches of 150 samples: twice the spread of the share that only one of them brings down
    assert standing(trained.model, ours, y).double().mean() <= robust + 0.03


@norms
def test_queries_are_counted_by_sample_and_end_where_it_falls(trained: Any, norm: Norm) -> None:
    x, y = trained.x[:40], trained.y[:40]
    passed: list[int] = []
    handle = trained.model.register_forward_pre_hook(lambda module, args: passed.append(len(args[0])))
    try:
        torch.manual_seed(0)
        x_adv, queries = Square(queries=50, restarts=2).counted(trained.model, x, y, Threat(norm, 1.5 * EPS[norm]))
    finally:
        handle.remove()
    assert sum(passed) == int(queries.sum())
    left = standing(trained.model, x_adv, y)
    assert bool((queries[left] == 100).all())
    assert bool((queries[~left] <= 100).all())
    assert int(queries.min()) < 50


class _Pace(nn.Module):
    """Two classes; the lead of the first shrinks by 1 / `slow` a query, or / `fast` where the image is bright."""

    def __init__(self, slow: int, fast: int) -> None:
        super().__init__()
        self.slow, self.fast, self.queries = slow, fast, 0

    def forward(self, x: Tensor) -> Tensor:
        self.queries += 1
        needed = torch.where(x.flatten(1).mean(dim=1) > 0.5, float(self.fast), float(self.slow))
        lead = 1 - self.queries / needed
        return torch.stack([lead, torch.zeros_like(lead)], dim=1)


def test_what_makes_no_way_is_given_up_and_what_does_falls() -> None:
    """At 250 queries a lead of 1 has 19 times as many left: at 0.35 of its pace it must lose 1 in 7.65 of them."""
    x = torch.cat([torch.full((3, 1, 6, 6), 0.2), torch.full((2, 1, 6, 6), 0.8)])
    y, threat = torch.zeros(5, dtype=torch.int64), Threat("linf", 0.1)
    torch.manual_seed(0)
    _, queries = Square(queries=5000, give_up=True).counted(_Pace(slow=2500, fast=1500), x, y, threat)
    assert queries.tolist() == [250] * 3 + [1501] * 2
    _, queries = Square(queries=5000).counted(_Pace(slow=2500, fast=1500), x, y, threat)
    assert queries.tolist() == [2501] * 3 + [1501] * 2


def test_no_gradient_is_taken(untrained: Make) -> None:
    model, x, y = untrained((3, 1, 6, 6))
    seen: list[bool] = []
    model.register_forward_pre_hook(lambda module, args: seen.append(torch.is_grad_enabled()))
    Square(queries=5)(model, x, y, Threat("linf", 1e-4))
    assert seen == [False] * 5


def test_the_area_is_halved_as_in_the_paper() -> None:
    attack = Square(queries=10_000)
    assert [attack._share(q) for q in (1, 10, 11, 51, 201, 8001)] == [0.8, 0.8, 0.4, 0.2, 0.1, 0.8 / 512]
    assert Square(queries=5_000)._share(6) == 0.4


def test_a_step_in_linf_changes_one_square_to_the_ball_s_ends() -> None:
    torch.manual_seed(0)
    x, threat = 0.3 + 0.4 * torch.rand(50, 3, 9, 9), Threat("linf", 0.1)
    best = _stripes(x, threat)
    assert torch.allclose((best - x).abs(), torch.full_like(x, 0.1), atol=1e-6)
    assert torch.allclose(best - x, (best - x)[:, :, :1].expand_as(x), atol=1e-6)
    after = _signs(best, x, threat, 9 / 81)
    changed = (after != best).any(dim=1).flatten(1)
    assert bool(changed.any(dim=1).all())
    assert int(changed.sum(dim=1).max()) <= 9
    assert torch.allclose((after - x).abs(), torch.full_like(x, 0.1), atol=1e-6)


@pytest.mark.parametrize(("norm", "eps"), [("l2", 0.3), ("l1", 0.9)])
def test_a_step_spends_the_whole_budget(norm: Norm, eps: float) -> None:
    torch.manual_seed(0)
    x, threat = 0.4 + 0.2 * torch.rand(50, 3, 9, 9), Threat(norm, eps)
    best = _bumps(x, threat)
    for share in (0.8, 0.1, 0.01):
        after = _moved(best, x, threat, share)
        assert torch.allclose(distance(after, x, norm), torch.full((50,), eps), atol=1e-5)
        assert bool((after != best).flatten(1).any(dim=1).all())
        best = after


def test_bumps_by_hand() -> None:
    like = torch.zeros(1, dtype=torch.float64)
    middle = 1 / 9 + 1 / 4 + 1
    assert math.isclose(float(_bump(5, 5, like)[2, 2]), middle)
    assert torch.allclose(_bump(5, 5, like)[0], torch.full((5,), 1 / 9, dtype=torch.float64))
    assert torch.equal(_halves(6, 4, like)[3:], -_halves(6, 4, like)[:3])
