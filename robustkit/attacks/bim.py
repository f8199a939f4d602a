"""The basic iterative method (I-FGSM)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from robustkit.attacks.climb import climb, usual_step
from robustkit.attacks.fits import require_norm
from robustkit.attacks.losses import OWN_LOSS, LossName, check_loss, chosen
from robustkit.contracts import Threat
from robustkit.params import check, param


@dataclass(frozen=True, kw_only=True)
class BIM:
    """The basic iterative method (Kurakin et al. 2017, https://arxiv.org/abs/1607.02533).

    x ← Π(x + step_size · sign(∇ cross-entropy)) from the clean input; for l2 and l1 the normalised step of
    that norm. Departs from the paper: the best iterate is returned, and what has fallen is left alone.

    Fields:
        steps: gradient evaluations.
        step_size: length of a step in input units. None: 2.5 · eps / steps, 5 · eps / steps in
            l2 and l1.
        loss: "cross_entropy", as in the paper, "margin", "dlr", or "package.module:function", a function of yours.
        targeted: y are classes to reach (the paper takes the least likely one), not labels to leave.

    Shapes: x (N, C, H, W) float in [0, 1]; y (N,) int64; returns like x.
    Cost: at most `steps` forward and backward passes and one forward pass a sample.
    """

    steps: int = param(10, "gradient evaluations", low=1)
    step_size: float | None = param(
        None, "length of a step; none: 2.5 eps / steps, 5 in l2 and l1", unit="input units", low=0
    )
    loss: LossName | str = param("cross_entropy", OWN_LOSS)
    targeted: bool = param(False, "y are classes to reach")

    def __post_init__(self) -> None:
        check(self)
        check_loss("BIM", self.loss)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        require_norm("bim", threat)
        return self._search(model, x, y, threat, x, self.steps, 1.0)

    def polish(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """A tenth of the steps, a quarter as long, from where the search ended."""
        return self._search(model, x, y, threat, x_adv, max(1, self.steps // 10), 0.25)

    def _search(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, start: Tensor, steps: int, stride: float
    ) -> Tensor:
        step_size = usual_step(threat, self.steps) if self.step_size is None else self.step_size
        found, _ = climb(
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
        return found
