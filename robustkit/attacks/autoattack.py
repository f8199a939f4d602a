"""AutoAttack: four attacks in turn, each on what the ones before it left."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.attacks.apgd import APGD
from robustkit.attacks.fab import FAB
from robustkit.attacks.fits import require_norm
from robustkit.attacks.square import Square
from robustkit.contracts import Threat
from robustkit.norms import distance
from robustkit.params import UsageError, check, param


@dataclass(frozen=True, kw_only=True)
class AutoAttack:
    """AutoAttack, standard version (Croce & Hein 2020, https://arxiv.org/abs/2003.01690), in linf and l2.

    APGD on the cross-entropy; APGD on the targeted DLR loss and FAB, each at the 9 likeliest wrong classes; Square.
    Each runs on what still stands, once, and leaves a sample alone as soon as it falls.

    Departs from the paper: FAB leaves a sample alone once it fell in the ball, where the paper goes on to the
    shortest distance; below 10 classes all wrong ones are aimed at.

    Fields:
        steps: of APGD and FAB; other than 100 is not AutoAttack.
        queries: of Square; other than 5000 is not AutoAttack.

    Shapes: x (N, C, H, W) float in [0, 1]; y (N,) int64 labels; returns like x. What stands comes back as
    APGD on the cross-entropy left it.
    Errors: UsageError where the model has fewer than 4 classes.
    Cost of one that does not fall: 10 · (steps forward and backward passes) of APGD, 9 · steps · (2 forward and 1
    backward) of FAB, `queries` forward of Square.
    """

    steps: int = param(100, "of APGD and FAB; other than 100 is not AutoAttack", low=1)
    queries: int = param(5000, "of Square; other than 5000 is not AutoAttack", low=1)

    def __post_init__(self) -> None:
        check(self)

    @torch.no_grad()  # but for the passes that say otherwise
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        require_norm("autoattack", threat, ("linf", "l2"))
        best = x.clone()
        if not len(x):
            return best
        logits = model(x)
        if logits.shape[1] < 4:
            raise UsageError(
                f"autoattack needs at least 4 classes for its targeted DLR loss and the model has {logits.shape[1]}; "
                "use apgd with the cross-entropy, or square"
            )
        rows = (logits.argmax(dim=1) == y).nonzero().squeeze(1)
        for stage in range(4):
            if not len(rows):
                break
            found = self._stage(stage, model, x[rows], y[rows], threat)
            fallen = (model(found).argmax(dim=1) != y[rows]) & (
                distance(found, x[rows], threat.norm) <= threat.allowance
            )
            kept = fallen if stage else torch.ones_like(fallen)
            best[rows[kept]] = found[kept]
            rows = rows[~fallen]
        return best

    def polish(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """APGD on the DLR loss, a tenth of the steps, from where the search ended."""
        return APGD(steps=self.steps, loss="dlr").polish(model, x, x_adv, y, threat)

    def _stage(self, stage: int, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        if stage == 0:
            return APGD(steps=self.steps)(model, x, y, threat)
        if stage == 1:
            return APGD(steps=self.steps, loss="dlr_targeted")(model, x, y, threat)
        if stage == 2:
            return FAB(steps=self.steps, aimed=True).search(model, x, y, threat.norm, enough=threat.eps)
        return Square(queries=self.queries)(model, x, y, threat)
