"""Ordinary training: the baseline."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from robustkit.contracts import Data, Training
from robustkit.training.loop import train
from robustkit.training.method import OnExamples


@dataclass(frozen=True, kw_only=True)
class Standard:
    """Empirical risk minimisation: cross-entropy on clean inputs, no defense.

    Cost: one forward and one backward pass a sample and epoch.
    """

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        return train(model, data, training, OnExamples(), repr(self))
