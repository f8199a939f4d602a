from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustkit.contracts import Recipe, Threat, Training
from robustkit.data.splits import ArraySplit
from robustkit.defenses.noise import NoiseTraining
from robustkit.params import ParamError
from tests.made import data_of

SIGMA = 0.4


def test_the_noise_is_gaussian_of_the_given_sigma_new_each_time_and_not_clipped() -> None:
    grey = ArraySplit(torch.full((64, 1, 8, 8), 102, dtype=torch.uint8), torch.arange(64) % 2)
    data = data_of(grey, "ab", threat=Threat("l2", 0.5))
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(64, 2)

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                seen.append(x.detach().clone())
            logits: Tensor = self.linear(x.flatten(1))
            return logits

    recipe = Recipe(epochs=4, batch_size=32, lr=0.01)
    NoiseTraining(sigma=SIGMA)(Spy(), data, Training(threat=data.threat, recipe=recipe, precision="fp32"))
    noise = torch.stack(seen) - 102 / 255  # (8, 32, 1, 8, 8)
    count = noise.numel()
    assert float(noise.mean().abs()) < 5 * SIGMA / count**0.5
    assert float(noise.std()) == pytest.approx(SIGMA, rel=5 / (2 * count) ** 0.5)
    kurtosis = float((noise / noise.std()).pow(4).mean())
    assert kurtosis == pytest.approx(3, abs=5 * (24 / count) ** 0.5)
    flat = noise.flatten(1)
    correlation = torch.corrcoef(flat)
    assert float((correlation - torch.eye(len(flat))).abs().max()) < 0.15  # of independent draws: 1/sqrt(2048) = 0.02


def test_parameters_are_checked() -> None:
    with pytest.raises(ParamError, match="sigma"):
        NoiseTraining(sigma=-0.1)
