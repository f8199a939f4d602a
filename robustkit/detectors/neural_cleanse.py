"""Neural Cleanse: the smallest trigger of every class, and how much smaller the smallest is than the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from robustkit.contracts import Data, Precision, Verdict
from robustkit.detectors.calibration import deviations, judge, read_reference
from robustkit.detectors.controller import Rules
from robustkit.detectors.inversion import Search, Triggers, invert, invert_by_class, stamp, success_rate
from robustkit.params import UsageError, check, param
from robustkit.precision import choose_precision, exact_float32, search_model

_SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class NeuralCleanse:
    """Wang et al. 2019 (IEEE S&P, https://doi.org/10.1109/SP.2019.00031).

    For each class t a mask m (one channel) and a pattern p are searched such that x' = (1 - m) x + m p is taken for t,
    by Adam on the cross-entropy plus lambda |m|_1; a controller raises lambda while the trigger works and lowers
    it while it doesn't. A class with a backdoor needs a far smaller mask.

    By default all classes are searched in one batch, which gives the same K separate searches in a fraction of the
    time; schedule=by_class is the plain loop. steps=1000:batches=31 is the budget of the published code.

    Departures: the verdict is a p-value, not "index above 2" (see `calibration`); the index is that of the
    logarithms of the norms, since norms are positive and skewed, and the published one stands beside it in the
    table; norms are read from the float masks, not from 8-bit pictures; a class for which no trigger reaches the
    threshold counts with the whole image rather than with wherever its search happened to end.

    Fields:
        images: clean images of the validation part that are used, drawn at random.
        steps, batches, batch_size: controller steps at most, batches a step, images a batch.
        step_size: of Adam.
        threshold, patience, cost, multiplier: of the controller.
        schedule: "batched" or "by_class".
        halving: drop the half of the classes with the larger masks after each tenth of the steps; their norms are then
            upper bounds. For schedule=batched.
        warm: steps of a first search, of one batch each, whose triggers and weights the search begins with.
        precision: of the search; a trigger found in a low one must hold in float32.
        alpha: p-values up to it flag the model.
        reference: file of scores of clean models of the same data and architecture, {"neural_cleanse": [...]}.

    Score: minus the logarithm of the smallest norm as a share of the image.
    Cost: at most K (steps x batches + warm) x batch_size images forward and backward.

    Raises:
        UsageError: fewer than two validation images.
    """

    images: int = param(500, "clean images that are used", low=2)
    steps: int = param(150, "controller steps at most", low=1)
    batches: int = param(8, "a step", low=1)
    batch_size: int = param(32, "images in a batch", low=1)
    step_size: float = param(0.1, "of Adam", low=1e-9)
    threshold: float = param(0.99, "success rate that a trigger must reach", low=0.0, high=1.0)
    patience: int = param(5, "steps in a row before the weight of the mask changes", low=1)
    cost: float = param(1e-3, "first weight of the mask", low=1e-12)
    multiplier: float = param(2.0, "growth of that weight", low=1.0)
    schedule: Literal["batched", "by_class"] = param("batched", "all classes at once, or one after the other")
    halving: bool = param(False, "drop the classes with the larger masks on the way")
    warm: int = param(0, "steps of a first search of one batch each, whose end is the start", low=0)
    precision: Precision = param("auto", "of the search")
    alpha: float = param(0.05, "p-values up to it flag the model", low=0.0, high=1.0)
    reference: str = param("", "file of scores of clean models")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data) -> Verdict:
        clean = read_reference(self.reference, "neural_cleanse") if self.reference else []
        x, y = self._images(model, data)
        with exact_float32():
            found = self.search(model, x, len(data.classes))
            targets = torch.arange(len(data.classes), device=x.device)
            rates = [
                float(success_rate(model, x[y != t], found.mask[t, None], found.pattern[t, None], targets[t, None])[0])
                if bool((y != t).any())
                else 0.0
                for t in targets
            ]
        return self.verdict(found, rates, x, clean)

    def search(self, model: nn.Module, x: Tensor, classes: int) -> Triggers:
        """The triggers of all classes, from clean images (N, C, H, W) on the model's device."""
        precision = choose_precision(model, x[:64], self.precision)
        network = search_model(model, precision, x[:4])
        exact = None if precision == "fp32" else search_model(model, "fp32", x[:4])
        search = Search(
            steps=self.steps,
            batches=self.batches,
            batch_size=self.batch_size,
            lr=self.step_size,
            rules=Rules(threshold=self.threshold, patience=self.patience, cost=self.cost, multiplier=self.multiplier),
            halving=self.halving,
            warm=self.warm,
            seed=int(torch.randint(2**31, ())),  # from the caller's generator, which the host seeds
        )
        run = invert if self.schedule == "batched" else invert_by_class
        return run(network, x, torch.arange(classes, device=x.device), search, exact)

    def verdict(self, found: Triggers, rates: list[float], x: Tensor, clean: list[float]) -> Verdict:
        """From triggers and their success rates (on images of other classes) to what is said of the model."""
        norms = found.norm.double().cpu().numpy()
        count, pixels = len(norms), found.mask[0].numel()
        smallness = -np.log(np.maximum(norms, 1e-6) / pixels)  # (K,), large where the mask is small
        above, published = deviations(-np.log(np.maximum(norms, 1e-6))), deviations(-norms)
        judged = judge(smallness, above, clean, self.alpha)
        shown = judged.order[: max(1, min(_SHOWN, len(judged.classes)))]
        table: list[dict[str, Any]] = [
            {
                "class": k,
                "norm": round(float(norms[k]), 4),
                "success": round(rates[k], 4),
                "index": round(float(above[k]), 3),
                "published_index": round(float(published[k]), 3),
                "found": bool(found.feasible[k]),
                "steps": int(found.steps[k]),
            }
            for k in range(count)
        ]
        return Verdict(
            score=judged.score,
            flagged=judged.flagged,
            table=tuple(table),
            images=_pictures(found, shown, x),
            p_value=judged.p_value,
            classes=judged.classes,
            limit=judged.limit,
            by_class=judged.by_class,
            cost={"gradients": float(found.gradients)},
            note=judged.note,
        )

    def _images(self, model: nn.Module, data: Data) -> tuple[Tensor, Tensor]:
        if len(data.val) < 2:
            raise UsageError(
                f"neural_cleanse needs clean images; the validation part of {data.name} has {len(data.val)}"
            )
        example = next(model.parameters(), torch.zeros(()))
        index = torch.randperm(len(data.val))[: self.images]
        x, y = data.val.batch(index)
        return x.to(example.device, example.dtype), y.to(example.device)


def _pictures(found: Triggers, classes: tuple[int, ...], x: Tensor) -> dict[str, Tensor]:
    """Mask, pattern, both, and a clean and a stamped example of each class."""
    pictures: dict[str, Tensor] = {}
    for k in classes:
        mask, pattern = found.mask[k], found.pattern[k]
        pictures |= {
            f"class {k}: mask": mask.expand_as(pattern),
            f"class {k}: pattern": pattern,
            f"class {k}: trigger": mask * pattern,
            f"class {k}: stamped": stamp(x[0], mask, pattern),
        }
    return {name: picture.detach().float().cpu().clamp(0, 1) for name, picture in pictures.items()}
