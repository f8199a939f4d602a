"""Adversarial training on randomised single-step examples."""

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
class RFGSMAT:
    """Adversarial training with R+FGSM (Tramèr et al. 2018, https://arxiv.org/abs/1705.07204).

    A random step of alpha · eps, then a gradient step of (1 − alpha) · eps; cross-entropy there, mixed with the
    clean one. Norm and eps are those of the threat model.

    Fields:
        alpha: length of the random step as a share of eps; the paper's is 1/2.
        clean_share: weight of the clean loss.
        awp: relative size of an adversarial weight perturbation (`training/awp.py`), which costs one pass more.

    Cost: two forward and two backward passes a sample and epoch (one more forward with a clean share).
    """

    alpha: float = param(0.5, "length of the random step", unit="share of eps", low=0, high=1)
    clean_share: float = param(0.0, "weight of the clean loss", low=0, high=1)
    awp: float = param(0.0, AWP_HELP, low=0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        step = Perturbation(start="sign", steps=1, step_size=1 - self.alpha, start_size=self.alpha)
        method = OnExamples(perturbation=step, clean_share=self.clean_share)
        return train(model, data, training, method, repr(self), awp=self.awp)
