"""NES and SPSA: estimates against the true gradient, books, and strength beside PGD's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks.gradient import input_gradient
from robustkit.attacks.losses import margin
from robustkit.attacks.score_gradient import NES, SPSA, _signs, estimate
from robustkit.contracts import Threat
from robustkit.params import UsageError
from robustkit.testing import small

both = pytest.mark.parametrize("attack", [NES, SPSA])


@pytest.fixture(scope="module")
def case() -> tuple[nn.Module, Tensor, Tensor]:
    model = small.trained().requires_grad_(False)
    x, y = small.whole(small.data().test)
    right = model(x).argmax(dim=1) == y
    return model, x[right][:20], y[right][:20]


@pytest.mark.parametrize("draw", [torch.randn_like, _signs])
def test_the_estimate_of_a_linear_loss_tends_to_its_gradient(draw: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).double()
    x, y = torch.rand(4, 1, 3, 4, dtype=torch.float64), torch.tensor([0, 1, 0, 1])
    exact, _, _ = input_gradient(model, x, y, margin)
    with torch.no_grad():
        guess = estimate(model, x, y, margin, draw, 2000, 0.01)
    error = (guess - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)
    assert float(error.max()) < 0.2  # √(12 / 2000) is 0.08


@both
def test_queries_are_counted_by_sample_and_kept_to(case: tuple[nn.Module, Tensor, Tensor], attack: Any) -> None:
    model, x, y = case
    passed: list[int] = []
    seen: list[bool] = []

    def note(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        passed.append(len(given[0]))
        seen.append(torch.is_grad_enabled())

    handle = model.register_forward_pre_hook(note)
    try:
        torch.manual_seed(0)
        found, queries = attack(queries=300, directions=10).counted(model, x, y, Threat("linf", 0.35))
    finally:
        handle.remove()
    assert sum(passed) == int(queries.sum())
    assert not any(seen)
    assert int(queries.max()) <= 300
    fell = model(found).argmax(dim=1) != y
    assert bool(fell.any())
    assert int(queries[fell].min()) < 300


@both
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.3), ("l2", 2.5)])
def test_it_comes_near_to_what_gradients_bring_down(
    case: tuple[nn.Module, Tensor, Tensor], attack: Any, norm: Any, eps: float
) -> None:
    from robustkit.attacks.pgd import PGD

    model, x, y = case
    torch.manual_seed(0)
    threat = Threat(norm, eps)
    by_scores = model(attack(queries=1000, directions=20)(model, x, y, threat)).argmax(dim=1) != y
    by_gradients = model(PGD(steps=20)(model, x, y, threat)).argmax(dim=1) != y
    assert int(by_gradients.sum()) >= 5
    assert int(by_scores.sum()) >= 0.6 * int(by_gradients.sum())


@both
def test_other_norms_are_refused(case: tuple[nn.Module, Tensor, Tensor], attack: Any) -> None:
    model, x, y = case
    with pytest.raises(UsageError, match="has no form for norm=l1"):
        attack()(model, x, y, Threat("l1", 1.0))
