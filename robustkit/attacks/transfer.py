"""Adversarial examples made on another network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from robustkit.attacks.climb import climb, usual_step
from robustkit.attacks.fits import require_norm
from robustkit.attacks.losses import cross_entropy
from robustkit.contracts import Threat
from robustkit.norms import random_start
from robustkit.params import UsageError, check, param


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Examples made on a surrogate network, which nothing of the attacked one went into (Szegedy et al. 2014,
    https://arxiv.org/abs/1312.6199; Papernot et al. 2016, https://arxiv.org/abs/1605.07277).

    The cross-entropy of the surrogate is raised by projected ascent to the last step, though it fall on the way: what
    barely crosses the surrogate's boundary seldom crosses another's. The bench trains the surrogate once a run, on the
    training part of the data with the architecture and recipe of the bench, and keeps it by content as every model.

    Fields:
        surrogate: a defense by its name, that trains, with its usual parameters; or the path of weights
            (.safetensors, .pt, .pth), of the architecture that their provenance names, else of the bench's.
        attack: "pgd" (from a random point), "mifgsm" (momentum, from the input; Dong et al. 2018,
            https://arxiv.org/abs/1710.06081) or "fgsm" (a single step).
        steps: gradient evaluations; fgsm takes one.
        seed: of the surrogate's training.

    Shapes: x (N, C, H, W) float in [0, 1]; y (N,) int64; returns like x.
    Errors: UsageError outside a bench, where no surrogate was given by `on`.
    Cost: none of the attacked network's passes; `steps` forward and backward passes of the surrogate's a sample.
    """

    surrogate: str = param("standard", "a defense that is trained for it, or the path of weights")
    attack: Literal["pgd", "mifgsm", "fgsm"] = param("pgd", "how examples are made on it")
    steps: int = param(40, "gradient evaluations; fgsm takes one", low=1)
    seed: int = param(1000, "of the surrogate's training", low=0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        require_norm("transfer", threat)
        raise UsageError(
            f"transfer needs its surrogate={self.surrogate}, which a bench trains or loads; elsewhere call "
            "Transfer().on(network)"
        )

    def on(self, network: nn.Module) -> Crafted:
        """The attack that makes its examples on `network`, float (N, C, H, W) in [0, 1] → logits, in eval mode."""
        return Crafted(network=network, settings=self)


@dataclass(frozen=True, kw_only=True)
class Crafted:
    """A transfer attack with its surrogate at hand."""

    network: nn.Module
    settings: Transfer

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        require_norm("transfer", threat)
        single = self.settings.attack == "fgsm"
        steps = 1 if single else self.settings.steps
        momentum = self.settings.attack == "mifgsm"
        found, _ = climb(
            self.network,
            x,
            y,
            threat,
            random_start(x, threat) if self.settings.attack == "pgd" else x,
            steps=steps,
            step_size=threat.eps / steps if single or momentum else usual_step(threat, steps),
            loss=cross_entropy,
            decay=1.0 if momentum else 0.0,
            ends=False,
        )
        return found
