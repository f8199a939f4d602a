"""torchattacks' attacks that minimise the distance in l2 and l1; they ignore `threat.eps`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torchattacks  # noqa: TID253 - imported only when an attack is used

from robustkit.params import check, param
from robustkit_torchattacks.library import refuse_negative_logits, run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat


@dataclass(frozen=True, kw_only=True)
class CW:
    """Carlini and Wagner's l2 attack with one fixed c (`torchattacks.CW`): no binary search.

    The library's f takes the largest logit of the other classes after setting the label's to 0. Where all
    logits are negative, as behind a log_softmax, that 0 wins, the loss is 0 and nothing is attacked, so such
    models are refused. The change of variables freezes pixels that are exactly 0 or 1. The search stops early
    where the loss summed over the batch grows. Cost: up to `steps` forward and backward passes.
    """

    steps: int = param(50, "steps of Adam", low=1)
    c: float = param(1.0, "weight of the misclassification against the squared distance", low=0.0)
    kappa: float = param(0.0, "margin that the logits shall reach (confidence)", unit="logits", low=0.0)
    lr: float = param(0.01, "learning rate of Adam", low=0.0)
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        refuse_negative_logits(model, x, "CW")
        return run(
            lambda network, seed: torchattacks.CW(network, c=self.c, kappa=self.kappa, steps=self.steps, lr=self.lr),
            model,
            x,
            y,
            targeted=self.targeted,
        )


@dataclass(frozen=True, kw_only=True)
class DeepFool:
    """Steps to the nearest linearised boundary, in l2 (`torchattacks.DeepFool`), sample by sample.

    The library clamps to the box at every step and goes on from there, so that it stalls on images with many
    pixels at 0 or 1. Cost: up to `steps` × (1 forward and K backward passes) for each sample.
    """

    steps: int = param(50, "iterations", low=1)
    overshoot: float = param(0.02, "share by which the last step goes beyond the boundary", low=0.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return run(
            lambda network, seed: torchattacks.DeepFool(network, steps=self.steps, overshoot=self.overshoot),
            model,
            x,
            y,
        )


@dataclass(frozen=True, kw_only=True)
class EADL1:
    """Elastic-net attack that keeps the best l1 distance (`torchattacks.EADL1`).

    The library's first step moves its own reference image by about 1e-5, and its early abort looks at the loss
    summed over the batch. Cost: up to `binary_search_steps` × `steps` × (2 forward and 1 backward passes).
    """

    steps: int = param(100, "iterations for each constant (max_iterations)", low=10)
    kappa: float = param(0.0, "margin that the logits shall reach (confidence)", unit="logits", low=0.0)
    lr: float = param(0.01, "learning rate", low=0.0)
    binary_search_steps: int = param(9, "constants that are tried", low=1)
    abort_early: bool = param(True, "stop where the loss no longer falls")
    initial_const: float = param(0.001, "first constant", low=0.0)
    beta: float = param(0.001, "weight of the l1 distance against the squared l2 distance", low=0.0)
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return run(
            lambda network, seed: _elastic_net(torchattacks.EADL1, self, network),
            model,
            x,
            y,
            targeted=self.targeted,
        )


@dataclass(frozen=True, kw_only=True)
class EADEN:
    """Elastic-net attack that keeps the best of l2² + beta l1 (`torchattacks.EADEN`).

    See `EADL1` for what the library does with its reference image and its abort. Cost: as `EADL1`.
    """

    steps: int = param(100, "iterations for each constant (max_iterations)", low=10)
    kappa: float = param(0.0, "margin that the logits shall reach (confidence)", unit="logits", low=0.0)
    lr: float = param(0.01, "learning rate", low=0.0)
    binary_search_steps: int = param(9, "constants that are tried", low=1)
    abort_early: bool = param(True, "stop where the loss no longer falls")
    initial_const: float = param(0.001, "first constant", low=0.0)
    beta: float = param(0.001, "weight of the l1 distance against the squared l2 distance", low=0.0)
    targeted: bool = param(False, "move towards the given class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return run(
            lambda network, seed: _elastic_net(torchattacks.EADEN, self, network),
            model,
            x,
            y,
            targeted=self.targeted,
        )


def _elastic_net(kind: Any, given: EADL1 | EADEN, network: nn.Module) -> Any:
    return kind(
        network,
        kappa=given.kappa,
        lr=given.lr,
        binary_search_steps=given.binary_search_steps,
        max_iterations=given.steps,
        abort_early=given.abort_early,
        initial_const=given.initial_const,
        beta=given.beta,
    )
