"""ART's `AutoAttack`, named by what it is: it is not the AutoAttack that published numbers refer to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import multiprocess  # noqa: F401 - ART imports it when the attack runs, though it needs it for pools only

from robustkit.params import check, param
from robustkit_art.bridge import ORDER, budget, evasion

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat


@dataclass(frozen=True, kw_only=True)
class APGDDeepFoolSquare:
    """APGD on cross-entropy, APGD on the logit ratio, DeepFool, Square (`AutoAttack`), each on the survivors.

    The reference has targeted APGD and targeted FAB in the place of DeepFool and of the second APGD.
    Cost: up to 2 x `restarts` x `steps` forward and backward passes, those of DeepFool, and `restarts` x
    `queries` forward passes.
    """

    steps: int = param(100, "iterations of APGD and DeepFool", low=2)
    step_size: float | None = param(
        None, "first step of APGD (eps_step); none is eps / 3, ART's ratio", unit="input units", low=0.0
    )
    restarts: int = param(5, "random starts of APGD and of Square", low=1)
    queries: int = param(5000, "queries of Square a restart", low=1)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        step = threat.eps / 3 if self.step_size is None else self.step_size
        norm, size = ORDER[threat.norm], max(len(x), 1)

        def make(estimator: object) -> object:
            apgd = [
                evasion.AutoProjectedGradientDescent(
                    estimator,
                    norm=norm,
                    eps=threat.eps,
                    eps_step=step,
                    max_iter=self.steps,
                    nb_random_init=self.restarts,
                    batch_size=size,
                    loss_type=loss,
                    verbose=False,
                )
                for loss in ("cross_entropy", "difference_logits_ratio")
            ]
            deepfool = evasion.DeepFool(
                estimator, max_iter=self.steps, epsilon=1e-3, nb_grads=10, batch_size=size, verbose=False
            )
            square = evasion.SquareAttack(
                estimator,
                norm=norm,
                max_iter=self.queries,
                eps=threat.eps,
                p_init=0.8,
                nb_restarts=self.restarts,
                batch_size=size,
                verbose=False,
            )
            return evasion.AutoAttack(
                estimator,
                norm=norm,
                eps=threat.eps,
                eps_step=step,
                attacks=[*apgd, deepfool, square],
                batch_size=size,
            )

        return budget(make, model, x, y, threat)
