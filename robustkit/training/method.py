"""What a defense is to the training loop: which examples it trains on, and with which loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.attacks.gradient import input_gradient
from robustkit.attacks.losses import cross_entropy
from robustkit.contracts import Threat
from robustkit.norms import project, random_start, steepest

Memory = dict[str, Tensor]
"""Tensors a method keeps between batches; they are part of a checkpoint."""


class Method(Protocol):
    """One way of training. `replays`: weight updates made on each batch."""

    @property
    def replays(self) -> int: ...

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
class Perturbation:
    """The inner attack of adversarial training.

    Args:
        start: "clean", "uniform" (in the ball) or "sign" (a random corner, `start_size` long).
        steps: gradient steps.
        step_size: length of a step as a share of eps.
        start_size: length of the random corner as a share of eps.
    """

    start: Literal["clean", "uniform", "sign"]
    steps: int
    step_size: float
    start_size: float = 0.5

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """Perturb (B, C, H, W) images; the gradient of the weights is neither computed nor left behind.

        BatchNorm runs with its running statistics, which the attack therefore leaves alone (Pang et al. 2021,
        https://arxiv.org/abs/2010.00467, found this the better choice).
        """
        training = model.training
        model.eval()
        point = self._start(x, threat)
        for _ in range(self.steps):
            gradient, _, _ = input_gradient(model, point, y, cross_entropy)
            step = self.step_size * threat.eps * steepest(gradient, threat.norm, point)
            point = project(point + step, x, threat)
        model.train(training)
        return point

    def _start(self, x: Tensor, threat: Threat) -> Tensor:
        if self.start == "uniform":
            return random_start(x, threat)
        if self.start == "sign":
            corner = steepest(torch.randn_like(x), threat.norm, x)
            return (x + self.start_size * threat.eps * corner).clamp(0, 1)
        return x


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
