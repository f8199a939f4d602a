from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks.pgd import PGD
from robustkit.contracts import Threat
from robustkit.defenses.quantise import Quantise
from robustkit.params import ParamError
from robustkit.testing import small


class Seen(nn.Module):
    """Keeps what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        return x.flatten(1)


def test_the_network_sees_just_so_many_levels_each_the_nearest() -> None:
    inner = Seen()
    x = torch.linspace(0, 1, 997).reshape(1, 1, 1, 997)
    for levels in (2, 3, 8, 256):
        for bpda in (True, False):
            Quantise(levels=levels, bpda=bpda)(inner, small.data(), small.training())(x)
            grid = torch.arange(levels) / (levels - 1)
            assert len(inner.x.unique()) == levels
            nearest = (x.flatten()[:, None] - grid).abs().amin(dim=1)  # halfway between two, either will do
            assert torch.allclose((inner.x - x).flatten().abs(), nearest, atol=1e-6)
            assert float((inner.x.unique() - grid).abs().max()) < 1e-6


def test_it_is_arts_feature_squeezing() -> None:
    """ART counts levels by bits."""
    art = pytest.importorskip("robustkit_art.preprocessing", exc_type=ImportError)
    pytest.importorskip("art", exc_type=ImportError)
    x, _ = small.whole(small.data().test)
    known, found = Seen(), Seen()
    art.FeatureSqueezing(bit_depth=3)(known, small.data(), small.training())(x)
    Quantise(levels=8)(found, small.data(), small.training())(x)
    assert torch.allclose(found.x, known.x, atol=1e-6)


def test_the_gradient_passes_as_if_nothing_had_been_rounded_or_not_at_all() -> None:
    x, y = small.data().test.batch(torch.arange(8))
    network = small.trained()
    rounded = ((x * 7).round() / 7).requires_grad_()
    (known,) = torch.autograd.grad(nn.functional.cross_entropy(network(rounded), y), rounded)
    for bpda in (True, False):
        wrapped = Quantise(bpda=bpda)(network, small.data(), small.training())
        point = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(wrapped(point), y), point)
        assert torch.allclose(gradient, known if bpda else torch.zeros_like(known), atol=1e-7)


def test_hidden_gradients_look_like_robustness() -> None:
    """The same network and attack: what is left standing without BPDA falls with it."""
    x, y = small.whole(small.data().test)
    network, threat, shares = small.trained(), Threat("linf", 0.15), []
    for bpda in (True, False):
        wrapped = Quantise(bpda=bpda)(network, small.data(), small.training())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            x_adv = PGD(steps=10)(wrapped, x, y, threat)
        with torch.no_grad():
            shares.append(float((wrapped(x_adv).argmax(dim=1) == y).float().mean()))
    assert shares[0] < 0.45  # 0.3 on one machine, just below it on another
    assert shares[1] > shares[0] + 0.3


@pytest.mark.parametrize("levels", [1, 257])
def test_parameters_are_checked(levels: int) -> None:
    with pytest.raises(ParamError, match="levels"):
        Quantise(levels=levels)
