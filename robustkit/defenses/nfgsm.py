"""Adversarial training on noisy single-step examples."""

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
class NFGSM:
    """N-FGSM (de Jorge et al. 2022, https://arxiv.org/abs/2202.01181).

    Noise uniform in the ball of noise · eps, then one step of alpha · eps from there; cross-entropy at
    x + noise + step. The result is clipped to [0, 1] but *not* to the ball: it lies up to (noise + alpha) · eps
    away, which is what keeps single-step training from catastrophic overfitting. The paper trains 30 epochs with a
    cyclic learning rate (peak 0.2; on SVHN 0.05 with a ramp of eps). Norm and eps are those of the threat model; the
    paper is on linf.

    Fields:
        noise: radius of the noise as a share of eps; the paper's is 2.
        alpha: length of the step as a share of eps; the paper's is 1.
        clean_share: weight of the clean loss.
        awp: relative size of an adversarial weight perturbation (`training/awp.py`), which costs one pass more.

    Cost: two forward and two backward passes a sample and epoch (one more forward with a clean share).
    """

    noise: float = param(2.0, "radius of the noise", unit="share of eps", low=0)
    alpha: float = param(1.0, "length of the step", unit="share of eps", low=0)
    clean_share: float = param(0.0, "weight of the clean loss", low=0, high=1)
    awp: float = param(0.0, AWP_HELP, low=0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        step = Perturbation(start="uniform", steps=1, step_size=self.alpha, start_size=self.noise, inside=False)
        method = OnExamples(perturbation=step, clean_share=self.clean_share)
        return train(model, data, training, method, repr(self), awp=self.awp)
