"""ART's evolutionary searches: a few pixels to any colour, or all values by a little."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from robustkit.params import UsageError, check, param
from robustkit_art.bridge import evasion, minimal

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat

_ES = "evolutionary strategy: 0 is CMA-ES (needs the package cma), 1 is differential evolution"
_TARGETED = "look for the given class"


@dataclass(frozen=True, kw_only=True)
class Pixel:
    """The fewest pixels whose colours fool the model (`PixelAttack`).

    Cost: 7 searches of `steps` generations of about 400 members a sample; one search where `th` is given.
    """

    steps: int = param(100, "generations of a search (max_iter)", low=1)
    th: int | None = param(None, "pixels; none searches the fewest from 1 to 127", low=1)
    es: Literal[0, 1] = param(1, _ES)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        pixels = None if self.th is None else min(self.th, x.shape[2] * x.shape[3])
        with _strategy(self.es):
            return minimal(
                lambda estimator: evasion.PixelAttack(
                    estimator, th=pixels, es=self.es, max_iter=self.steps, targeted=self.targeted, verbose=False
                ),
                model,
                x,
                y,
                targeted=self.targeted,
                alone=True,
            )


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """The least change of all values that fools the model (`ThresholdAttack`).

    Cost: as `Pixel`, with as many unknowns as values.
    """

    steps: int = param(100, "generations of a search (max_iter)", low=1)
    th: int | None = param(None, "change; none searches the least from 1 to 127", unit="grey levels of 255", low=1)
    es: Literal[0, 1] = param(0, _ES)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        with _strategy(self.es):
            return minimal(
                lambda estimator: evasion.ThresholdAttack(
                    estimator, th=self.th, es=self.es, max_iter=self.steps, targeted=self.targeted, verbose=False
                ),
                model,
                x,
                y,
                targeted=self.targeted,
                alone=True,
            )


@contextlib.contextmanager
def _strategy(es: int) -> Iterator[None]:
    """ART gives CMA-ES no seed, and arrays of one value, of which it prints and warns; inside, it gets both right."""
    if es == 1:
        yield
        return
    if importlib.util.find_spec("cma") is None:
        raise UsageError("es=0 needs the package cma; install it with: pip install cma, or use es=1")
    import cma

    original = cma.CMAEvolutionStrategy

    class Scalar(original):  # type: ignore[misc, valid-type]
        def __init__(self, initial: Any, sigma: float, options: Any) -> None:
            options.set("seed", int(np.random.randint(1, 2**31 - 1)))  # noqa: NPY002 - the host's seed, not the clock
            super().__init__(initial, sigma, options)

        def optimize(self, objective: Any, maxfun: int, callback: Any, iterations: int) -> Any:
            return super().optimize(
                lambda point: float(objective(point)[0]), maxfun=maxfun, callback=callback, iterations=iterations
            )

    cma.CMAEvolutionStrategy = Scalar
    try:
        yield
    finally:
        cma.CMAEvolutionStrategy = original
