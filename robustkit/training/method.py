"""What a defense is to the training loop: which examples it trains on, and with which loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.contracts import Threat
from robustkit.training.perturbation import WATCH, Perturbation

Memory = dict[str, Tensor]
"""Tensors a method keeps between batches; they are part of a checkpoint.

What has as many rows as the batch belongs to its images, and each process of several has its own part of it."""


class Method(Protocol):
    """One way of training.

    `replays`: weight updates made on each batch. `watch`: the attack of the robust accuracy that is told after
    each epoch, None where the method promises none.
    """

    @property
    def replays(self) -> int: ...

    @property
    def watch(self) -> Perturbation | None: ...

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, memory: Memory) -> Tensor:
        """The inputs of this update, (B, C, H, W); with `requires_grad` where `observe` wants their gradient."""
        ...

    def loss(self, model: nn.Module, examples: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """A scalar, to be minimised."""
        ...

    def observe(self, examples: Tensor, x: Tensor, threat: Threat, memory: Memory) -> None:
        """After the backward pass and before the weights move."""
        ...


@dataclass(frozen=True, kw_only=True)
class OnExamples:
    """Cross-entropy on perturbed inputs, mixed with the one on clean inputs.

    Args:
        perturbation: None trains on the clean inputs alone.
        clean_share: weight of the clean loss, 0 to 1.
    """

    perturbation: Perturbation | None = None
    clean_share: float = 0.0
    replays: int = 1

    @property
    def watch(self) -> Perturbation | None:
        return None if self.perturbation is None else WATCH

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, memory: Memory) -> Tensor:
        if self.perturbation is None or threat.eps == 0 or self.clean_share == 1:
            return x
        return self.perturbation(model, x, y, threat)

    def loss(self, model: nn.Module, examples: Tensor, x: Tensor, y: Tensor) -> Tensor:
        if self.clean_share == 0 or examples is x:
            return F.cross_entropy(model(examples), y)
        # one pass over both: BatchNorm sees one batch, as it will see one kind of input at a time later
        logits = model(torch.cat([examples, x]))  # (2B, K)
        adversarial, clean = logits.chunk(2)
        share = self.clean_share
        return (1 - share) * F.cross_entropy(adversarial, y) + share * F.cross_entropy(clean, y)

    def observe(self, examples: Tensor, x: Tensor, threat: Threat, memory: Memory) -> None:
        return None
