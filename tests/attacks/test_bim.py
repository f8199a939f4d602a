from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from robustkit.attacks.bim import BIM
from robustkit.attacks.fgsm import FGSM
from robustkit.attacks.losses import cross_entropy
from robustkit.attacks.pgd import PGD
from robustkit.contracts import Norm, Threat

Make = Callable[..., Any]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_it_is_pgd_from_the_clean_input(untrained: Make, norm: Norm) -> None:
    model, x, y = untrained((8, 3, 6, 6))
    threat = Threat(norm, {"linf": 0.02, "l2": 0.2, "l1": 1.0}[norm])
    assert torch.equal(BIM(steps=7)(model, x, y, threat), PGD(steps=7, random_start=False)(model, x, y, threat))


def test_one_step_of_length_eps_is_fgsm_or_nothing(trained: Any) -> None:
    """It returns the better of the input and the one step."""
    x, y, threat = trained.x[:50], trained.y[:50], Threat("linf", 0.05)
    found = BIM(steps=1, step_size=0.05)(trained.model, x, y, threat)
    single = FGSM()(trained.model, x, y, threat)
    rose = cross_entropy(trained.model(single), y) > cross_entropy(trained.model(x), y)
    assert float(rose.double().mean()) >= 0.9
    assert torch.equal(found[rose], single[rose])


def test_more_steps_fool_more_than_one(trained: Any) -> None:
    threat = Threat("linf", 0.12)
    robust = []
    for attack in (FGSM(), BIM()):
        x_adv = attack(trained.model, trained.x, trained.y, threat)
        robust.append(float((trained.model(x_adv).argmax(dim=1) == trained.y).double().mean()))
    assert robust[1] < robust[0]
