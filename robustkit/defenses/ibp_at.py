"""Certified training on interval and backward bounds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.certifiers.backward import backward_margins
from robustkit.certifiers.bounds import Bounds, between
from robustkit.contracts import Data, Threat, Training
from robustkit.norms import cube
from robustkit.params import UsageError, check, param
from robustkit.training.loop import train
from robustkit.training.method import Memory
from robustkit.training.perturbation import WATCH, Perturbation


@dataclass(frozen=True, kw_only=True)
class IBPAT:
    """Certified training on bounds: CROWN-IBP (Zhang et al. 2020, https://arxiv.org/abs/1906.06316), or interval bounds
    alone (Gowal et al. 2018, https://arxiv.org/abs/1810.12715). For the certifiers `interval` and `crown_ibp`.

    With m_c a lower bound of z_y − z_c over the linf ball of the current radius e, inside [0, 1],

        loss = k · CE(z, y) + (1 − k) · CE(−m, y),    m = b · m_crown_ibp + (1 − b) · m_ibp.

    The recipe's ramp has two parts. In its first, `warmup`, e = 0 and the network learns the classes. Over the rest e
    rises from 0 to eps, k falls from 1 to `kappa`, and b from 1 to 0: while the radius is small the backward bounds of
    CROWN-IBP are far the tighter ones and keep the training stable, at the full radius interval bounds train better and
    are cheap. After the ramp b is 0. Without a ramp, or with bound="ibp", b is 0 throughout.
    benchmarks/results/certified_training.md says what it certifies on MNIST and with which recipe.

    Departs from the sources: BatchNorm's bounds take the running statistics, Dropout is left out of the bounds. They
    train with a radius above the one that is certified; here it is eps, which may be chosen so.

    Runs in float32 whatever the precision: sums of absolute weights are what is trained.

    Fields:
        bound: "crown_ibp", or "ibp" for interval bounds from the first.
        kappa: weight of the clean loss at the full radius.
        warmup: share of the recipe's ramp.

    Errors: UsageError for a threat other than linf, or a network whose layers the bounds don't know.
    Cost: three forward passes and their backward passes a sample and epoch; while 0 < b, those of another K − 1 + 2.
    """

    bound: Literal["crown_ibp", "ibp"] = param("crown_ibp", "what is trained on while the radius grows")
    kappa: float = param(0.5, "weight of the clean loss at the full radius", low=0.0, high=1.0)
    warmup: float = param(0.2, "share of the recipe's ramp that is clean training", low=0.0, high=0.99)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        if training.threat.norm != "linf":
            raise UsageError(f"norm={training.threat.norm}: ibp_at trains for linf; smoothing certifies in other norms")
        method = _Bounded(how=self, bounds=Bounds(model), eps=training.threat.eps)
        return train(model, data, dataclasses.replace(training, precision="fp32"), method, repr(self))


@dataclass(kw_only=True)
class _Bounded:
    how: IBPAT
    bounds: Bounds  # of the network that is trained in place
    eps: float
    replays: int = 1
    watch: Perturbation = WATCH
    share: float = field(default=0.0, init=False)  # of the radius, in this update

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, memory: Memory) -> Tensor:
        reached = threat.eps / self.eps if self.eps else 0.0
        self.share = max(0.0, reached - self.how.warmup) / (1 - self.how.warmup)
        return x

    def loss(self, model: nn.Module, examples: Tensor, x: Tensor, y: Tensor) -> Tensor:
        clean = F.cross_entropy(model(x), y)
        if not self.share:
            return clean
        kappa = 1 - (1 - self.how.kappa) * self.share
        backward = 1 - self.share if self.how.bound == "crown_ibp" else 0.0
        return kappa * clean + (1 - kappa) * bounded_loss(self.bounds, x, y, self.eps * self.share, backward)

    def observe(self, examples: Tensor, x: Tensor, threat: Threat, memory: Memory) -> None:
        return None


def bounded_loss(bounds: Bounds, x: Tensor, y: Tensor, eps: float, backward: float = 0.0) -> Tensor:
    """Mean cross-entropy of the lower bounds of all margins: at least the largest loss in each ball.

    `backward` is the weight of CROWN-IBP's bounds beside interval bounds.
    """
    values = bounds.values(between(*cube(x, eps)))
    margins: Tensor = bounds.margins_of(values, y)  # (B, K)
    if backward:
        margins = backward * backward_margins(bounds, values, y) + (1 - backward) * margins
    return F.cross_entropy(-margins, y)
