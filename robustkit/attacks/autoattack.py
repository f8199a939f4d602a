"""AutoAttack: four attacks in turn, each on what the ones before it left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from robustkit.attacks.apgd import APGD
from robustkit.attacks.fab import FAB
from robustkit.attacks.fits import require_norm
from robustkit.attacks.fmn import FMN
from robustkit.attacks.square import Square
from robustkit.contracts import Norm, Threat
from robustkit.norms import distance
from robustkit.params import UsageError, check, param

Stage = APGD | FAB | FMN | Square


@dataclass(frozen=True, kw_only=True)
class AutoAttack:
    """AutoAttack, standard version (Croce & Hein 2020, https://arxiv.org/abs/2003.01690; l1: 2021,
    https://arxiv.org/abs/2103.01208), and a shorter form of it.

    form=standard: APGD on the cross-entropy, 100 steps (l1: 5 restarts); APGD on the targeted DLR loss at the 9 (l1:
    5) likeliest wrong classes, 100 steps each; FAB at each of 9, 100 steps; Square, 5000 queries.
    form=fast is another ensemble, of short searches of many kinds. linf: APGD on the cross-entropy, 50 steps; FAB, 50;
    FMN, 30; APGD on the targeted DLR loss at each of the 3 likeliest wrong classes, 30; Square, 1000 queries. l2: the
    same, before the targeted APGD FAB at each of 4 classes, 30 steps, and Square with 5000 queries, which gives
    up what makes no way. l1: APGD, 30 steps, 3 restarts; on the targeted DLR loss at each of 3 classes, 30
    steps, 3 restarts; FAB, 100 steps; Square as in l2. What was measured of both forms:
    benchmarks/results/autoattack.md.

    Each runs on what still stands, once, and leaves a sample alone as soon as it falls.

    Departs from the paper: FAB leaves a sample alone once it fell in the ball, where the paper goes on to the
    shortest distance; below 10 classes all wrong ones are aimed at.

    Fields:
        form: "standard" is what published numbers were measured with; "fast" is stated beside a number it gave.
        steps: of every gradient attack; none: the form's. Other than that is not AutoAttack.
        queries: of Square; none: the form's. Other than that is not AutoAttack.

    Shapes: x (N, C, H, W) float in [0, 1]; y (N,) int64 labels; returns like x. What stands comes back as
    the first attack left it.
    Errors: UsageError where the model has fewer than 4 classes.
    Cost of one that does not fall, standard: 10 · (steps forward and backward passes) of APGD, 9 · steps · (2 forward
    and 1 backward) of FAB, `queries` forward of Square: 9,700 passes. Fast: about 1,500; in l2 and l1
    5,900 where Square goes on.
    """

    form: Literal["standard", "fast"] = param("standard", "which attacks, and how long")
    steps: int | None = param(None, "of every gradient attack; none: the form's", low=1)
    queries: int | None = param(None, "of Square; none: the form's", low=1)

    def __post_init__(self) -> None:
        check(self)

    @torch.no_grad()  # but for the passes that say otherwise
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        require_norm("autoattack", threat)
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
        for place, stage in enumerate(self.stages(threat.norm)):
            if not len(rows):
                break
            if isinstance(stage, FAB):
                found = stage.search(model, x[rows], y[rows], threat.norm, enough=threat.eps)
            else:
                found = stage(model, x[rows], y[rows], threat)
            fallen = (model(found).argmax(dim=1) != y[rows]) & (
                distance(found, x[rows], threat.norm) <= threat.allowance
            )
            kept = fallen if place else torch.ones_like(fallen)
            best[rows[kept]] = found[kept]
            rows = rows[~fallen]
        return best

    def stages(self, norm: Norm) -> tuple[Stage, ...]:
        """The attacks in their order, as this form has them in this norm."""
        return self._standard(norm) if self.form == "standard" else self._fast(norm)

    def _standard(self, norm: Norm) -> tuple[Stage, ...]:
        steps, sparse = self.steps or 100, norm == "l1"
        return (
            APGD(steps=steps, restarts=5 if sparse else 1),
            APGD(steps=steps, loss="dlr_targeted", classes=5 if sparse else 9),
            FAB(steps=steps, aimed=True),
            Square(queries=self.queries or 5000),
        )

    def _fast(self, norm: Norm) -> tuple[Stage, ...]:
        steps = self.steps
        if norm == "l1":
            return (
                APGD(steps=steps or 30, restarts=3),
                APGD(steps=steps or 30, restarts=3, loss="dlr_targeted", classes=3),
                FAB(steps=steps or 100),
                Square(queries=self.queries or 5000, give_up=True),
            )
        ratio = APGD(steps=steps or 30, loss="dlr_targeted", classes=3)
        brief = (APGD(steps=steps or 50), FAB(steps=steps or 50), FMN(steps=steps or 30))
        if norm == "linf":
            return (*brief, ratio, Square(queries=self.queries or 1000))
        aimed = FAB(steps=steps or 30, aimed=True, classes=4)
        return (*brief, aimed, ratio, Square(queries=self.queries or 5000, give_up=True))

    def polish(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """APGD on the DLR loss, a tenth of the steps, from where the search ended."""
        return APGD(steps=self.steps or 100, loss="dlr").polish(model, x, x_adv, y, threat)
