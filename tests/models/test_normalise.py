from __future__ import annotations

import pytest
import torch
from torch import nn

from robustkit.models.normalise import Normalise, Normalised
from robustkit.params import UsageError


def test_by_channel() -> None:
    x = torch.rand(2, 3, 4, 5)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    y = Normalise(mean, std, 3)(x)
    for c in range(3):
        torch.testing.assert_close(y[:, c], (x[:, c] - mean[c]) / std[c])


def test_one_number_for_all_channels_and_the_identity_is_exact() -> None:
    x = torch.rand(2, 3, 4, 5)
    assert torch.equal(Normalise((0.0,), (1.0,), 3)(x), x)
    torch.testing.assert_close(Normalise((0.5,), (0.5,), 3)(x), 2 * x - 1)


def test_mean_and_std_travel_with_the_weights_but_are_not_trained() -> None:
    model = Normalised(Normalise((0.5,), (0.2,), 1), nn.Flatten())
    assert set(model.state_dict()) == {"normalise.mean", "normalise.std"}
    assert not list(model.parameters())
    assert model(torch.full((1, 1, 1, 1), 0.7)).item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [
        ((0.1, 0.2), (1.0,), "mean has 2 values for 3 channels"),
        ((0.1,), (1.0,) * 4, "std has 4"),
        ((0.1,), (0.0,), "above 0"),
    ],
)
def test_values_that_do_not_fit(mean: tuple[float, ...], std: tuple[float, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Normalise(mean, std, 3)
