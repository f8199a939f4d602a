"""Certified training by interval bounds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.certifiers.bounds import Bounds, between
from robustkit.contracts import Data, Threat, Training
from robustkit.norms import cube
from robustkit.params import UsageError, check, param
from robustkit.training.loop import train
from robustkit.training.method import Memory
from robustkit.training.perturbation import WATCH, Perturbation


@dataclass(frozen=True, kw_only=True)
class IBPAT:
    """Interval bound propagation training (Gowal et al. 2018, https://arxiv.org/abs/1810.12715), for the certifier
    `interval`.

    With m_c a lower bound of z_y − z_c over the linf ball of the current radius e, inside [0, 1],

        loss = k · CE(z, y) + (1 − k) · CE(−m, y).

    e follows the recipe's ramp from 0 to eps, k falls with it from 1 to `kappa`: the network learns the
    classes first and the bounds with the radius. benchmarks/results/certified_training.md says what it certifies on
    mnist_10k with --recipe epochs=20:lr=0.001:ramp=0.6:augment=none.

    Departs from the source: there the ramp follows a warm-up, here it begins at once. BatchNorm's bounds take
    the running statistics, Dropout is left out of the bounds.

    Runs in float32 whatever the precision: sums of absolute weights are what is trained.

    Fields:
        kappa: weight of the clean loss at the full radius.

    Errors: UsageError for a threat other than linf, or a network whose layers the bounds don't know.
    Cost: three forward passes and their backward passes a sample and epoch.
    """

    kappa: float = param(0.5, "weight of the clean loss at the full radius", low=0.0, high=1.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        if training.threat.norm != "linf":
            raise UsageError(f"norm={training.threat.norm}: ibp_at trains for linf; smoothing certifies in other norms")
        method = _Bounded(bounds=Bounds(model), kappa=self.kappa, eps=training.threat.eps)
        return train(model, data, dataclasses.replace(training, precision="fp32"), method, repr(self))


@dataclass(kw_only=True)
class _Bounded:
    bounds: Bounds  # of the network that is trained in place
    kappa: float
    eps: float
    replays: int = 1
    watch: Perturbation = WATCH
    now: float = field(default=0.0, init=False)

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, memory: Memory) -> Tensor:
        self.now = threat.eps  # of this update, for the loss
        return x

    def loss(self, model: nn.Module, examples: Tensor, x: Tensor, y: Tensor) -> Tensor:
        share = self.now / self.eps if self.eps else 0.0
        kappa = 1 - (1 - self.kappa) * share
        return kappa * F.cross_entropy(model(x), y) + (1 - kappa) * bounded_loss(self.bounds, x, y, self.now)

    def observe(self, examples: Tensor, x: Tensor, threat: Threat, memory: Memory) -> None:
        return None


def bounded_loss(bounds: Bounds, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Mean cross-entropy of the lower bounds of all margins: at least the largest loss in each ball."""
    margins: Tensor = bounds.margins(between(*cube(x, eps)), y)  # (B, K)
    return F.cross_entropy(-margins, y)
