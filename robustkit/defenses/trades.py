"""TRADES."""

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
from robustkit.training.modes import in_eval
from robustkit.training.perturbation import WATCH, Perturbation


@dataclass(frozen=True, kw_only=True)
class TRADES:
    """TRADES, a trade-off of accuracy and robustness (Zhang et al. 2019, https://arxiv.org/abs/1901.08573).

    min CE(x) + beta · KL(p(x) ‖ p(x')), with x' = argmax KL(p(x) ‖ p(x')) in the ball, found by gradient steps from
    x + 0.001 · N(0, 1). The outer KL is differentiated through both of its arguments.

    Departs from the reference implementation in two ways. p(x) of the inner attack is computed once for each batch
    and not at every step, which changes nothing but the time: about 0.7 of it at 10 steps. The outer loss takes one
    pass over x' and x together, so that BatchNorm sees both as one batch.

    The paper's eps is 0.031, a little less than 8/255. Norm and eps are those of the threat model.

    Fields:
        beta: weight of the robust term; the paper's is 6 for CIFAR-10 and 1 for MNIST.
        steps: gradient steps of the inner attack.
        step_size: length of a step as a share of eps. None: 2.26 / steps, the paper's 0.007 of 0.031 at 10 steps.
        awp: relative size of an adversarial weight perturbation (`training/awp.py`), which costs one pass more.

    Cost: steps + 3 forward and steps + 2 backward passes a sample and epoch; the gradient of the weights only once.
    """

    beta: float = param(6.0, "weight of the robust term", low=0)
    steps: int = param(10, "gradient steps of the inner attack", low=1)
    step_size: float | None = param(None, "length of a step; none: 2.26 / steps", unit="share of eps", low=0)
    awp: float = param(0.0, AWP_HELP, low=0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        step_size = 2.26 / self.steps if self.step_size is None else self.step_size
        inner = Perturbation(start="normal", start_size=0.001, steps=self.steps, step_size=step_size)
        return train(model, data, training, _Smooth(inner, self.beta), repr(self), awp=self.awp)


@dataclass(frozen=True)
class _Smooth:
    inner: Perturbation
    beta: float
    replays: int = 1
    watch: Perturbation = WATCH

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, memory: Memory) -> Tensor:
        with in_eval(model), torch.no_grad():
            natural = model(x).log_softmax(dim=1)  # (B, K)
        return self.inner(model, x, y, threat, lambda logits, _: divergence(natural, logits.log_softmax(dim=1)))

    def loss(self, model: nn.Module, examples: Tensor, x: Tensor, y: Tensor) -> Tensor:
        adversarial, natural = model(torch.cat([examples, x])).chunk(2)
        apart = divergence(natural.log_softmax(dim=1), adversarial.log_softmax(dim=1))
        return F.cross_entropy(natural, y) + self.beta * apart.mean()

    def observe(self, examples: Tensor, x: Tensor, threat: Threat, memory: Memory) -> None:
        return None
