"""Fast adversarial training."""

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
class FastAT:
    """Fast adversarial training, FGSM from a random start (Wong et al. 2020, https://arxiv.org/abs/2001.03994).

    δ uniform in the ball, then one step δ ← Π(δ + alpha · eps · sign(∇)); cross-entropy there. The paper trains with
    a cyclic learning rate (`schedule=cyclic`, peak 0.2 on CIFAR-10). BatchNorm runs with its running statistics
    during the step, as in all inner attacks here; the paper's code leaves it in train mode.

    A step much longer than 1.25 eps, or a large eps, brings on catastrophic overfitting; `collapse` of the recipe
    says what is done then. Norm and eps are those of the threat model.

    Fields:
        alpha: length of the step as a share of eps; the paper's is 1.25 (10/255 for eps = 8/255).
        clean_share: weight of the clean loss.
        awp: relative size of an adversarial weight perturbation (`training/awp.py`), which costs one pass more.

    Cost: two forward and two backward passes a sample and epoch (one more forward with a clean share).
    """

    alpha: float = param(1.25, "length of the step", unit="share of eps", low=0)
    clean_share: float = param(0.0, "weight of the clean loss", low=0, high=1)
    awp: float = param(0.0, AWP_HELP, low=0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        step = Perturbation(start="uniform", steps=1, step_size=self.alpha)
        method = OnExamples(perturbation=step, clean_share=self.clean_share)
        return train(model, data, training, method, repr(self), awp=self.awp)
