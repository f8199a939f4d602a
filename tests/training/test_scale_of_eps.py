"""eps is in units of [0, 1] images, whatever the network does with them first."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustkit.contracts import Threat
from robustkit.defenses.fast_at import FastAT
from robustkit.defenses.free_at import FreeAT
from robustkit.defenses.mart import MART
from robustkit.defenses.pgd_at import PGDAT
from robustkit.defenses.trades import TRADES
from robustkit.models.normalise import Normalise, Normalised
from tests.training.conftest import make_data, make_model, make_training

MEAN, STD, EPS = 0.4, 0.2, 8 / 255


class Seen(nn.Module):
    """Remembers how far what it is trained on lies from the nearest training image."""

    def __init__(self, inner: nn.Module, clean: Tensor) -> None:
        super().__init__()
        self.inner = inner
        self.clean = clean.flatten(1)
        self.farthest = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            distances = torch.cdist(x.detach().flatten(1), self.clean, p=float("inf")).amin(dim=1)
            self.farthest = max(self.farthest, float(distances.max()))
        logits: Tensor = self.inner(x)
        return logits


@pytest.mark.parametrize(
    "defense",
    [PGDAT(steps=3), FastAT(), FreeAT(replays=2), TRADES(steps=5), MART(steps=5)],
    ids=lambda defense: type(defense).__name__,
)
def test_a_normalised_network_is_trained_at_eps_of_the_image(defense: object) -> None:
    """An attack on normalised values would move the image by eps · std, a fifth; 0.031 is not 8/255 either."""
    data = make_data()
    clean = data.train.batch(torch.arange(len(data.train)))[0]
    whole = Normalised(Normalise((MEAN,), (STD,), 1), make_model())
    outer = Seen(whole, clean)
    inner = Seen(whole.network, (clean - MEAN) / STD)
    whole.network = inner
    defense(outer, data, make_training(threat=Threat("linf", EPS)))  # type: ignore[operator]
    assert outer.farthest == pytest.approx(EPS, abs=2e-5)
    assert outer.farthest > 0.031 + 2e-4
    assert inner.farthest == pytest.approx(EPS / STD, abs=2e-4)  # what the network itself sees


@pytest.mark.parametrize("eps", [8.0, 8 / 255 * 255])
def test_a_radius_in_grey_levels_is_refused(eps: float) -> None:
    with pytest.raises(ValueError, match="8/255"):
        Threat("linf", eps)
