"""Projected gradient descent."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.attacks.climb import climb, usual_step
from robustkit.attacks.fits import require_norm
from robustkit.attacks.losses import OWN_LOSS, LossName, check_loss, chosen
from robustkit.contracts import Threat
from robustkit.norms import random_start
from robustkit.params import ParamError, check, param


@dataclass(frozen=True, kw_only=True)
class PGD:
    """Projected gradient descent inside an Lp ball (Madry et al. 2018, https://arxiv.org/abs/1706.06083).

    x ← Π(x + step_size · argmax_{‖d‖ ≤ 1} ⟨d, ∇ loss⟩) from a random point of the ball, Π the projection onto
    ball ∩ box.

    Departs from the paper: the best iterate is returned, not the last, and a sample that has fallen is left
    alone (both can only help the attack); l1 steps move 2 % of the coordinates at once (Tramèr & Boneh 2019,
    https://arxiv.org/abs/1904.13000).

    Fields:
        steps: gradient evaluations a restart.
        step_size: length of a step in input units, in the norm of the threat model. None: 2.5 ·
            eps / steps in linf, 5 · eps / steps in l2 and l1 (`usual_step` says why).
        restarts: random starts; those that have fallen are not tried again. More than 1 needs random_start.
        loss: "cross_entropy", "margin" (Carlini & Wagner), "dlr" (Croce & Hein; 3 classes or more), or
            "package.module:function", a function of yours that takes logits (N, K) and y (N,) and returns (N,).
        random_start: begin at a random point of the ball; otherwise at the clean input.
        targeted: y are classes to reach, not labels to leave.

    Shapes: x (N, C, H, W) float in [0, 1]; y (N,) int64; returns like x.
    Cost: at most restarts · (steps forward and backward passes + 1 forward) a sample.
    """

    steps: int = param(40, "gradient evaluations a restart", low=1)
    step_size: float | None = param(
        None, "length of a step; none: 2.5 eps / steps, 5 in l2 and l1", unit="input units", low=0
    )
    restarts: int = param(1, "random starts", low=1)
    loss: LossName | str = param("cross_entropy", OWN_LOSS)
    random_start: bool = param(True, "begin at a random point of the ball")
    targeted: bool = param(False, "y are classes to reach")

    def __post_init__(self) -> None:
        check(self)
        check_loss("PGD", self.loss)
        if self.restarts > 1 and not self.random_start:
            raise ParamError(
                f"PGD: restarts={self.restarts} with random_start=False would repeat one search; "
                "leave restarts at 1, or random_start at True"
            )

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        require_norm("pgd", threat)
        best = x.clone()
        value = torch.full((x.shape[0],), -torch.inf, dtype=x.dtype, device=x.device)
        for _ in range(self.restarts):
            open_ = ~value.isposinf()
            if not open_.any():
                break
            origin = x[open_]
            start = random_start(origin, threat) if self.random_start else origin
            found, found_value = self._search(model, origin, y[open_], threat, start, self.steps, 1.0)
            better = found_value > value[open_]
            rows = open_.nonzero().squeeze(1)[better]
            best[rows], value[rows] = found[better], found_value[better]
        return best

    def polish(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """A tenth of the steps, a quarter as long, from where the search ended."""
        return self._search(model, x, y, threat, x_adv, max(1, self.steps // 10), 0.25)[0]

    def _search(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, start: Tensor, steps: int, stride: float
    ) -> tuple[Tensor, Tensor]:
        step_size = usual_step(threat, self.steps) if self.step_size is None else self.step_size
        return climb(
            model,
            x,
            y,
            threat,
            start,
            steps=steps,
            step_size=step_size * stride,
            loss=chosen(self.loss, self.targeted),
            targeted=self.targeted,
        )
