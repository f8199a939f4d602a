"""macer against the paper's formulas written out image by image."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import norm
from torch import Tensor, nn

from robustkit.contracts import Data
from robustkit.defenses.macer import MACER, _Certified
from robustkit.defenses.noise import NoiseTraining
from robustkit.params import ParamError
from tests.defenses.conftest import Objective, by_hand, difference, trained

SIGMA, DRAWS, WEIGHT, GAMMA, BETA = 0.3, 4, 12.0, 1.5, 2.0
DEFENSE = MACER(sigma=SIGMA, draws=DRAWS, weight=WEIGHT, gamma=GAMMA, beta=BETA)


def macer(wrong: str = "") -> Objective:
    def objective(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        logits = model(torch.cat([x + SIGMA * one for one in torch.randn(DRAWS, *x.shape)])).chunk(DRAWS)
        gauss = torch.distributions.Normal(0.0, 1.0)
        total = torch.zeros(())
        for i, label in enumerate(y.tolist()):
            p = sum(z[i].softmax(dim=0) for z in logits) / DRAWS
            if wrong == "average of losses":
                total = total - sum(z[i].log_softmax(dim=0)[label] for z in logits) / DRAWS
            else:
                total = total - p[label].log()
            beta = 1.0 if wrong == "beta" else BETA
            q = sum((beta * z[i]).softmax(dim=0) for z in logits) / DRAWS
            first, second = q.sort(descending=True).values[:2]
            xi = gauss.icdf(first) - gauss.icdf(second)
            short = GAMMA - xi if wrong == "no hinge" else (GAMMA - xi).clamp_min(0)
            if int(q.argmax()) == label or wrong == "wrong ones as well":
                total = total + WEIGHT * (SIGMA if wrong == "not halved" else SIGMA / 2) * short
        return total / len(y)

    return objective


def test_it_is_the_papers_objective(net: nn.Module, bars: Data) -> None:
    found = trained(DEFENSE, net, bars)
    assert difference(found, by_hand(net, bars, macer())) < 1e-4
    assert difference(found, net) > 1e-2


@pytest.mark.parametrize("wrong", ["average of losses", "beta", "no hinge", "wrong ones as well", "not halved"])
def test_a_wrong_variant_would_be_noticed(wrong: str, net: nn.Module, bars: Data) -> None:
    assert difference(trained(DEFENSE, net, bars), by_hand(net, bars, macer(wrong))) > 3e-4


def test_the_quantiles_are_scipys() -> None:
    average = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.6, 0.3]])
    found = _Certified(1.0, 1, 1.0, 2.0, 1.0)._short(average, torch.tensor([0, 0, 0]))
    expected = sum(2.0 - norm.ppf(first) + norm.ppf(second) for first, second in ((0.7, 0.2), (0.5, 0.3))) / 3
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_a_prediction_without_doubt_gives_a_finite_gradient() -> None:
    scale = torch.tensor(1.0, requires_grad=True)

    class Sure(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return scale * torch.tensor([[900.0, 0.0, -900.0]]).expand(len(x), 3)

    x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 1])
    loss = _Certified(0.1, 2, 12.0, 8.0, 16.0).loss(Sure(), x.repeat(2, 1, 1, 1), x, y)
    loss.backward()
    assert scale.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(scale.grad)


def test_without_its_term_and_with_one_draw_it_is_training_on_noise(net: nn.Module, bars: Data) -> None:
    bare = MACER(sigma=SIGMA, draws=1, weight=0.0)
    assert difference(trained(bare, net, bars), trained(NoiseTraining(sigma=SIGMA), net, bars)) < 1e-5


@pytest.mark.parametrize("given", [{"sigma": -1.0}, {"draws": 0}, {"weight": -1.0}, {"gamma": -1.0}, {"beta": -1.0}])
def test_parameters_are_checked(given: dict[str, float]) -> None:
    with pytest.raises(ParamError, match=next(iter(given))):
        MACER(**given)  # type: ignore[arg-type]
