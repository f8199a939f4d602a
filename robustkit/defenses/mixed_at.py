"""Training on batches mixed from clean, FGSM and PGD examples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.contracts import Data, Threat, Training
from robustkit.params import ParamError, check, param
from robustkit.training.awp import AWP_HELP
from robustkit.training.loop import train
from robustkit.training.method import Memory
from robustkit.training.perturbation import WATCH, Perturbation
from robustkit.training.radii import part_of


@dataclass(frozen=True, kw_only=True)
class MixedAT:
    """Cross-entropy on batches of which some images stay clean and others are attacked by FGSM or PGD (batches mixed
    from clean and adversarial images: Kurakin et al. 2017, https://arxiv.org/abs/1611.01236).

    Each image is seen once, as one of the three; which images those are is drawn anew every epoch, with the order of
    the training set. Counts are the shares of the batch, rounded. Norm and eps are those of the threat model.

    Fields:
        clean, fgsm, pgd: shares of a batch; together 1.
        steps: gradient steps of PGD, from a random start.
        step_size: length of a step of PGD as a share of eps. None: 2.5 / steps.
        awp: relative size of an adversarial weight perturbation (`training/awp.py`), which costs one pass more.

    Cost: 1 + fgsm + pgd · steps forward and backward passes a sample and epoch.
    """

    clean: float = param(0.5, "share of clean images in a batch", low=0, high=1)
    fgsm: float = param(0.25, "share of images attacked by FGSM", low=0, high=1)
    pgd: float = param(0.25, "share of images attacked by PGD", low=0, high=1)
    steps: int = param(7, "gradient steps of PGD", low=1)
    step_size: float | None = param(None, "length of a step; none: 2.5 / steps", unit="share of eps", low=0)
    awp: float = param(0.0, AWP_HELP, low=0)

    def __post_init__(self) -> None:
        check(self)
        total = self.clean + self.fgsm + self.pgd
        if abs(total - 1) > 1e-6:
            raise ParamError(
                f"clean={self.clean:g}, fgsm={self.fgsm:g} and pgd={self.pgd:g} add up to {total:g}, not 1"
            )

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        step_size = 2.5 / self.steps if self.step_size is None else self.step_size
        method = _Mixed(
            fgsm=Perturbation(start="clean", steps=1, step_size=1.0),
            pgd=Perturbation(start="uniform", steps=self.steps, step_size=step_size),
            clean_share=self.clean,
            fgsm_share=self.fgsm,
        )
        return train(model, data, training, method, repr(self), awp=self.awp)


@dataclass(frozen=True, kw_only=True)
class _Mixed:
    fgsm: Perturbation
    pgd: Perturbation
    clean_share: float
    fgsm_share: float
    replays: int = 1

    @property
    def watch(self) -> Perturbation | None:
        return None if self.clean_share == 1 else WATCH

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, memory: Memory) -> Tensor:
        first = round(self.clean_share * len(x))
        second = round((self.clean_share + self.fgsm_share) * len(x))
        parts = [x[:first]]
        for attack, which in ((self.fgsm, slice(first, second)), (self.pgd, slice(second, len(x)))):
            if which.stop > which.start:
                parts.append(attack(model, x[which], y[which], part_of(threat, which)))
        return torch.cat(parts)

    def loss(self, model: nn.Module, examples: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(examples), y)

    def observe(self, examples: Tensor, x: Tensor, threat: Threat, memory: Memory) -> None:
        return None
