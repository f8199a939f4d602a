"""Momentum iterative FGSM."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from robustkit.attacks.climb import climb
from robustkit.attacks.fits import require_norm
from robustkit.attacks.losses import OWN_LOSS, LossName, check_loss, chosen
from robustkit.contracts import Threat
from robustkit.params import check, param


@dataclass(frozen=True, kw_only=True)
class MIFGSM:
    """Momentum iterative FGSM (Dong et al. 2018, https://arxiv.org/abs/1710.06081).

    g ← decay · g + ∇/‖∇‖₁, for each sample by itself; x ← Π(x + step_size · sign(g)), from the clean input.
    ‖∇‖₁ is taken as the mean of absolute values: sign and normalised steps don't depend on that scale.
    Departs from the paper: the best iterate is returned, and what has fallen is left alone.

    Fields:
        steps: gradient evaluations.
        step_size: length of a step in input units. None: eps / steps, as in the paper.
        decay: of the momentum; the paper's 1.0 sums all gradients.
        loss: "cross_entropy", as in the paper, "margin", "dlr", or "package.module:function", a function of yours.
        targeted: y are classes to reach, not labels to leave.

    Shapes: x (N, C, H, W) float in [0, 1]; y (N,) int64; returns like x.
    Cost: at most `steps` forward and backward passes and one forward pass a sample.
    """

    steps: int = param(10, "gradient evaluations", low=1)
    step_size: float | None = param(None, "length of a step; none: eps / steps", unit="input units", low=0)
    decay: float = param(1.0, "of the momentum", low=0)
    loss: LossName | str = param("cross_entropy", OWN_LOSS)
    targeted: bool = param(False, "y are classes to reach")

    def __post_init__(self) -> None:
        check(self)
        check_loss("MIFGSM", self.loss)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        require_norm("mifgsm", threat)
        return self._search(model, x, y, threat, x, self.steps, 1.0)

    def polish(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """A tenth of the steps, a quarter as long, from where the search ended; momentum begins anew."""
        return self._search(model, x, y, threat, x_adv, max(1, self.steps // 10), 0.25)

    def _search(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, start: Tensor, steps: int, stride: float
    ) -> Tensor:
        step_size = threat.eps / self.steps if self.step_size is None else self.step_size
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
            decay=self.decay,
        )
        return found
