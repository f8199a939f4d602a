"""What a few seconds of each training are good for: more withstands PGD than after plain training."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from robustkit.attacks.pgd import PGD
from robustkit.contracts import Norm, Recipe, Threat, Training
from robustkit.defenses.fast_at import FastAT
from robustkit.defenses.mart import MART
from robustkit.defenses.mixed_at import MixedAT
from robustkit.defenses.nfgsm import NFGSM
from robustkit.defenses.pgd_at import PGDAT
from robustkit.defenses.standard import Standard
from robustkit.defenses.trades import TRADES
from robustkit.testing import small

RECIPE = Recipe(epochs=8, batch_size=50, optimizer="adam", lr=0.01, schedule="onecycle", weight_decay=0.0)
THREATS: dict[Norm, Threat] = {"linf": Threat("linf", 0.15), "l2": Threat("l2", 1.5), "l1": Threat("l1", 10.0)}
DEFENSES = (FastAT(), NFGSM(), PGDAT(), TRADES(steps=5), MART(steps=5), MixedAT())


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(19)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 10)
        )


def robust(defense: object, norm: Norm) -> float:
    """Share of the test images that the trained network predicts right under PGD-20."""
    data, threat = small.data(), THREATS[norm]
    training = Training(threat=threat, recipe=RECIPE, seed=1, precision="fp32")
    model = defense(network(), data, training)  # type: ignore[operator]
    x, y = small.whole(data.test)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x_adv = PGD(steps=20)(model, x, y, threat)
    with torch.no_grad():
        right = (model(x_adv).argmax(dim=1) == y) & (model(x).argmax(dim=1) == y)
    return float(right.float().mean())


@pytest.fixture(scope="module")
def plain() -> dict[Norm, float]:
    return {norm: robust(Standard(), norm) for norm in THREATS}


@pytest.mark.filterwarnings("ignore:catastrophic overfitting")  # which it withstands more for all that
@pytest.mark.parametrize("norm", list(THREATS))
@pytest.mark.parametrize("defense", DEFENSES, ids=lambda defense: type(defense).__name__)
def test_it_withstands_more_than_plain_training(defense: object, norm: Norm, plain: dict[Norm, float]) -> None:
    assert robust(defense, norm) >= plain[norm] + 0.15
