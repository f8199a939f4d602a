"""smooth_adv against the paper's algorithm written out draw by draw."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.contracts import Data, Norm
from robustkit.defenses.noise import NoiseTraining
from robustkit.defenses.smooth_adv import SmoothAdv
from robustkit.params import ParamError
from tests.defenses.conftest import RADII, Objective, by_hand, difference, onto_ball, steepest, trained

SIGMA, DRAWS, STEPS = 0.2, 3, 4


def smooth_adv(norm: Norm = "l2", wrong: str = "") -> Objective:
    def objective(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        noise = SIGMA * torch.randn(DRAWS, *x.shape)
        model.train(wrong == "train mode")
        x_adv = x
        for _ in range(STEPS):
            point = x_adv.detach().requires_grad_()
            seen = SIGMA * torch.randn(DRAWS, *x.shape) if wrong == "noise anew" else noise
            if wrong == "no noise in the attack":
                seen = torch.zeros_like(noise)
            logits = [model(point + one) for one in seen]
            probability = torch.stack([z.softmax(dim=1) for z in logits]).mean(dim=0)
            ascent = -probability.gather(1, y[:, None]).log().sum()
            if wrong == "average of losses":
                ascent = torch.stack([F.cross_entropy(z, y, reduction="none") for z in logits]).mean(dim=0).sum()
            (gradient,) = torch.autograd.grad(ascent, point)
            x_adv = onto_ball(x_adv + 2 / STEPS * RADII[norm] * steepest(gradient, norm), x, norm)
        model.train()
        noisy = [x_adv.detach() + one for one in noise]
        if wrong == "clipped":
            noisy = [one.clamp(0, 1) for one in noisy]
        logits = model(torch.cat(noisy)).chunk(DRAWS)
        return torch.stack([F.cross_entropy(z, y) for z in logits]).mean()

    return objective


DEFENSE = SmoothAdv(sigma=SIGMA, draws=DRAWS, steps=STEPS)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_it_is_the_papers_algorithm(norm: Norm, net: nn.Module, bars: Data) -> None:
    found = trained(DEFENSE, net, bars, norm)
    assert difference(found, by_hand(net, bars, smooth_adv(norm))) < 1e-4
    assert difference(found, net) > 1e-2


@pytest.mark.parametrize(
    "wrong", ["train mode", "noise anew", "no noise in the attack", "average of losses", "clipped"]
)
def test_a_wrong_variant_would_be_noticed(wrong: str, net: nn.Module, bars: Data) -> None:
    assert difference(trained(DEFENSE, net, bars), by_hand(net, bars, smooth_adv("linf", wrong))) > 3e-4


def test_without_an_adversary_it_is_training_on_noise(net: nn.Module, bars: Data) -> None:
    still = SmoothAdv(sigma=SIGMA, draws=1, steps=1, step_size=0.0)
    assert difference(trained(still, net, bars), trained(NoiseTraining(sigma=SIGMA), net, bars)) < 1e-5


@pytest.mark.parametrize("given", [{"sigma": -1.0}, {"draws": 0}, {"steps": 0}, {"step_size": -0.1}])
def test_parameters_are_checked(given: dict[str, float]) -> None:
    with pytest.raises(ParamError, match=next(iter(given))):
        SmoothAdv(**given)  # type: ignore[arg-type]
