"""A small network that knows coloured digits, and digits that it gets right."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn


@dataclass(frozen=True)
class Subject:
    model: nn.Module
    x: Tensor  # (16, 3, 16, 16), all classified correctly, the first 8 barely
    y: Tensor


@pytest.fixture(scope="session")
def subject() -> Subject:
    digits = load_digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        grey = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16  # (N, 1, 8, 8)
        grey = nn.functional.interpolate(grey, scale_factor=2, mode="bilinear").clamp(0, 1)
        colour = 0.3 + 0.7 * torch.rand(len(grey), 3, 1, 1)
        x, y = grey * colour, torch.tensor(digits.target)
        model = nn.Sequential(
            nn.Conv2d(3, 16, 4, stride=2),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Flatten(),
            nn.Linear(32 * 9, 10),
        )
        optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
        for _ in range(6):
            for part in torch.randperm(1500).split(100):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x[part]), y[part]).backward()
                optimizer.step()
    model.zero_grad(set_to_none=True)
    model.eval()
    with torch.no_grad():
        logits = model(x[1500:])
    right = logits.argmax(dim=1) == y[1500:]
    assert right.sum() > 250, "the fixture's network did not learn its digits"
    # The least sure ones first: even a weak attack, or a handful of queries, fools some of them, whatever the rounding
    # of the machine that trained the network.
    best = logits.topk(2).values
    margin = (best[:, 0] - best[:, 1]).masked_fill(~right, torch.inf)
    unsure = margin.argsort()[:8]
    others = margin.masked_fill(margin.isinf(), -torch.inf).argsort(descending=True)
    chosen = 1500 + torch.cat([unsure, others[100:108]])
    return Subject(model, x[chosen], y[chosen])
