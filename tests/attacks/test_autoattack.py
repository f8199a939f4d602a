"""AutoAttack: what its stages are given, and the whole beside the reference on two small trained networks."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.attacks.apgd import APGD
from robustkit.attacks.autoattack import AutoAttack
from robustkit.attacks.fab import FAB
from robustkit.attacks.square import Square
from robustkit.contracts import Norm, Threat
from robustkit.norms import distance
from robustkit.params import UsageError
from robustkit.testing.small import data, untrained, whole


def standing(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.as_tensor(model(x).argmax(dim=1) == y)


@pytest.fixture(scope="module")
def hardened() -> tuple[nn.Module, Tensor, Tensor]:
    """Another architecture on other data, trained on noisy inputs; 40 test images that it gets right."""
    known, model = data(), untrained()
    x, y = whole(known.train)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(3):
            for rows in torch.randperm(len(x)).split(50):
                optimizer.zero_grad()
                F.cross_entropy(model((x[rows] + 0.1 * torch.randn_like(x[rows])).clamp(0, 1)), y[rows]).backward()
                optimizer.step()
    model.requires_grad_(False).eval()
    x, y = whole(known.test)
    right = standing(model, x, y)
    return model, x[right][:40], y[right][:40]


_LONG = [pytest.param(norm, eps, marks=pytest.mark.slow) for norm, eps in (("linf", 0.08), ("l2", 1.2))]


@pytest.mark.parametrize(("norm", "eps"), [*_LONG, ("linf", 0.1), ("l2", 1.0), ("l1", 9.0)])
def test_robust_accuracy_is_that_of_the_reference(
    trained: Any, hardened: tuple[nn.Module, Tensor, Tensor], norm: Norm, eps: float
) -> None:
    pyautoattack = pytest.importorskip("pyautoattack")
    first = eps in (0.08, 1.2)
    model, x, y = (trained.model, trained.x[:60], trained.y[:60]) if first else hardened
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = pyautoattack.AutoAttack(
            model,
            norm={"linf": "Linf", "l2": "L2", "l1": "L1"}[norm],
            eps=eps,
            seed=0,
            version="standard",
            device="cpu",
        )
        reference.square.n_queries = 200
        theirs, _ = reference.run_standard_evaluation(x, y, batch_size=len(x))
        torch.manual_seed(0)
        ours = AutoAttack(queries=200)(model, x, y, Threat(norm, eps))
        torch.manual_seed(0)
        fast = AutoAttack(form="fast")(model, x, y, Threat(norm, eps))
    robust, their_robust = standing(model, ours, y), standing(model, theirs, y)
    assert int(standing(model, fast, y).sum()) <= int(their_robust.sum()) + 2
    assert 0 < int(their_robust.sum()) < len(x)
    assert int(robust.sum()) <= int(their_robust.sum()) + 1
    assert int((robust != their_robust).sum()) <= 2
    for found in (ours, fast):
        assert bool((distance(found, x, norm) <= Threat(norm, eps).allowance).all())


def test_order_and_budgets_are_the_reference_s() -> None:
    """Of pyautoattack's standard version, read from its own objects."""
    pyautoattack = pytest.importorskip("pyautoattack")
    names = {"linf": "Linf", "l2": "L2", "l1": "L1"}
    for norm in ("linf", "l2", "l1"):
        reference = pyautoattack.AutoAttack(nn.Identity(), norm=names[norm], eps=1.0, version="standard", device="cpu")
        assert reference.attacks_to_run == ["apgd-ce", "apgd-t", "fab-t", "square"]
        entropy, ratio, boundary, square = AutoAttack().stages(norm)
        assert isinstance(entropy, APGD)
        assert (entropy.steps, entropy.restarts) == (reference.apgd.n_iter, reference.apgd.n_restarts)
        assert isinstance(ratio, APGD)
        targeted = reference.apgd_targeted
        assert (ratio.steps, ratio.classes, ratio.restarts) == (targeted.n_iter, targeted.n_target_classes, 1)
        assert isinstance(boundary, FAB)
        fab = reference.fab
        assert (boundary.steps, boundary.classes, boundary.restarts) == (fab.n_iter, fab.n_target_classes, 1)
        assert isinstance(square, Square)
        assert (square.queries, square.area) == (reference.square.n_queries, reference.square.p_init)


@pytest.mark.parametrize("norm", ["l2", *(pytest.param(norm, marks=pytest.mark.slow) for norm in ("linf", "l1"))])
def test_the_fast_form_costs_at_most_a_fifth_of_what_stands(norm: Norm) -> None:
    """A network whose logits do not move: everything stands to the end of both."""
    passes: list[int] = []
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 10))
    with torch.no_grad():
        model[1].weight.mul_(1e-3)
        model[1].bias.copy_(torch.linspace(1, 0, 10))
    model.requires_grad_(False)
    model.register_forward_hook(lambda module, args, out: passes.append(len(out) * (2 if out.requires_grad else 1)))
    x, y = torch.rand(3, 1, 6, 6), torch.zeros(3, dtype=torch.int64)
    spent = []
    for form in ("standard", "fast"):
        passes.clear()
        AutoAttack(form=form)(model, x, y, Threat(norm, 0.01))
        spent.append(sum(passes))
    assert spent[1] <= 0.2 * spent[0]


def test_it_is_at_least_as_strong_as_its_first_member(trained: Any) -> None:
    x, y, threat = trained.x[:60], trained.y[:60], Threat("linf", 0.08)
    torch.manual_seed(0)
    alone = standing(trained.model, APGD(steps=20)(trained.model, x, y, threat), y)
    torch.manual_seed(0)
    found = AutoAttack(steps=20, queries=20)(trained.model, x, y, threat)
    assert not bool((standing(trained.model, found, y) & ~alone).any())


def test_what_is_wrong_already_is_left_as_it_is(trained: Any) -> None:
    x, y = trained.x[:10], (trained.y[:10] + 1) % 10
    assert torch.equal(AutoAttack()(trained.model, x, y, Threat("linf", 0.1)), x)


def test_few_classes_are_refused() -> None:
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), torch.rand(4, 1, 4, 4)
    with pytest.raises(UsageError, match="needs at least 4 classes"):
        AutoAttack()(model, x, torch.zeros(4, dtype=torch.int64), Threat("linf", 0.1))
