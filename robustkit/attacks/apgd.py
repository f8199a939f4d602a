"""Auto-PGD: projected gradient ascent without a step size to choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from robustkit.attacks.ascent import ascend
from robustkit.attacks.fits import require_norm
from robustkit.attacks.losses import LOSSES, OWN_LOSS, Loss, LossName, check_loss, chosen, dlr_targeted
from robustkit.contracts import Threat
from robustkit.norms import project, random_start
from robustkit.params import ParamError, check, param

_RADII = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))
"""In l1: radius over eps, and its share of the steps."""


@dataclass(frozen=True, kw_only=True)
class APGD:
    """Auto-PGD (Croce & Hein 2020, https://arxiv.org/abs/2003.01690; l1: Croce & Hein 2021,
    https://arxiv.org/abs/2103.01208).

    Projected ascent with momentum from a random point of the ball; step sizes start at twice the radius and are
    halved where the loss does not rise, and the search then goes on from the best point (`ascend` has the rules).
    In l1 steps adapt how many values they move, and 3/10 of the steps each go to the balls of 3 and 2 eps first.

    loss=dlr_targeted runs once for each of the likeliest wrong classes, on what still stands.

    Departs from the papers: a sample that has fallen is left alone, but not in the wider balls of l1 (leaving it there
    too is 3 to 4 times as fast, and left 1.3 points more standing of a network trained to be robust).

    Fields:
        steps: gradient evaluations a restart.
        restarts: random starts, for each class aimed at; those that have fallen are not tried again.
        loss: "cross_entropy", "margin" (Carlini & Wagner), "dlr" (3 classes or more), "dlr_targeted" (4 or more), or
            "package.module:function", a function of yours that takes logits (N, K) and y (N,) and returns (N,).
        classes: likeliest wrong classes that dlr_targeted aims at, as far as the model has as many.
        targeted: y are classes to reach, not labels to leave.

    Shapes: x (N, C, H, W) float in [0, 1]; y (N,) int64; returns like x.
    Cost: at most restarts · (steps forward and backward passes + 1 forward) a sample; `classes` times that with
    dlr_targeted, and 1 forward pass.
    """

    steps: int = param(100, "gradient evaluations a restart", low=1)
    restarts: int = param(1, "random starts", low=1)
    loss: LossName | Literal["dlr_targeted"] | str = param("cross_entropy", OWN_LOSS)
    classes: int = param(9, "wrong classes that dlr_targeted aims at", low=1)
    targeted: bool = param(False, "y are classes to reach")

    def __post_init__(self) -> None:
        check(self)
        check_loss("APGD", self.loss, (*LOSSES, "dlr_targeted"))
        if self.targeted and self.loss == "dlr_targeted":
            raise ParamError(
                "APGD: loss='dlr_targeted' chooses its targets itself, so that targeted=True says nothing; "
                "use loss='dlr'"
            )

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        require_norm("apgd", threat)
        best = x.clone()
        value = torch.full((x.shape[0],), -torch.inf, dtype=x.dtype, device=x.device)
        aims = likeliest_wrong(model, x, y, self.classes) if self.loss == "dlr_targeted" and len(x) else y[:, None]
        for aim in aims.unbind(1):
            for _ in range(self.restarts):
                rows = (~value.isposinf()).nonzero().squeeze(1)
                if not len(rows):
                    return best
                goal = torch.stack([y[rows], aim[rows]], dim=1) if self.loss == "dlr_targeted" else y[rows]
                found, found_value = self._search(model, x[rows], y[rows], goal, threat)
                better = found_value > value[rows]
                best[rows[better]], value[rows[better]] = found[better], found_value[better]
        return best

    def polish(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """A tenth of the steps, an eighth as long at first, from where the search ended."""
        loss = chosen("dlr" if self.loss == "dlr_targeted" else self.loss, self.targeted)
        steps = max(1, self.steps // 10)
        found, _ = ascend(model, x, y, threat, x_adv, steps=steps, loss=loss, targeted=self.targeted, stride=0.125)
        return found

    def _search(self, model: nn.Module, x: Tensor, y: Tensor, goal: Tensor, threat: Threat) -> tuple[Tensor, Tensor]:
        loss: Loss = dlr_targeted
        if self.loss != "dlr_targeted":
            loss = chosen(self.loss, self.targeted)
        if threat.norm != "l1":
            start = random_start(x, threat)
            return ascend(model, x, y, threat, start, steps=self.steps, loss=loss, goal=goal, targeted=self.targeted)
        found = random_start(x, Threat("l1", _RADII[0][0] * threat.eps))
        left = self.steps
        for factor, share in _RADII:
            ball = Threat("l1", factor * threat.eps)
            steps = left if factor == 1 else int(share * self.steps)
            left -= steps
            found = project(found, x, ball)
            if steps:
                found, value = ascend(
                    model,
                    x,
                    y,
                    ball,
                    found,
                    steps=steps,
                    loss=loss,
                    goal=goal,
                    targeted=self.targeted,
                    ends=factor == 1,
                )
        return found, value


def likeliest_wrong(model: nn.Module, x: Tensor, y: Tensor, count: int) -> Tensor:
    """(N, count) classes other than y, likeliest first; fewer where the model has no more."""
    with torch.no_grad():
        logits: Tensor = model(x)
    others = logits.scatter(1, y[:, None], -torch.inf)
    return others.argsort(dim=1, descending=True)[:, : min(count, logits.shape[1] - 1)]
