"""Feature squeezing: an adversarial input is taken for something else once its details are coarser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit.attacks.adaptive import StraightThrough
from robustkit.contracts import Data, Split, Verdict
from robustkit.detectors.features import logits_of, passed, threshold
from robustkit.params import UsageError, check, param


@dataclass(frozen=True, kw_only=True)
class FeatureSqueezing:
    """Xu, Evans, Qi 2018 (NDSS, https://arxiv.org/abs/1704.01155).

    Score: the largest L1 distance between the predicted probabilities of an input and of its squeezed copies: fewer
    grey levels, and a median over a window. The threshold comes from clean images alone.

    An attacker who knows it searches an input whose squeezed copies fool the network too (`evade`); it is no defense
    against that one.

    Fields:
        bits: of the grey levels.
        window: side of the median's window, in pixels.
        fpr: share of clean images above the threshold.

    Scope: input; `data.test` holds what is judged. Cost: 3 forward passes an input and a clean image.
    """

    bits: int = param(4, "of the grey levels", low=1, high=8)
    window: int = param(2, "side of the median's window", unit="pixels", low=1)
    fpr: float = param(0.05, "share of clean images above the threshold", low=0.0, high=1.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data) -> Verdict:
        if not len(data.val) or not len(data.test):
            raise UsageError(
                f"feature_squeezing needs clean images and inputs; {data.name} has {len(data.val)} and {len(data.test)}"
            )
        clean, score = self._score(model, data.val), self._score(model, data.test)
        limit = threshold(clean, self.fpr)
        return Verdict(
            score=score, flagged=score > limit, limit=limit, cost={"forwards": 3.0 * (len(clean) + len(score))}
        )

    def suspicion(self, model: nn.Module, clean: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
        """The score as a function that gradients pass, (N, C, H, W) → (N,); rounding has that of the identity."""
        squeezers = (StraightThrough(lambda x: fewer_levels(x, self.bits)), lambda x: median(x, self.window))

        def score(x: Tensor) -> Tensor:
            said = model(x).softmax(dim=1)
            return torch.stack([_apart(model(squeeze(x)).softmax(dim=1), said) for squeeze in squeezers]).amax(dim=0)

        return score

    def _score(self, model: nn.Module, inputs: Split) -> Tensor:
        said = passed(model, inputs).logits.double().softmax(dim=1)
        x = inputs.batch(torch.arange(len(inputs)))[0]
        squeezed = (fewer_levels(x, self.bits), median(x, self.window))
        distances = [_apart(logits_of(model, copy).double().softmax(dim=1), said) for copy in squeezed]
        return torch.stack(distances).amax(dim=0)


def _apart(one: Tensor, other: Tensor) -> Tensor:
    """(N,) L1 distance of two rows of probabilities."""
    return (one - other).abs().sum(dim=1)


def fewer_levels(x: Tensor, bits: int) -> Tensor:
    """Rounded to 2^bits levels of grey."""
    steps = 2**bits - 1
    levels: Tensor = (x * steps).round() / steps
    return levels


def median(x: Tensor, window: int) -> Tensor:
    """The median over a window, borders mirrored; of an even number the upper one, as SciPy takes."""
    before, after = window // 2, window - 1 - window // 2
    padded = functional.pad(x, (before, after, before, after), mode="replicate")
    patches = padded.unfold(2, window, 1).unfold(3, window, 1).flatten(4)  # (N, C, H, W, window²)
    return patches.sort(dim=-1).values[..., window * window // 2]
