from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from robustkit.contracts import Threat
from robustkit.data.splits import ArraySplit
from robustkit.training.perturbation import WATCH
from robustkit.training.validate import accuracy, robust_accuracy


class Brightness(nn.Module):
    """Class 1 where the mean is above a half; linear, so that the attack's optimum is known."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, x: Tensor) -> Tensor:
        above = self.scale * (x.flatten(1).mean(dim=1) - 0.5)
        return torch.stack([-above, above], dim=1)


def levels(values: list[int], labels: list[int]) -> ArraySplit:
    images = torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 3, 3).contiguous()
    return ArraySplit(images, torch.tensor(labels))


def test_accuracy_counts_every_sample_and_restores_the_mode() -> None:
    split = levels([0, 50, 200, 255] * 300, [0, 1, 1, 1] * 300)  # more than are evaluated at once
    model = Brightness().train()
    assert accuracy(model, split, "cpu") == 0.75
    assert model.training
    assert math.isnan(accuracy(model, levels([], []), "cpu"))


def test_robust_accuracy_is_that_of_the_known_worst_case() -> None:
    # distances to the border: 0.5, 0.3, 0.1, 0.1, 0.3, 0.5
    split = levels([0, 51, 102, 153, 204, 255], [0, 0, 0, 1, 1, 1])
    model = Brightness().eval()
    for eps, expected in ((0.05, 1.0), (0.2, 4 / 6), (0.4, 2 / 6)):
        found = robust_accuracy(model, split, "cpu", Threat("linf", eps), WATCH)
        assert found == expected
    assert model.scale.grad is None
    assert not model.training


def test_of_many_samples_it_takes_some_of_all_classes() -> None:
    ordered = levels([0] * 1000 + [0] * 1000, [0] * 1000 + [1] * 1000)  # the second half is wrong
    found = robust_accuracy(Brightness(), ordered, "cpu", Threat("linf", 0.01), WATCH)
    assert found == 0.5
