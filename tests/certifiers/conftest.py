"""A network of everything that bounds know."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.models.normalise import Normalise, Normalised


class Residual(nn.Module):
    """Everything that bounds know, in one graph."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.ReLU(), nn.Dropout(), nn.Identity())
        self.pool, self.mean = nn.MaxPool2d(2), nn.AvgPool2d(2)
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = self.mean(self.pool(F.relu(self.body(x) + x)))
        logits: Tensor = self.last(x.mean(dim=(2, 3)).flatten(1))
        return logits


@pytest.fixture
def residual() -> nn.Module:
    torch.manual_seed(5)
    body = Residual()
    with torch.no_grad():
        body.norm.running_mean.uniform_(-0.5, 0.5)
        body.norm.running_var.uniform_(0.5, 2.0)
        body.norm.weight.uniform_(-1.5, 1.5)
        body.norm.bias.uniform_(-0.5, 0.5)
    return Normalised(Normalise((0.4, 0.6), (0.25, 0.5), 2), body).eval()
