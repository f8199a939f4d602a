"""mart against the paper's formulas written out sample by sample."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.contracts import Data, Norm
from robustkit.defenses.mart import MART
from robustkit.params import ParamError
from tests.defenses.conftest import RADII, Objective, by_hand, difference, onto_ball, steepest, trained


def mart(norm: Norm = "linf", wrong: str = "") -> Objective:
    eps = RADII[norm]

    def objective(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        model.eval()
        x_adv = (x + 0.001 * torch.randn_like(x)).clamp(0, 1)
        for _ in range(3):
            point = x_adv.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(F.cross_entropy(model(point), y), point)
            x_adv = onto_ball(x_adv + 2.26 / 3 * eps * steepest(gradient, norm), x, norm)
        model.train()
        adversarial, natural = model(torch.cat([x_adv.detach(), x])).softmax(dim=1).chunk(2)
        total = torch.zeros(())
        for q, p, label in zip(adversarial, natural, y.tolist(), strict=True):
            others = [k for k in range(len(q)) if k != label]
            second = torch.stack([q[k] for k in others]).max()
            if wrong == "runner-up of all":
                second = q.max()
            boosted = -q[label].log() - (1.0001 - second).log()
            if wrong == "plain cross-entropy":
                boosted = -q[label].log()
            apart = sum(p[k] * (p[k] / q[k]).log() for k in range(len(q)))
            weight = 1 - p[label]
            if wrong == "weight of the adversarial":
                weight = 1 - q[label]
            if wrong == "no weight":
                weight = torch.ones(())
            total = total + boosted + (6.0 if wrong == "beta" else 5.0) * apart * weight
        return total / len(y)

    return objective


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_is_the_papers_algorithm(norm: Norm, net: nn.Module, bars: Data) -> None:
    found = trained(MART(steps=3), net, bars, norm)
    assert difference(found, by_hand(net, bars, mart(norm))) < 1e-4
    assert difference(found, net) > 1e-2


@pytest.mark.parametrize(
    "wrong", ["runner-up of all", "plain cross-entropy", "weight of the adversarial", "no weight", "beta"]
)
def test_a_wrong_variant_would_be_noticed(wrong: str, net: nn.Module, bars: Data) -> None:
    assert difference(trained(MART(steps=3), net, bars), by_hand(net, bars, mart(wrong=wrong))) > 3e-4


@pytest.mark.parametrize("given", [{"beta": -1.0}, {"steps": 0}, {"step_size": -0.1}])
def test_parameters_are_checked(given: dict[str, float]) -> None:
    with pytest.raises(ParamError, match=next(iter(given))):
        MART(**given)  # type: ignore[arg-type]
