"""PGD beside the two libraries that most papers use, on the same trained network with the same settings."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from robustkit.attacks.fgsm import FGSM
from robustkit.attacks.pgd import PGD
from robustkit.contracts import Norm, Threat
from robustkit.norms import distance


def library(name: str) -> ModuleType:
    """Import a peer; some of them warn at import, of what is not ours to mend."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        try:
            return importlib.import_module(name)
        except ImportError as error:
            pytest.skip(f"{name} is not installed: {error}")


def robust(samples: Any, x_adv: Tensor) -> float:
    return float((samples.model(x_adv).argmax(dim=1) == samples.y).double().mean())


SETTINGS = pytest.mark.parametrize(
    ("norm", "eps", "step_size"), [("linf", 0.08, 0.02), ("linf", 0.12, 0.02), ("l2", 1.2, 0.25)]
)
STEPS = 20


def ours(samples: Any, norm: Norm, eps: float, step_size: float) -> float:
    torch.manual_seed(0)
    attack = PGD(steps=STEPS, step_size=step_size)
    return robust(samples, attack(samples.model, samples.x, samples.y, Threat(norm, eps)))


@SETTINGS
def test_beside_torchattacks(trained: Any, norm: Norm, eps: float, step_size: float) -> None:
    torchattacks = library("torchattacks")
    build = torchattacks.PGD if norm == "linf" else torchattacks.PGDL2
    torch.manual_seed(0)
    x_adv = build(trained.model, eps=eps, alpha=step_size, steps=STEPS)(trained.x, trained.y)
    theirs = robust(trained, x_adv)
    assert 0.05 <= theirs <= 0.95  # where nothing or everything falls, agreement means nothing
    assert float(distance(x_adv, trained.x, norm).max()) <= Threat(norm, eps).allowance
    assert ours(trained, norm, eps, step_size) == pytest.approx(theirs, abs=0.02)
    assert ours(trained, norm, eps, step_size) <= theirs + 0.011  # two samples of 200: we keep the best iterate


@SETTINGS
def test_beside_foolbox(trained: Any, norm: Norm, eps: float, step_size: float) -> None:
    foolbox = library("foolbox")
    build = foolbox.attacks.LinfPGD if norm == "linf" else foolbox.attacks.L2PGD
    torch.manual_seed(0)
    with torch.enable_grad():
        wrapped = foolbox.PyTorchModel(trained.model, bounds=(0, 1), device="cpu")
        _, x_adv, _ = build(abs_stepsize=step_size, steps=STEPS)(wrapped, trained.x, trained.y, epsilons=eps)
    theirs = robust(trained, x_adv)
    assert 0.05 <= theirs <= 0.95
    assert ours(trained, norm, eps, step_size) == pytest.approx(theirs, abs=0.02)
    assert ours(trained, norm, eps, step_size) <= theirs + 0.011


def test_fgsm_is_that_of_both_libraries(trained: Any) -> None:
    eps = 0.1
    x_adv = FGSM()(trained.model, trained.x, trained.y, Threat("linf", eps))
    torchattacks, foolbox = library("torchattacks"), library("foolbox")
    assert torch.allclose(torchattacks.FGSM(trained.model, eps=eps)(trained.x, trained.y), x_adv, atol=1e-6)
    wrapped = foolbox.PyTorchModel(trained.model, bounds=(0, 1), device="cpu")
    _, theirs, _ = foolbox.attacks.LinfFastGradientAttack()(wrapped, trained.x, trained.y, epsilons=eps)
    assert torch.allclose(theirs, x_adv, atol=1e-6)
