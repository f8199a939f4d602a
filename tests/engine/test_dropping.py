from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from robustkit.contracts import Threat
from robustkit.engine.dropping import AllFallen, Dropping, Fallen
from robustkit.engine.evaluate import attack_block
from robustkit.host import Component
from robustkit.norms import distance, project, random_start

Make = Callable[..., Component]
BALL = Threat("linf", 0.03)


class Plain:
    """PGD as libraries write it: the whole batch to the last step."""

    def __init__(self, steps: int = 20, order: Callable[[int], Tensor] = torch.arange, deep: bool = False) -> None:
        self.steps, self.order, self.deep = steps, order, deep

    def __call__(self, network: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        network = copy.deepcopy(network) if self.deep else network
        rows = self.order(len(x))
        x_adv = random_start(x, threat)
        for _ in range(self.steps):
            point = x_adv[rows].clone().requires_grad_()
            (gradient,) = torch.autograd.grad(F.cross_entropy(network(point), y[rows], reduction="sum"), point)
            assert bool((gradient.flatten(1).norm(dim=1) > 0).all())  # libraries divide by it
            moved = x_adv.clone()
            moved[rows] += threat.eps / 8 * gradient.sign()
            x_adv = project(moved, x, threat)
        return x_adv


class Random(nn.Module):
    """A network that draws anew at each pass."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x + 0.01 * torch.randn_like(x))
        return logits


@pytest.mark.parametrize("deep", [False, True])
def test_what_falls_is_not_computed_again(
    network: nn.Module, samples: tuple[Tensor, Tensor], component: Make, deep: bool
) -> None:
    x, y = samples
    result = attack_block(network, component(Plain(deep=deep)), x, y, BALL)
    whole = Plain()(network, x, y, BALL)
    with torch.no_grad():
        fell = network(whole).argmax(dim=1) != y
    assert int(fell.sum()) > 0
    assert bool((result.success >= fell).all())  # what falls on the way counts as well
    assert result.forwards <= 20 * len(x) - 10 * int(fell.sum())
    assert bool((result.dist_linf <= BALL.allowance).all())


def test_rows_in_another_order_are_never_taken_for_what_they_are_not(
    network: nn.Module, samples: tuple[Tensor, Tensor], component: Make
) -> None:
    x, y = samples
    turned = Plain(order=lambda count: torch.arange(count).flip(0))
    result = attack_block(network, component(turned), x, y, BALL)
    with torch.no_grad():
        fooled = network(result.x_adv).argmax(dim=1) != y
    assert torch.equal(result.success, fooled)
    assert not result.violation.any()


def test_networks_that_draw_are_computed_to_the_last_step(
    network: nn.Module, samples: tuple[Tensor, Tensor], component: Make
) -> None:
    result = attack_block(Random(network).eval(), component(Plain()), *samples, BALL)
    assert result.forwards == 20 * int(result.attacked.sum())


def test_an_attack_ends_when_all_have_fallen(
    network: nn.Module, samples: tuple[Tensor, Tensor], component: Make
) -> None:
    ends: list[bool] = []

    class Watched(Plain):
        def __call__(self, network: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
            try:
                return super().__call__(network, x, y, threat)
            except AllFallen:
                ends.append(True)
                raise

    result = attack_block(network, component(Watched(steps=1000)), *samples, Threat("linf", 0.5))
    assert ends == [True]
    assert result.success.all()
    assert result.forwards < 1000


def test_targets_fall_when_they_are_reached(
    network: nn.Module, samples: tuple[Tensor, Tensor], component: Make
) -> None:
    class Targeted(Plain):
        targeted = True

        def __call__(self, network: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
            x_adv = x
            for _ in range(30):
                point = x_adv.clone().requires_grad_()
                (gradient,) = torch.autograd.grad(F.cross_entropy(network(point), y, reduction="sum"), point)
                x_adv = project(x_adv - threat.eps / 10 * gradient.sign(), x, threat)
            return x_adv

    result = attack_block(network, component(Targeted()), *samples, Threat("linf", 0.3))
    assert torch.equal(result.adv_pred, result.target)
    assert result.forwards < 30 * len(samples[0]) / 2


@given(data=st.data(), count=st.integers(1, 9))
def test_points_are_inside_and_fool(data: st.DataObject, count: int) -> None:
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    threat = Threat("l2", 0.4)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    x = torch.rand(count, 3, 2, 2, generator=generator)
    with torch.no_grad():
        y = network(x).argmax(dim=1)
        fallen = Fallen(x, y, threat, targeted=False)
        dropping = Dropping(network, fallen)
        for _ in range(6):
            if bool(fallen.mask.all()):
                with pytest.raises(AllFallen):
                    dropping(x)
                break
            point = x + 0.3 * torch.randn(x.shape, generator=generator)  # some in the ball, some in the box
            point[0] = torch.nan
            dropping(point)
        fell = fallen.mask
        assert not fell[0]
        assert bool((network(fallen.points).argmax(dim=1) != y)[fell].all())
        assert bool((distance(fallen.points, x, "l2") <= threat.allowance).all())
        assert torch.equal(fallen.points[~fell], x[~fell])
