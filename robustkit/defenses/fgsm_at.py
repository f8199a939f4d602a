"""Adversarial training on single-step examples."""

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
class FGSMAT:
    """Adversarial training with FGSM (Goodfellow et al. 2015, https://arxiv.org/abs/1412.6572).

    min (1 − s) · CE(x + eps · sign(∇)) + s · CE(x). The paper mixes half and half; the default here is s = 0,
    as in later work. Single-step training from the clean input is prone to catastrophic overfitting: it may
    learn to mask the gradient at x and fall to PGD. Norm and eps are those of the threat model.

    Fields:
        clean_share: s, the weight of the clean loss.
        awp: relative size of an adversarial weight perturbation (`training/awp.py`), which costs one pass more.

    Cost: two forward and two backward passes a sample and epoch (one more forward with a clean share).
    """

    clean_share: float = param(0.0, "weight of the clean loss", low=0, high=1)
    awp: float = param(0.0, AWP_HELP, low=0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        step = Perturbation(start="clean", steps=1, step_size=1.0)
        method = OnExamples(perturbation=step, clean_share=self.clean_share)
        return train(model, data, training, method, repr(self), awp=self.awp)
