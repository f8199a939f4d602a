"""Transfer: between two networks for digits it stands between noise and the attack that sees the network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.attacks.noise import Noise
from robustkit.attacks.pgd import PGD
from robustkit.attacks.transfer import Transfer
from robustkit.contracts import Norm, Threat
from robustkit.data.mnist_10k import MNIST10k
from robustkit.models.cnn import CNN
from robustkit.norms import distance
from robustkit.params import UsageError


class Closed(nn.Module):
    """The attacked network, which a transfer attack has no business with."""

    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("it was asked")


@pytest.fixture(scope="module")
def surrogate() -> nn.Module:
    """As `trained`, on other digits from another start."""
    data = MNIST10k()()
    x, y = data.train.batch(torch.arange(3000, 6000))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = CNN()(data.shape, len(data.classes))
        optimizer = torch.optim.Adam(model.parameters(), 2e-3)
        for _ in range(3):
            for rows in torch.randperm(len(x)).split(100):
                optimizer.zero_grad()
                F.cross_entropy(model(x[rows]), y[rows]).backward()
                optimizer.step()
    return model.requires_grad_(False).eval()


def fallen(model: nn.Module, x_adv: Tensor, y: Tensor) -> float:
    return float((model(x_adv).argmax(dim=1) != y).double().mean())


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.12), ("l2", 2.0)])
def test_between_noise_and_the_white_box(trained: Any, surrogate: nn.Module, norm: Norm, eps: float) -> None:
    model, x, y, threat = trained.model, trained.x, trained.y, Threat(norm, eps)
    torch.manual_seed(0)
    noise, white = (fallen(model, attack(model, x, y, threat), y) for attack in (Noise(), PGD()))
    for name in ("pgd", "mifgsm", "fgsm"):
        x_adv = Transfer(attack=name).on(surrogate)(Closed(), x, y, threat)
        assert float(distance(x_adv, x, norm).max()) <= threat.allowance
        assert 0 <= float(x_adv.min()) <= float(x_adv.max()) <= 1
        assert noise + 0.05 <= fallen(model, x_adv, y) <= white - 0.1, name


def test_it_goes_on_where_the_surrogate_has_fallen(trained: Any, surrogate: nn.Module) -> None:
    model, x, y, threat = trained.model, trained.x, trained.y, Threat("linf", 0.12)
    torch.manual_seed(0)
    stopped, whole = (PGD()(surrogate, x, y, threat), Transfer().on(surrogate)(Closed(), x, y, threat))
    losses = [F.cross_entropy(surrogate(point), y) for point in (stopped, whole)]
    assert float(losses[1]) >= 1.5 * float(losses[0])
    assert fallen(model, whole, y) >= fallen(model, stopped, y) + 0.05


def test_without_a_surrogate_it_says_what_to_do(trained: Any) -> None:
    with pytest.raises(UsageError, match=r"needs its surrogate=standard, which a bench trains .* Transfer\(\)\.on"):
        Transfer()(trained.model, trained.x, trained.y, Threat("linf", 0.1))
    with pytest.raises(UsageError, match="no form for norm=l0"):
        Transfer().on(trained.model)(trained.model, trained.x, trained.y, Threat("l0", 3))
