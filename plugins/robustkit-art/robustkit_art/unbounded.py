"""ART's white-box attacks that obey no Lp ball: smooth shadows, moved mass, colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from robustkit.params import check, param
from robustkit_art.bridge import evasion, minimal

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat


@dataclass(frozen=True, kw_only=True)
class Shadow:
    """A smooth, nearly grey perturbation of any size (`ShadowAttack`), one sample at a time.

    ART takes `y` for a target whenever it is given; untargeted it gets none and uses the prediction.
    Cost: `steps` forward and backward passes of `batch_size` noisy copies a sample.
    """

    steps: int = param(300, "iterations (nb_steps)", low=1)
    step_size: float = param(0.1, "of the descent (learning_rate)", low=0.0)
    sigma: float = param(0.5, "standard deviation of the copies' noise", unit="input units", low=0.0)
    lambda_tv: float = param(0.3, "weight of the total variation", low=0.0)
    lambda_c: float = param(1.0, "weight of the mean change of a channel", low=0.0)
    lambda_s: float = param(0.5, "weight of the difference between channels", low=0.0)
    batch_size: int = param(400, "noisy copies of a sample", low=1)
    targeted: bool = param(False, "look for the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return minimal(
            lambda estimator: evasion.ShadowAttack(
                estimator,
                sigma=self.sigma,
                nb_steps=self.steps,
                learning_rate=self.step_size,
                lambda_tv=self.lambda_tv,
                lambda_c=self.lambda_c,
                lambda_s=self.lambda_s,
                batch_size=self.batch_size,
                targeted=self.targeted,
                verbose=False,
            ),
            model,
            x,
            y,
            targeted=self.targeted,
            labelled=self.targeted,
            alone=True,
        )


@dataclass(frozen=True, kw_only=True)
class Wasserstein:
    """Moves mass between neighbouring pixels (`Wasserstein`), in a ball that grows until the model is fooled.

    Departs from ART: regularization is 100 by default, since ART's 3000 overflows on images with black borders.
    Cost: `steps` forward and backward passes and up to as many solutions of two transport problems.
    """

    steps: int = param(400, "iterations (max_iter)", low=1)
    step_size: float = param(0.1, "length of a step (eps_step)", low=0.0)
    radius: float = param(0.3, "first radius of the ball (eps)", unit="mass times pixels", low=0.0)
    eps_iter: int = param(10, "iterations until the radius grows", low=1)
    eps_factor: float = param(1.1, "factor by which it grows", low=1.0)
    regularization: float = param(100.0, "of the transport problems", low=1e-6)
    p: int = param(2, "power of the distance between pixels", low=1)
    kernel_size: int = param(5, "side of the neighbourhood that mass may move in", unit="pixels", low=1)
    direction: Literal["wasserstein", "inf", "1", "2"] = param("wasserstein", "norm of a step (norm)")
    ball: Literal["wasserstein", "inf", "1", "2"] = param("wasserstein", "norm of the ball")
    conjugate_sinkhorn_max_iter: int = param(400, "iterations of the first transport problem", low=1)
    projected_sinkhorn_max_iter: int = param(400, "iterations of the second", low=1)
    targeted: bool = param(False, "look for the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return minimal(
            lambda estimator: evasion.Wasserstein(
                estimator,
                targeted=self.targeted,
                regularization=self.regularization,
                p=self.p,
                kernel_size=self.kernel_size,
                eps_step=self.step_size,
                norm=self.direction,
                ball=self.ball,
                eps=self.radius,
                eps_iter=self.eps_iter,
                eps_factor=self.eps_factor,
                max_iter=self.steps,
                conjugate_sinkhorn_max_iter=self.conjugate_sinkhorn_max_iter,
                projected_sinkhorn_max_iter=self.projected_sinkhorn_max_iter,
                batch_size=1,
                verbose=False,
            ),
            model,
            x,
            y,
            targeted=self.targeted,
        )
