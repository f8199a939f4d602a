"""Adversarial training on projected gradient descent examples."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from robustkit.contracts import Data, Training
from robustkit.params import check, param
from robustkit.training.awp import AWP_HELP
from robustkit.training.loop import train
from robustkit.training.method import OnExamples
from robustkit.training.perturbation import Perturbation


@dataclass(frozen=True, kw_only=True)
class PGDAT:
    """Adversarial training with PGD (Madry et al. 2018, https://arxiv.org/abs/1706.06083).

    min (1 − s) · CE(x_pgd) + s · CE(x), x_pgd from a random start in the ball of the threat model. BatchNorm
    runs with its running statistics during the inner attack (Pang et al. 2021, https://arxiv.org/abs/2010.00467).

    Fields:
        steps: gradient steps of the inner attack.
        step_size: length of a step as a share of eps. None: 2.5 / steps.
        clean_share: s, the weight of the clean loss.
        awp: relative size of an adversarial weight perturbation (`training/awp.py`), which costs one pass more.

    Cost: steps + 1 forward and backward passes a sample and epoch; the gradient of the weights only once.
    """

    steps: int = param(7, "gradient steps of the inner attack", low=1)
    step_size: float | None = param(None, "length of a step; none: 2.5 / steps", unit="share of eps", low=0)
    clean_share: float = param(0.0, "weight of the clean loss", low=0, high=1)
    awp: float = param(0.0, AWP_HELP, low=0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        step_size = 2.5 / self.steps if self.step_size is None else self.step_size
        inner = Perturbation(start="uniform", steps=self.steps, step_size=step_size)
        method = OnExamples(perturbation=inner, clean_share=self.clean_share)
        return train(model, data, training, method, repr(self), awp=self.awp)
