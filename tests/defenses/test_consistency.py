"""consistency against the paper's formulas written out, and what training for smoothing is good for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustkit.contracts import Data, Recipe, Threat, Training
from robustkit.defenses.consistency import Consistency, _Consistent
from robustkit.defenses.macer import MACER
from robustkit.defenses.noise import NoiseTraining
from robustkit.defenses.smooth_adv import SmoothAdv
from robustkit.defenses.standard import Standard
from robustkit.params import ParamError
from robustkit.testing import small
from tests.defenses.conftest import Objective, by_hand, difference, trained

SIGMA, DRAWS = 0.3, 3


def consistency(wrong: str = "") -> Objective:
    def objective(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        noisy = [x + SIGMA * one for one in torch.randn(DRAWS, *x.shape)]
        if wrong == "clipped":
            noisy = [one.clamp(0, 1) for one in noisy]
        p = model(torch.cat(noisy)).softmax(dim=1).chunk(DRAWS)
        average = (p[0] + p[1] + p[2]) / 3
        target = average.detach() if wrong == "detached" else average
        right = [-q.gather(1, y[:, None]).log().mean() for q in p]
        if wrong == "reversed":
            apart = [(q * (q / target).log()).sum(dim=1).mean() for q in p]
        else:
            apart = [(target * (target / q).log()).sum(dim=1).mean() for q in p]
        entropy = -(average * average.log()).sum(dim=1).mean()
        if wrong == "entropy of each":
            entropy = torch.stack([-(q * q.log()).sum(dim=1).mean() for q in p]).mean()
        sign = -1 if wrong == "sign of the entropy" else 1
        return sum(right) / 3 + 10.0 * sum(apart) / 3 + sign * 0.5 * entropy

    return objective


def test_it_is_the_papers_objective(net: nn.Module, bars: Data) -> None:
    found = trained(Consistency(sigma=SIGMA, draws=DRAWS), net, bars)
    assert difference(found, by_hand(net, bars, consistency())) < 1e-4
    assert difference(found, net) > 1e-2


@pytest.mark.parametrize("wrong", ["clipped", "detached", "reversed", "entropy of each", "sign of the entropy"])
def test_a_wrong_variant_would_be_noticed(wrong: str, net: nn.Module, bars: Data) -> None:
    found = trained(Consistency(sigma=SIGMA, draws=DRAWS), net, bars)
    assert difference(found, by_hand(net, bars, consistency(wrong))) > 3e-4


def test_without_its_terms_it_is_training_on_noise(net: nn.Module, bars: Data) -> None:
    bare = Consistency(sigma=SIGMA, draws=1, weight=0.0, entropy=0.0)
    assert difference(trained(bare, net, bars), trained(NoiseTraining(sigma=SIGMA), net, bars)) < 1e-5


def test_a_prediction_without_doubt_gives_a_finite_gradient() -> None:
    scale = torch.tensor(1.0, requires_grad=True)

    class Sure(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return scale * torch.tensor([[900.0, 0.0, -900.0]]).expand(len(x), 3)

    loss = _Consistent(0.1, 2, 10.0, 0.5).loss(
        Sure(), torch.rand(4, 1, 2, 2), torch.rand(2, 1, 2, 2), torch.tensor([0, 1])
    )
    loss.backward()
    assert torch.isfinite(loss)
    assert scale.grad is not None
    assert torch.isfinite(scale.grad)


def certified(defense: object, sigma: float = 0.5, radius: float = 1.1) -> float:
    """Share of test images whose share of right votes under noise is Φ(radius / sigma) or more."""
    recipe = Recipe(epochs=8, batch_size=50, optimizer="adam", lr=0.01, schedule="onecycle", weight_decay=0.0)
    training = Training(threat=Threat("l2", 0.75), recipe=recipe, seed=1, precision="fp32")
    model = defense(small.untrained(), small.data(), training)  # type: ignore[operator]
    x, y = small.whole(small.data().test)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        votes = [
            (model(x + sigma * torch.randn(x.shape, generator=generator)).argmax(dim=1) == y).float()
            for _ in range(100)
        ]
    needed = float(torch.distributions.Normal(0, 1).cdf(torch.tensor(radius / sigma)))
    return float((torch.stack(votes).mean(dim=0) >= needed).float().mean())


def test_a_smoothed_classifier_certifies_more_than_after_plain_training() -> None:
    plain = certified(Standard())
    for defense in (Consistency(sigma=0.5), SmoothAdv(sigma=0.5, steps=4), MACER(sigma=0.5, draws=4)):
        assert certified(defense) >= plain + 0.2


@pytest.mark.parametrize("given", [{"sigma": -1.0}, {"draws": 0}, {"weight": -1.0}, {"entropy": -0.1}])
def test_parameters_are_checked(given: dict[str, float]) -> None:
    with pytest.raises(ParamError, match=next(iter(given))):
        Consistency(**given)  # type: ignore[arg-type]
