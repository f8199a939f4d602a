"""Misclassification-aware adversarial training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.contracts import Data, Threat, Training
from robustkit.params import check, param
from robustkit.training.awp import AWP_HELP
from robustkit.training.divergence import divergence
from robustkit.training.loop import train
from robustkit.training.method import Memory
from robustkit.training.perturbation import WATCH, Perturbation


@dataclass(frozen=True, kw_only=True)
class MART:
    """MART (Wang et al. 2020, https://openreview.net/forum?id=rklOg6EFwS).

    min BCE(x', y) + beta · KL(p(x) ‖ p(x')) · (1 − p_y(x)), where BCE = −log p_y(x') − log(1 − max_{k≠y} p_k(x')): the
    robust term weighs most where the clean input is not yet right. x' maximises cross-entropy, from
    x + 0.001 · N(0, 1). As in the reference implementation, 1.0001 − p stands in the logarithm for 1 − p.

    Departs from it in one way: the outer loss takes one pass over x' and x together, so that BatchNorm sees both as
    one batch. Norm and eps are those of the threat model.

    Fields:
        beta: weight of the robust term; the paper's is 5, and 6 for wide networks.
        steps: gradient steps of the inner attack.
        step_size: length of a step as a share of eps. None: 2.26 / steps, the paper's 0.007 of 0.031 at 10 steps.
        awp: relative size of an adversarial weight perturbation (`training/awp.py`), which costs one pass more.

    Cost: steps + 2 forward and backward passes a sample and epoch; the gradient of the weights only once.
    """

    beta: float = param(5.0, "weight of the robust term", low=0)
    steps: int = param(10, "gradient steps of the inner attack", low=1)
    step_size: float | None = param(None, "length of a step; none: 2.26 / steps", unit="share of eps", low=0)
    awp: float = param(0.0, AWP_HELP, low=0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        step_size = 2.26 / self.steps if self.step_size is None else self.step_size
        inner = Perturbation(start="normal", start_size=0.001, steps=self.steps, step_size=step_size)
        return train(model, data, training, _Aware(inner, self.beta), repr(self), awp=self.awp)


@dataclass(frozen=True)
class _Aware:
    inner: Perturbation
    beta: float
    replays: int = 1
    watch: Perturbation = WATCH

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, memory: Memory) -> Tensor:
        return self.inner(model, x, y, threat)

    def loss(self, model: nn.Module, examples: Tensor, x: Tensor, y: Tensor) -> Tensor:
        adversarial, natural = model(torch.cat([examples, x])).chunk(2)  # (B, K) each
        runner_up = adversarial.softmax(dim=1).scatter(1, y[:, None], 0.0).amax(dim=1)
        boosted = F.cross_entropy(adversarial, y) - (1.0001 - runner_up).log().mean()
        log_p, log_q = natural.log_softmax(dim=1), adversarial.log_softmax(dim=1)
        apart = divergence(log_p, log_q)
        unsure = 1 - log_p.exp().gather(1, y[:, None]).squeeze(1)
        loss: Tensor = boosted + self.beta * (apart * unsure).mean()
        return loss

    def observe(self, examples: Tensor, x: Tensor, threat: Threat, memory: Memory) -> None:
        return None
