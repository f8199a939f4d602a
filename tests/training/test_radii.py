"""A radius for each image: the same as attacking each image alone with its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustkit.contracts import Norm, Recipe, Threat, Training
from robustkit.defenses.fast_at import FastAT
from robustkit.defenses.free_at import FreeAT, _Replayed
from robustkit.defenses.linear_at import worst_loss
from robustkit.defenses.mixed_at import MixedAT, _Mixed
from robustkit.defenses.nfgsm import NFGSM
from robustkit.defenses.pgd_at import PGDAT
from robustkit.defenses.smooth_adv import SmoothAdv
from robustkit.defenses.trades import TRADES
from robustkit.norms import distance
from robustkit.testing import small
from robustkit.training.perturbation import Perturbation
from robustkit.training.radii import Radii, pull_back

SHARES = torch.tensor([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])
EPS: dict[Norm, float] = {"linf": 0.2, "l2": 1.0, "l1": 6.0}


def samples(low: float = 0.0, high: float = 1.0) -> tuple[Tensor, Tensor]:
    x = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(2)) * (high - low) + low
    return x, torch.arange(6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("inside", [True, False])
def test_it_is_the_attack_of_each_image_alone(norm: Norm, inside: bool) -> None:
    x, y = samples() if norm == "linf" else samples(0.4, 0.6)  # the box cuts linf in any order, l2 not
    model = small.trained()
    attack = Perturbation(start="clean", steps=3, step_size=0.6, inside=inside)
    together = attack(model, x, y, Radii(norm, EPS[norm], SHARES))
    for i, share in enumerate(SHARES.tolist()):
        alone = attack(model, x[i : i + 1], y[i : i + 1], Threat(norm, share * EPS[norm]))
        assert torch.allclose(together[i : i + 1], alone, atol=1e-5)
    assert not torch.allclose(together, attack(model, x, y, Threat(norm, EPS[norm])), atol=1e-2)


@pytest.mark.parametrize("norm", list(EPS))
@pytest.mark.parametrize("start", ["uniform", "sign", "normal"])
def test_each_image_stays_in_its_own_ball_and_uses_it(start: str, norm: Norm) -> None:
    x, y = samples()
    attack = Perturbation(start=start, start_size=1.0, steps=4, step_size=1.0)  # type: ignore[arg-type]
    torch.manual_seed(0)
    x_adv = attack(small.trained(), x, y, Radii(norm, EPS[norm], SHARES))
    reached = distance(x_adv, x, norm)
    assert bool((reached <= SHARES * EPS[norm] * (1 + 1e-5) + 1e-6).all())
    assert bool((reached >= 0.8 * SHARES * EPS[norm]).all())
    assert 0 <= float(x_adv.min()) <= float(x_adv.max()) <= 1


def test_the_random_start_is_as_large_as_the_radius() -> None:
    x, y = samples(0.4, 0.6)
    attack = Perturbation(start="uniform", start_size=2.0, steps=0, step_size=1.0, inside=False)
    torch.manual_seed(0)
    reached = distance(attack(small.trained(), x, y, Radii("linf", 0.1, SHARES)), x, "linf")
    assert torch.allclose(reached, 0.2 * SHARES, rtol=0.05, atol=1e-6)


@pytest.mark.parametrize("norm", list(EPS))
def test_pulling_back_twice_is_pulling_back_once(norm: Norm) -> None:
    x, _ = samples()
    threat = Radii(norm, EPS[norm], SHARES)
    once = pull_back(x + torch.randn(x.shape, generator=torch.Generator().manual_seed(1)), x, threat)
    assert torch.allclose(pull_back(once, x, threat), once, atol=1e-6)


@pytest.mark.parametrize("norm", list(EPS))
def test_free_trainings_delta_obeys_each_radius(norm: Norm) -> None:
    method, memory = _Replayed(3, 1.0), {}  # type: ignore[var-annotated]
    x, y = samples()
    model, threat = small.trained(), Radii(norm, EPS[norm], SHARES)
    for _ in range(3):
        examples = method.examples(model, x, y, threat, memory)
        method.loss(model, examples, x, y).backward()  # type: ignore[no-untyped-call]
        method.observe(examples, x, threat, memory)
        reached = distance(x + memory["delta"], x, norm)
        assert bool((reached <= SHARES * EPS[norm] * (1 + 1e-5) + 1e-6).all())
        assert norm == "l1" or bool((reached >= 0.5 * SHARES * EPS[norm]).all())  # few coordinates, soon at the box


def test_the_closed_form_takes_each_radius() -> None:
    x, y = samples()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    together = worst_loss(model, x, y, Radii("l2", 1.0, SHARES), "logistic")
    each = [
        worst_loss(model, x[i : i + 1], y[i : i + 1], Threat("l2", share), "logistic")
        for i, share in enumerate(SHARES.tolist())
    ]
    assert float(together.detach()) == pytest.approx(float(torch.stack(each).mean().detach()), rel=1e-5)


def test_mixed_batches_hand_each_image_its_radius() -> None:
    x, y = samples()
    attack = Perturbation(start="clean", steps=1, step_size=1.0)
    method = _Mixed(fgsm=attack, pgd=attack, clean_share=1 / 3, fgsm_share=1 / 3)
    moved = method.examples(small.trained(), x, y, Radii("linf", 0.2, SHARES), {})
    expected = torch.tensor([0.0, 0.0, 0.05, 0.1, 0.15, 0.2])
    assert torch.allclose(distance(moved, x, "linf"), expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore:catastrophic overfitting")
@pytest.mark.parametrize(
    "defense",
    [FastAT(), NFGSM(), PGDAT(steps=2), FreeAT(), TRADES(steps=2), MixedAT(steps=2), SmoothAdv(steps=2)],
    ids=lambda defense: type(defense).__name__,
)
def test_every_training_takes_a_radius_for_each_image(defense: object) -> None:
    weights = []
    for per in ("image", "batch"):
        recipe = Recipe(epochs=4, batch_size=50, optimizer="adam", lr=0.01, eps_draw="uniform", eps_per=per)  # type: ignore[arg-type]
        training = Training(threat=Threat("linf", 0.1), recipe=recipe, precision="fp32")
        model = defense(small.untrained(), small.data(), training)  # type: ignore[operator]
        assert small.accuracy(model, small.data().test) > 0.3
        weights.append(torch.cat([value.reshape(-1).float() for value in model.state_dict().values()]))
    assert not torch.equal(*weights)
