"""Free adversarial training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.contracts import Data, Threat, Training
from robustkit.norms import steepest
from robustkit.params import check, param
from robustkit.training.awp import AWP_HELP
from robustkit.training.loop import train
from robustkit.training.method import Memory
from robustkit.training.perturbation import WATCH, Perturbation
from robustkit.training.radii import pull_back, share_of


@dataclass(frozen=True, kw_only=True)
class FreeAT:
    """Free adversarial training (Shafahi et al. 2019, https://arxiv.org/abs/1904.12843).

    Each batch is replayed m times. One backward pass gives the gradient of the weights and that of the input:
    the weights take a descent step, the perturbation an ascent step δ ← Π(δ + eps · sign(∇ₓ)), both from the
    gradient of before the weight step. δ has the shape of a batch and is carried over from batch to batch.
    Epochs are divided by m and schedules count replays, so it costs what ordinary training costs.

    Departs from the reference in one way: x + δ is clipped to [0, 1] and δ is what the clip left of it, where
    the reference differentiates through the clip. A pixel at 0 with a negative δ has no gradient there, and δ
    would stay negative for good: on MNIST, whose background is 0, that is most of the image.

    Fields:
        replays: m, updates on each batch; the paper's best is 8 for CIFAR-10 and 4 for ImageNet.
        step_size: length of an ascent step as a share of eps; the paper's is 1.
        awp: relative size of an adversarial weight perturbation (`training/awp.py`), which costs one pass more.

    Cost: m forward and backward passes a sample and epoch, for 1/m of the epochs.
    """

    replays: int = param(4, "weight updates on each batch", low=1)
    step_size: float = param(1.0, "length of an ascent step", unit="share of eps", low=0)
    awp: float = param(0.0, AWP_HELP, low=0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        return train(model, data, training, _Replayed(self.replays, self.step_size), repr(self), awp=self.awp)


@dataclass(frozen=True)
class _Replayed:
    replays: int
    step_size: float
    watch: Perturbation = WATCH

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, memory: Memory) -> Tensor:
        if "delta" not in memory:
            memory["delta"] = torch.zeros_like(x)
        # the radius may have grown, the image is another: back into this ball and this box
        return pull_back(x + memory["delta"], x, threat).requires_grad_()

    def loss(self, model: nn.Module, examples: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(examples), y)

    def observe(self, examples: Tensor, x: Tensor, threat: Threat, memory: Memory) -> None:
        assert examples.grad is not None
        inside = examples.detach()
        length = self.step_size * threat.eps * share_of(threat, x)
        moved = inside + length * steepest(examples.grad, threat.norm, inside)
        memory["delta"] = pull_back(moved, x, threat) - x
