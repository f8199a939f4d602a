"""torchattacks' SPSA: gradient descent on an estimate of the gradient from scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torchattacks  # noqa: TID253 - imported only when an attack is used

from robustkit.params import check, param
from robustkit_torchattacks.library import run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat


@dataclass(frozen=True, kw_only=True)
class SPSA:
    """Adam on finite differences along random signs (`torchattacks.SPSA`; Uesato et al. 2018).

    By the library's defaults it takes one step of 0.01 at whatever eps; give it `steps`. One direction of signs
    is shared by all samples of a batch. Cost: `steps` × 2 `nb_sample` forward passes.
    """

    steps: int = param(1, "steps of Adam (nb_iter)", low=1)
    delta: float = param(0.01, "length of a finite difference", unit="input units", low=0.0)
    lr: float = param(0.01, "learning rate of Adam", unit="input units", low=0.0)
    nb_sample: int = param(128, "directions that one gradient is averaged over", low=1)
    max_batch_size: int = param(64, "directions in one forward pass", low=1)
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return run(
            lambda network, seed: torchattacks.SPSA(
                network,
                eps=threat.eps,
                delta=self.delta,
                lr=self.lr,
                nb_iter=self.steps,
                nb_sample=self.nb_sample,
                max_batch_size=self.max_batch_size,
            ),
            model,
            x,
            y,
            targeted=self.targeted,
        )
