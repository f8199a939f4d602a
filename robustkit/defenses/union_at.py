"""Adversarial training against several threat models at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.contracts import Data, Norm, Threat, Training
from robustkit.params import ParamError, UsageError, check, param
from robustkit.training.awp import AWP_HELP
from robustkit.training.loop import train
from robustkit.training.method import Memory
from robustkit.training.modes import in_eval
from robustkit.training.perturbation import WATCH, Perturbation
from robustkit.training.radii import Radii

_RADIUS = "radius in {}; none: not trained against, unless it is the threat model's"


@dataclass(frozen=True, kw_only=True)
class UnionAT:
    """PGD training against a union of balls (Tramèr & Boneh 2019, https://arxiv.org/abs/1904.13000).

    For each norm an example x_n = argmax CE in its ball, from a random start; then

        max:     min CE(x_w), x_w of each image the one of its examples with the highest loss ("worst-of")
        average: min mean_n CE(x_n), all examples in one batch.

    Norm and eps of the threat model are always one of the balls; the fields name the others. A ramp or a draw of eps
    scales all radii alike. The robust accuracy that is watched is that of the threat model.

    Fields:
        linf, l2, l1: radii of the other balls, in input units.
        combine: "max" or "average".
        steps: gradient steps of each inner attack.
        step_size: length of a step as a share of the ball's radius. None: 2.5 / steps.
        awp: relative size of an adversarial weight perturbation (`training/awp.py`), which costs one pass more.

    Cost, with k balls: k · steps + 1 forward and backward passes and k forward passes (max), or k · (steps + 1) forward
    and backward passes (average) a sample and epoch.
    """

    linf: float | None = param(None, _RADIUS.format("linf"), unit="input units", low=0)
    l2: float | None = param(None, _RADIUS.format("l2"), unit="input units", low=0)
    l1: float | None = param(None, _RADIUS.format("l1"), unit="input units", low=0)
    combine: Literal["max", "average"] = param("max", "the worst example of each image, or all of them")
    steps: int = param(7, "gradient steps of each inner attack", low=1)
    step_size: float | None = param(None, "length of a step; none: 2.5 / steps", unit="share of the radius", low=0)
    awp: float = param(0.0, AWP_HELP, low=0)

    def __post_init__(self) -> None:
        check(self)
        if not self._others():
            raise ParamError("union_at needs the radius of another ball; write e.g. union_at:l2=0.5:l1=12")

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        main = training.threat
        if main.norm in self._others():
            raise UsageError(
                f"union_at:{main.norm}={self._others()[main.norm]:g} is in the norm of the threat model, {main}; "
                "leave it out, or choose the threat model with --norm and --eps"
            )
        try:
            threats = (main, *(Threat(norm, eps) for norm, eps in self._others().items()))
        except ValueError as error:
            raise UsageError(f"union_at: {error}") from error
        step_size = 2.5 / self.steps if self.step_size is None else self.step_size
        inner = Perturbation(start="uniform", steps=self.steps, step_size=step_size)
        return train(model, data, training, _Union(inner, threats, self.combine), repr(self), awp=self.awp)

    def _others(self) -> dict[Norm, float]:
        given: dict[Norm, float | None] = {"linf": self.linf, "l2": self.l2, "l1": self.l1}
        return {norm: eps for norm, eps in given.items() if eps is not None}


@dataclass(frozen=True)
class _Union:
    """`threats`: the balls at full size, the threat model's own first."""

    inner: Perturbation
    threats: tuple[Threat, ...]
    combine: Literal["max", "average"]
    replays: int = 1
    watch: Perturbation = WATCH

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, memory: Memory) -> Tensor:
        found = torch.stack([self.inner(model, x, y, now) for now in self._now(threat)])  # (k, B, C, H, W)
        if self.combine == "average":
            return found.flatten(0, 1)
        with in_eval(model), torch.no_grad():
            losses = torch.stack([F.cross_entropy(model(point), y, reduction="none") for point in found])  # (k, B)
        return found[losses.argmax(dim=0), torch.arange(len(x), device=x.device)]

    def loss(self, model: nn.Module, examples: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(examples), y.repeat(len(examples) // len(y)))

    def observe(self, examples: Tensor, x: Tensor, threat: Threat, memory: Memory) -> None:
        return None

    def _now(self, threat: Threat) -> list[Threat]:
        """All balls, as much smaller as `threat` is than the threat model."""
        full = self.threats[0].eps
        share = threat.eps / full if full else 0.0
        if isinstance(threat, Radii):
            return [Radii(ball.norm, share * ball.eps, threat.shares) for ball in self.threats]
        return [Threat(ball.norm, share * ball.eps) for ball in self.threats]
