"""torchattacks' copies of the members of AutoAttack, and its ensemble of them, which is not AutoAttack.

The library reseeds torch globally with a fixed seed at every call; here each call has a seed drawn from torch's
generator, and the caller's streams go on untouched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torchattacks  # noqa: TID253 - imported only when an attack is used

from robustkit.params import check, param
from robustkit_torchattacks.library import classes, require_classes, run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Norm, Threat

NAMES: dict[Norm, str] = {"linf": "Linf", "l2": "L2"}
_RHO_HELP = "share of the steps that must have gained, or the step size is halved"


@dataclass(frozen=True, kw_only=True)
class APGD:
    """PGD with an adaptive step size (`torchattacks.APGD`); `steps` is 10 by default, the reference's 100.

    Cost: `restarts` × (`steps` + 1) × `eot_iter` forward and backward passes.
    """

    steps: int = param(10, "iterations of each restart", low=1)
    restarts: int = param(1, "random starts (n_restarts)", low=1)
    loss: Literal["ce", "dlr"] = param("ce", "cross-entropy, or the difference of logits ratio")
    eot_iter: int = param(1, "passes that one gradient is averaged over", low=1)
    rho: float = param(0.75, _RHO_HELP, low=0.0, high=1.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        if self.loss == "dlr" and len(x):
            require_classes(classes(model, x), 3, "the loss dlr")
        return run(
            lambda network, seed: torchattacks.APGD(
                network,
                norm=NAMES[threat.norm],
                eps=threat.eps,
                steps=self.steps,
                n_restarts=self.restarts,
                seed=seed,
                loss=self.loss,
                eot_iter=self.eot_iter,
                rho=self.rho,
            ),
            model,
            x,
            y,
        )


@dataclass(frozen=True, kw_only=True)
class APGDT:
    """APGD on the targeted DLR loss, once for each of the likeliest wrong classes (`torchattacks.APGDT`).

    In l2 the library gives every sample the step size of the first one of the batch. `steps` is 10 by default,
    the reference's 100. Cost: up to `n_target_classes` × `restarts` × (`steps` + 1) × `eot_iter` passes.
    """

    steps: int = param(10, "iterations of each run", low=1)
    restarts: int = param(1, "random starts for each class (n_restarts)", low=1)
    n_target_classes: int = param(9, "wrong classes tried, at most one less than there are", low=1)
    eot_iter: int = param(1, "passes that one gradient is averaged over", low=1)
    rho: float = param(0.75, _RHO_HELP, low=0.0, high=1.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        if len(x) == 0:
            return x.clone()
        found = classes(model, x)
        require_classes(found, 4, "the targeted DLR loss")
        return run(
            lambda network, seed: torchattacks.APGDT(
                network,
                norm=NAMES[threat.norm],
                eps=threat.eps,
                steps=self.steps,
                n_restarts=self.restarts,
                seed=seed,
                eot_iter=self.eot_iter,
                rho=self.rho,
                n_classes=min(self.n_target_classes, found - 1) + 1,
            ),
            model,
            x,
            y,
        )


@dataclass(frozen=True, kw_only=True)
class FAB:
    """Fast adaptive boundary attack (`torchattacks.FAB`), of which only points inside the ball come back.

    The library's targeted mode with given targets attacks nothing, and its l1 crashes; neither is offered.
    Cost: `restarts` × `steps` × (2 forward and K backward passes), or × `n_target_classes` and one backward
    pass where `multi_targeted`.
    """

    steps: int = param(10, "iterations of each run", low=1)
    restarts: int = param(1, "runs; all but the first start at random (n_restarts)", low=1)
    alpha_max: float = param(0.1, "largest weight of the step towards the input", low=0.0, high=1.0)
    eta: float = param(1.05, "overshoot beyond the boundary", low=1.0)
    beta: float = param(0.9, "backward step towards the input", low=0.0, high=1.0)
    multi_targeted: bool = param(False, "one run for each of the likeliest wrong classes")
    n_target_classes: int = param(9, "wrong classes tried where multi_targeted", low=1)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        if len(x) == 0:
            return x.clone()
        found = classes(model, x)
        return run(
            lambda network, seed: torchattacks.FAB(
                network,
                norm=NAMES[threat.norm],
                eps=threat.eps,
                steps=self.steps,
                n_restarts=self.restarts,
                alpha_max=self.alpha_max,
                eta=self.eta,
                beta=self.beta,
                seed=seed,
                multi_targeted=self.multi_targeted,
                n_classes=min(self.n_target_classes, found - 1) + 1,
            ),
            model,
            x,
            y,
        )


@dataclass(frozen=True, kw_only=True)
class Square:
    """Random search with squares, on scores alone (`torchattacks.Square`).

    Cost: up to `restarts` × `queries` forward passes.
    """

    queries: int = param(5000, "queries of each restart (n_queries)", low=1)
    restarts: int = param(1, "runs (n_restarts)", low=1)
    p_init: float = param(0.8, "share of the image that the first squares cover", low=0.0, high=1.0)
    loss: Literal["margin", "ce"] = param("margin", "loss that is searched")
    resc_schedule: bool = param(True, "scale the schedule of square sizes to the number of queries")
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return run(
            lambda network, seed: torchattacks.Square(
                network,
                norm=NAMES[threat.norm],
                eps=threat.eps,
                n_queries=self.queries,
                n_restarts=self.restarts,
                p_init=self.p_init,
                loss=self.loss,
                resc_schedule=self.resc_schedule,
                seed=seed,
            ),
            model,
            x,
            y,
            targeted=self.targeted,
        )


@dataclass(frozen=True, kw_only=True)
class APGDFABSquare10:
    """What `torchattacks.AutoAttack` runs: APGD, APGD-T and FAB-T with 10 iterations, and Square.

    The reference AutoAttack (package pyautoattack) gives each of them 100 iterations, so the robust accuracies
    of the two must not be compared. Each member sees only what the ones before it left.
    Cost: the sum of its members; see `APGD`, `APGDT`, `FAB` and `Square`.
    """

    version: Literal["standard", "plus", "rand"] = param(
        "standard", "members: standard; plus (5 restarts, untargeted ones too); rand (averages 20 passes)"
    )
    queries: int = param(5000, "queries of Square", low=1)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        if len(x) == 0:
            return x.clone()
        found = classes(model, x)
        require_classes(found, 3 if self.version == "rand" else 4, f"version {self.version}")

        def build(network: nn.Module, seed: int) -> torchattacks.AutoAttack:
            attack = torchattacks.AutoAttack(
                network,
                norm=NAMES[threat.norm],
                eps=threat.eps,
                version=self.version,
                n_classes=min(10, found),
                seed=seed,
            )
            for member in attack._autoattack.attacks:  # its constructor fixes them at 5000
                if isinstance(member, torchattacks.Square):
                    member.n_queries = self.queries
            return attack

        return run(build, model, x, y)
