"""A gradient attack whose parts are adapted to a defense: its loss, and gradients averaged over draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.attacks.climb import climb, usual_step
from robustkit.attacks.fits import require_norm
from robustkit.attacks.losses import OWN_LOSS, LossName, check_loss, chosen
from robustkit.contracts import Threat
from robustkit.norms import random_start
from robustkit.params import check, param


@dataclass(frozen=True, kw_only=True)
class Adaptive:
    """Projected gradient descent (Madry et al. 2018, https://arxiv.org/abs/1706.06083) with parts of your own, after
    Tramèr et al. 2020 (https://arxiv.org/abs/2002.08347).

    loss: a function of yours, "package.module:function", takes logits (N, K) and y (N,) and returns (N,), to be
    maximised. draws: each step follows the gradient at the mean of the logits over so many passes, for models that
    draw random numbers (expectation over transformation; Athalye et al. 2018, https://arxiv.org/abs/1707.07397).
    A layer that cannot be differentiated is wrapped as `StraightThrough` says.

    Departs from the paper on expectations: logits are averaged, where it averages log-probabilities.

    Fields:
        steps: of the search.
        step_size: in input units; none: 2.5 · eps / steps in linf, 5 in l2 and l1.
        restarts: random starts; what has fallen is not tried again.
        draws: passes that each step averages; 1 suffices unless the model draws random numbers. A bench's `eot` does
            the same for every attack that follows gradients; where both are given, their product counts.
        loss: "cross_entropy", "margin", "dlr", or "package.module:function", a function of yours.
        targeted: y are classes to reach, not labels to leave; a loss of yours is then to be maximised towards y.

    Shapes: x (N, C, H, W) float in [0, 1]; y (N,) int64; returns like x.
    Errors: UsageError where the loss cannot be imported, fails, or returns another shape.
    Cost: restarts · draws · (steps forward and backward passes and 1 forward) a sample at most.
    """

    steps: int = param(40, "gradient evaluations a restart", low=1)
    step_size: float | None = param(
        None, "length of a step; none: 2.5 eps / steps, 5 in l2 and l1", unit="input units", low=0
    )
    restarts: int = param(1, "random starts", low=1)
    draws: int = param(1, "passes that each step averages (EOT)", low=1)
    loss: LossName | str = param("margin", OWN_LOSS)
    targeted: bool = param(False, "y are classes to reach")

    def __post_init__(self) -> None:
        check(self)
        check_loss("Adaptive", self.loss)

    @torch.no_grad()  # but for the passes that say otherwise
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        require_norm("adaptive", threat)
        loss = chosen(self.loss, self.targeted)
        network = model if self.draws == 1 else Averaged(model, self.draws)
        length = usual_step(threat, self.steps) if self.step_size is None else self.step_size
        best = x.clone()
        value = torch.full((x.shape[0],), -torch.inf, dtype=x.dtype, device=x.device)
        for _ in range(self.restarts):
            rows = (~value.isposinf()).nonzero().squeeze(1)
            if not len(rows):
                break
            origin, label = x[rows], y[rows]
            start = random_start(origin, threat)
            found, reached = climb(
                network,
                origin,
                label,
                threat,
                start,
                steps=self.steps,
                step_size=length,
                loss=loss,
                targeted=self.targeted,
            )
            better = reached > value[rows]
            best[rows[better]], value[rows[better]] = found[better], reached[better]
        return best


class Averaged(nn.Module):
    """The mean of a random network's logits over some passes, (N, ...) → (N, K)."""

    def __init__(self, network: nn.Module, draws: int) -> None:
        super().__init__()
        self.network, self.draws = network, draws

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.network(x) for _ in range(self.draws)]).mean(dim=0)


class StraightThrough(nn.Module):
    """What a function returns, with another one's gradient (BPDA; Athalye et al. 2018,
    https://arxiv.org/abs/1802.00420), as a first layer or between others.

    Args:
        function: (N, ...) → (N, ...), differentiable or not.
        stand_in: of the same shapes, whose gradient is taken; none: the identity.
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor], stand_in: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.function, self.stand_in = function, stand_in

    def forward(self, x: Tensor) -> Tensor:
        smooth = x if self.stand_in is None else self.stand_in(x)
        with torch.no_grad():
            exact = self.function(x.detach())
        return exact + (smooth - smooth.detach())
