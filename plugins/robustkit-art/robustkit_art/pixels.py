"""ART's evolutionary searches: a few pixels to any colour, or all values by a little."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

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
        _require_cma(self.es)
        pixels = None if self.th is None else min(self.th, x.shape[2] * x.shape[3])
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
        _require_cma(self.es)
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


def _require_cma(es: int) -> None:
    if es == 0 and importlib.util.find_spec("cma") is None:
        raise UsageError("es=0 needs the package cma; install it with: pip install cma, or use es=1")
