from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks.linear_exact import LinearExact
from robustkit.attacks.losses import LOSSES, LossName, cross_entropy, margin
from robustkit.attacks.pgd import PGD
from robustkit.contracts import Norm, Threat
from robustkit.norms import distance, project
from robustkit.params import ParamError

Make = Callable[..., Any]
BALL = Threat("linf", 0.1)


def fallen(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.as_tensor(model(x).argmax(dim=1) != y)


def test_defaults_are_those_of_the_docstring() -> None:
    attack = PGD()
    assert (attack.steps, attack.step_size, attack.restarts, attack.random_start) == (40, None, 1, True)
    assert (attack.loss, attack.targeted) == ("cross_entropy", False)


@pytest.mark.parametrize(("norm", "total"), [("linf", 2.5), ("l2", 5.0), ("l1", 5.0)])
def test_the_default_steps_add_up_to_some_radii(untrained: Make, norm: Norm, total: float) -> None:
    model, x, y = untrained((5, 1, 6, 6), dtype=torch.float64)
    threat = Threat(norm, {"linf": 0.01, "l2": 0.1, "l1": 0.5}[norm])
    torch.manual_seed(1)
    first = PGD(steps=10)(model, x, y, threat)
    torch.manual_seed(1)
    assert torch.equal(first, PGD(steps=10, step_size=total * threat.eps / 10)(model, x, y, threat))
    torch.manual_seed(1)
    assert not torch.equal(first, PGD(steps=10, step_size=0.1 * threat.eps)(model, x, y, threat))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_on_a_linear_classifier_it_matches_the_exact_worst_case(linear: Make, norm: Norm) -> None:
    """To 1e-3 of the margin's fall; two classes, so that the way to go is the same everywhere."""
    model, x, y = linear(classes=2)
    threat = Threat(norm, {"linf": 0.02, "l2": 0.1}[norm])
    for start in (True, False):
        torch.manual_seed(0)
        found = margin(model(PGD(random_start=start)(model, x, y, threat)), y)
        exact = margin(model(LinearExact()(model, x, y, threat)), y)
        clean = margin(model(x), y)
        standing = exact < 0  # a search ends where a sample falls
        assert int(standing.sum()) >= 5
        gap = (exact - found)[standing] / (exact - clean)[standing]
        assert float(gap.abs().max()) <= 1e-3


@pytest.mark.parametrize(("norm", "tolerance"), [("linf", 1e-3), ("l2", 0.01), ("l1", 0.1)])
def test_with_the_box_in_the_way_it_comes_close_to_the_exact_worst_case(
    linear: Make, norm: Norm, tolerance: float
) -> None:
    """l2 is projected onto ball, then box, which costs a little; l1 steps spread over several coordinates."""
    model, x, y = linear(classes=2, middle=False, samples=60, shape=(1, 7, 7))
    threat = Threat(norm, {"linf": 0.03, "l2": 0.15, "l1": 0.8}[norm])
    torch.manual_seed(0)
    found = margin(model(PGD(steps=100)(model, x, y, threat)), y)
    exact = margin(model(LinearExact()(model, x, y, threat)), y)
    clean = margin(model(x), y)
    standing = exact < 0
    assert int(standing.sum()) >= 5
    gap = (exact - found)[standing] / (exact - clean)[standing]
    assert float(gap.min()) >= -1e-5  # nothing beats the exact worst case, but for the ball's allowance
    assert float(gap.max()) <= tolerance


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_fools_a_trained_network(trained: Any, loss: LossName) -> None:
    torch.manual_seed(0)
    x_adv = PGD(steps=20, loss=loss)(trained.model, trained.x, trained.y, Threat("linf", 0.2))
    assert float(fallen(trained.model, x_adv, trained.y).double().mean()) >= 0.9


def test_restarts_only_help_and_go_on_with_what_stands(trained: Any) -> None:
    counts: list[int] = []
    handle = trained.model.register_forward_pre_hook(lambda module, args: counts.append(len(args[0])))
    fell: list[Tensor] = []
    try:
        for restarts in (1, 3):
            counts.clear()
            torch.manual_seed(0)
            x_adv = PGD(steps=3, restarts=restarts)(trained.model, trained.x, trained.y, BALL)
            searched = list(counts)
            fell.append(fallen(trained.model, x_adv, trained.y))
    finally:
        handle.remove()
    assert bool((fell[1] | ~fell[0]).all())  # the first start is the same
    assert len(trained.x) in searched
    assert searched[0] == len(trained.x)
    assert searched[4] <= int((~fell[0]).sum())  # the second restart: 3 passes and a judging one came before


def test_the_random_start_is_random(untrained: Make) -> None:
    model, x, y = untrained((5, 1, 6, 6))
    attack = PGD(steps=1, step_size=0.0)
    torch.manual_seed(0)
    first = attack(model, x, y, BALL)
    second = attack(model, x, y, BALL)
    assert not torch.equal(first, second)
    assert float(distance(first, x, "linf").min()) > 0.05
    assert torch.equal(PGD(steps=1, step_size=0.0, random_start=False)(model, x, y, BALL), x)


def test_restarts_without_a_random_start_are_refused() -> None:
    with pytest.raises(ParamError, match=r"restarts=2 with random_start=False"):
        PGD(restarts=2, random_start=False)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_polish_keeps_the_better(trained: Any, norm: Norm) -> None:
    threat = Threat(norm, {"linf": 0.08, "l2": 1.0, "l1": 8.0}[norm])
    x, y = trained.x[:80], trained.y[:80]
    attack = PGD(steps=30)
    torch.manual_seed(0)
    rough = project((attack(trained.model, x, y, threat) * 256).round() / 256, x, threat)  # as if found in bf16
    better = attack.polish(trained.model, x, rough, y, threat)
    before, after = (cross_entropy(trained.model(z), y) for z in (rough, better))
    stood = ~fallen(trained.model, rough, y)
    assert bool((after >= before - 1e-6)[stood].all())
    assert float((after > before)[stood].double().mean()) >= 0.5
    assert torch.equal(better[~stood], rough[~stood])
    assert bool((distance(better.double(), x.double(), norm) <= threat.allowance).all())


def test_polish_costs_a_tenth(trained: Any) -> None:
    calls: list[int] = []
    handle = trained.model.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
    try:
        PGD(steps=40).polish(trained.model, trained.x[:5], trained.x[:5], trained.y[:5], Threat("linf", 1e-3))
        assert calls == [5] * 5
        calls.clear()
        PGD(steps=3).polish(trained.model, trained.x[:5], trained.x[:5], trained.y[:5], Threat("linf", 1e-3))
        assert calls == [5] * 2
    finally:
        handle.remove()
