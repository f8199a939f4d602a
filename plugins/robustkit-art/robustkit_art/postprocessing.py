"""ART's postprocessors as defenses that wrap a trained network: what it answers is rounded, noised or bent.

They work on probabilities (in float64: ReverseSigmoid divides by 1 - (1 - 1e-9)); the logarithm of what they return
stands for the logits. ART's gradients ignore them, and so do these: attacks see the network's own gradient. Made
against the stealing of models, they hide scores rather than protect against perturbations; an attack that needs
scores meets them, one with gradients does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from robustkit.params import check, param
from robustkit_art.library import postprocessor as art

if TYPE_CHECKING:
    from torch import Tensor

    from robustkit.contracts import Data, Training

_SMALLEST = 1e-9
"""What stands for a probability of 0, whose logarithm is taken."""


class Postprocessed(nn.Module):
    """A network before an ART postprocessor. `alone`: which gets one answer at a time."""

    def __init__(self, network: nn.Module, step: Any, *, alone: bool = False) -> None:
        super().__init__()
        self.network = network
        self._step = (step, alone)

    def forward(self, x: Tensor) -> Tensor:
        step, alone = self._step
        logits: Tensor = self.network(x)
        if len(logits) == 0:
            return logits
        probabilities = logits.detach().double().softmax(dim=1).cpu().numpy()
        if alone:
            answers = np.concatenate([step(row) for row in np.split(probabilities, len(probabilities))])
        else:
            answers = step(probabilities)
        scores = torch.from_numpy(np.asarray(answers, np.float32)).clamp_min(_SMALLEST).log()
        return logits + (scores.to(logits.device, logits.dtype) - logits).detach()


@dataclass(frozen=True, kw_only=True)
class ReverseSigmoid:
    """Bends probabilities so that they mislead a thief (`ReverseSigmoid`; Lee et al. 2018,
    https://arxiv.org/abs/1806.00054).
    """

    beta: float = param(1.0, "size of the bend", low=0.0)
    gamma: float = param(0.1, "speed of the bend", low=0.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        return Postprocessed(model, art.ReverseSigmoid(beta=self.beta, gamma=self.gamma))


@dataclass(frozen=True, kw_only=True)
class Rounded:
    """Rounds probabilities (`Rounded`)."""

    decimals: int = param(3, "digits that stay", low=1)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        return Postprocessed(model, art.Rounded(decimals=self.decimals))


@dataclass(frozen=True, kw_only=True)
class HighConfidence:
    """Answers with high probabilities only (`HighConfidence`); below the cutoff all classes look the same."""

    cutoff: float = param(0.25, "smallest probability that is told", low=1e-6, high=1.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        return Postprocessed(model, art.HighConfidence(cutoff=self.cutoff))


@dataclass(frozen=True, kw_only=True)
class ClassLabels:
    """Answers with the class alone (`ClassLabels`).

    ART marks, in every row of a batch, the classes of all rows; here each answer is made alone.
    """

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        return Postprocessed(model, art.ClassLabels(), alone=True)


@dataclass(frozen=True, kw_only=True)
class GaussianNoiseOutput:
    """Gaussian noise on the probabilities at every pass (`GaussianNoise`)."""

    scale: float = param(0.2, "standard deviation", unit="probability", low=1e-9)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        return Postprocessed(model, art.GaussianNoise(scale=self.scale))
