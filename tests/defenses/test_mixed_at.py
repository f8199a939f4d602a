from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.contracts import Data
from robustkit.defenses.fgsm_at import FGSMAT
from robustkit.defenses.mixed_at import MixedAT
from robustkit.defenses.pgd_at import PGDAT
from robustkit.defenses.standard import Standard
from robustkit.params import ParamError
from tests.defenses.conftest import RADII, Objective, by_hand, difference, onto_ball, trained

EPS = RADII["linf"]


def mixed(first: int, second: int) -> Objective:
    """Of 16 images, the first stay clean, those before `second` get one step, the rest three."""

    def objective(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        def direction(point: Tensor, labels: Tensor) -> Tensor:
            point = point.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(F.cross_entropy(model(point), labels), point)
            return gradient.sign()

        model.eval()
        seen = x.clone()
        seen[first:second] = (x[first:second] + EPS * direction(x[first:second], y[first:second])).clamp(0, 1)
        rest, labels = x[second:], y[second:]
        point = (rest + torch.empty_like(rest).uniform_(-EPS, EPS)).clamp(0, 1)
        for _ in range(3):
            point = onto_ball(point + 2.5 / 3 * EPS * direction(point, labels), rest, "linf")
        seen[second:] = point
        model.train()
        return F.cross_entropy(model(seen), y)

    return objective


def test_a_batch_holds_the_shares(net: nn.Module, bars: Data) -> None:
    found = trained(MixedAT(steps=3), net, bars)
    assert difference(found, by_hand(net, bars, mixed(8, 12))) < 1e-5
    assert difference(found, by_hand(net, bars, mixed(4, 12))) > 1e-3
    assert difference(found, by_hand(net, bars, mixed(8, 8))) > 1e-4


@pytest.mark.parametrize(
    ("shares", "alone"),
    [((1.0, 0.0, 0.0), Standard()), ((0.0, 1.0, 0.0), FGSMAT()), ((0.0, 0.0, 1.0), PGDAT(steps=3))],
    ids=["clean", "fgsm", "pgd"],
)
def test_one_kind_alone_is_that_training(
    shares: tuple[float, float, float], alone: object, net: nn.Module, bars: Data
) -> None:
    clean, fgsm, pgd = shares
    found = trained(MixedAT(clean=clean, fgsm=fgsm, pgd=pgd, steps=3), net, bars)
    assert difference(found, trained(alone, net, bars)) < 1e-6


def test_shares_must_add_up() -> None:
    with pytest.raises(ParamError, match=r"add up to 1\.25"):
        MixedAT(clean=0.75)
    with pytest.raises(ParamError, match=r"clean=-0\.5"):
        MixedAT(clean=-0.5, fgsm=0.75, pgd=0.75)
