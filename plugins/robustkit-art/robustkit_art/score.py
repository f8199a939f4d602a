"""ART's attacks that ask for scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from robustkit.params import UsageError, check, param
from robustkit_art.bridge import ORDER, budget, evasion, minimal

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat

_TARGETED = "look for the given class"


@dataclass(frozen=True, kw_only=True)
class Square:
    """Random squares, kept where the margin falls (`SquareAttack`). Cost: `queries` forward passes a restart."""

    queries: int = param(100, "queries a restart (max_iter)", low=1)
    restarts: int = param(1, "random starts (nb_restarts), each on what still stands", low=1)
    p_init: float = param(0.8, "first share of values that a square covers", low=0.0, high=1.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return budget(
            lambda estimator: evasion.SquareAttack(
                estimator,
                norm=ORDER[threat.norm],
                max_iter=self.queries,
                eps=threat.eps,
                p_init=self.p_init,
                nb_restarts=1,
                batch_size=len(x),
                verbose=False,
            ),
            model,
            x,
            y,
            threat,
            runs=self.restarts,
        )


@dataclass(frozen=True, kw_only=True)
class SimBA:
    """Steps along single values or frequencies, kept where the probability falls (`SimBA`).

    Cost: 2 x `steps` forward passes a sample, one sample at a time.
    """

    steps: int = param(3000, "directions tried (max_iter)", low=1)
    step_size: float = param(0.1, "length of a step (epsilon)", unit="input units", low=0.0)
    attack: Literal["dct", "px"] = param("dct", "directions: frequencies (dct) or values (px)")
    order: Literal["random", "diag"] = param("random", "px: order of the values")
    freq_dim: int = param(
        4, "dct: lowest frequencies to start with; side - freq_dim must be a multiple of stride", low=1
    )
    stride: int = param(1, "dct: frequencies added at a time", low=1)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        if x.shape[2] != x.shape[3]:
            raise UsageError(f"ART's SimBA needs square images and these are {x.shape[2]} x {x.shape[3]}")
        return minimal(
            lambda estimator: evasion.SimBA(
                estimator,
                attack=self.attack,
                max_iter=self.steps,
                order=self.order,
                epsilon=self.step_size,
                freq_dim=self.freq_dim,
                stride=self.stride,
                targeted=self.targeted,
                verbose=False,
            ),
            model,
            x,
            y,
            targeted=self.targeted,
            probabilities=True,
        )


@dataclass(frozen=True, kw_only=True)
class ZOO:
    """Coordinate descent on estimated gradients (`ZooAttack`).

    Cost: 2 x `nb_parallel` x `steps` x `binary_search_steps` forward passes a sample.
    """

    steps: int = param(10, "iterations for each constant (max_iter)", low=1)
    step_size: float = param(0.01, "of Adam (learning_rate)", low=0.0)
    binary_search_steps: int = param(1, "constants tried", low=1)
    confidence: float = param(0.0, "margin asked for", unit="logits", low=0.0)
    initial_const: float = param(1e-3, "first weight of the misclassification", low=0.0)
    abort_early: bool = param(True, "stop where the loss no longer falls")
    use_resize: bool = param(True, "search small images first, then larger ones")
    use_importance: bool = param(True, "prefer values that mattered before")
    nb_parallel: int = param(128, "values moved at a time; at most the number there is", low=1)
    variable_h: float = param(1e-4, "distance of the two points of an estimate", unit="input units", low=0.0)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return minimal(
            lambda estimator: evasion.ZooAttack(
                estimator,
                confidence=self.confidence,
                targeted=self.targeted,
                learning_rate=self.step_size,
                max_iter=self.steps,
                binary_search_steps=self.binary_search_steps,
                initial_const=self.initial_const,
                abort_early=self.abort_early,
                use_resize=self.use_resize,
                use_importance=self.use_importance,
                nb_parallel=min(self.nb_parallel, x[0].numel()),
                batch_size=1,
                variable_h=self.variable_h,
                verbose=False,
            ),
            model,
            x,
            y,
            targeted=self.targeted,
        )


@dataclass(frozen=True, kw_only=True)
class VAT:
    """The direction in which the prediction changes fastest, by finite differences (`VirtualAdversarialMethod`).

    Labels are unused. Departs from ART: finite_diff is 1e-2 by default, since float32 rounds differences at ART's
    1e-6 away. Cost: `steps` x the number of values forward passes.
    """

    steps: int = param(10, "power iterations (max_iter)", low=1)
    finite_diff: float = param(1e-2, "distance of the differences", unit="input units", low=1e-8)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return budget(
            lambda estimator: evasion.VirtualAdversarialMethod(
                estimator,
                max_iter=self.steps,
                finite_diff=self.finite_diff,
                eps=threat.eps,
                batch_size=len(x),
                verbose=False,
            ),
            model,
            x,
            y,
            threat,
            labelled=False,
            probabilities=True,
        )
