"""An attack that knows the detector: adversarial inputs that it takes for clean ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.attacks.climb import usual_step
from robustkit.attacks.fits import require_norm
from robustkit.attacks.losses import margin
from robustkit.contracts import Threat
from robustkit.host import default_host
from robustkit.norms import per_sample, project, random_start, steepest
from robustkit.params import UsageError, check, param

Suspicion = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Evade:
    """Selective projected gradient descent (Bryniarski et al. 2021, https://arxiv.org/abs/2106.15023).

    Each step climbs one of two losses: the margin where the input is still classified right, minus the detector's
    score where it is not. So neither needs a weight against the other. Of the misclassified points on the way the
    least suspicious is returned; without one, that of the largest margin.

    What the detector was fitted to is not known to it: a detector that is fitted to clean images is fitted anew, to
    those that are attacked and their labels. It does not know the threshold either, and goes on to the last step.

    Fields:
        detector: of inputs, by name, with a method `suspicion` (see `robustkit.contracts.Detector`).
        steps: of the search.
        step_size: in input units; none: 2.5 · eps / steps in linf, 5 in l2 and l1.

    Shapes: x (N, C, H, W) float in [0, 1]; y (N,) int64; returns like x.
    Errors: UsageError where there is no such detector, or where its score has no gradient.
    Cost: steps + 1 forward and steps backward passes a sample, and as many through the detector, which for
        feature_squeezing are 3 forward and 3 backward passes each.
    """

    detector: str = param("feature_squeezing", "of inputs, whose score is kept low")
    steps: int = param(100, "gradient evaluations", low=1)
    step_size: float | None = param(
        None, "length of a step; none: 2.5 eps / steps, 5 in l2 and l1", unit="input units", low=0
    )

    def __post_init__(self) -> None:
        check(self)
        self._detector()

    @torch.no_grad()  # but for the passes that say otherwise
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        require_norm("evade", threat)
        suspicion: Suspicion = self._detector()(model, x, y)
        length = usual_step(threat, self.steps) if self.step_size is None else self.step_size
        current = random_start(x, threat)
        best = x.clone()
        has = torch.zeros(len(x), dtype=torch.bool, device=x.device)  # a misclassified point
        value = torch.full((len(x),), -torch.inf, dtype=torch.float64, device=x.device)
        for step in range(self.steps + 1):
            gradient, fooled, apart, score = _selective(model, suspicion, current, y)
            reached = torch.where(fooled, -score, apart)
            better = (fooled & ~has) | ((fooled == has) & (reached > value))
            best = torch.where(per_sample(better, best), current, best)
            value, has = torch.where(better, reached, value), has | fooled
            if step < self.steps:
                current = project(current + length * steepest(gradient, threat.norm, current), x, threat)
        return best

    def _detector(self) -> Callable[[nn.Module, Tensor, Tensor], Suspicion]:
        component = default_host().build("detector", self.detector)
        found = getattr(component.value, "suspicion", None)
        if found is None:
            raise UsageError(
                f"evade: detector={self.detector} has no method suspicion, the score that gradients pass; "
                "feature_squeezing and mahalanobis have"
            )
        return found  # type: ignore[no-any-return]


def _selective(model: nn.Module, suspicion: Suspicion, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The direction to go, (N, ...) like x; (N,) bool: misclassified; and margins and scores, (N,) float64.

    Raises:
        UsageError: the score has no gradient with respect to the input.
    """
    with torch.enable_grad():
        point = x.detach().requires_grad_()
        apart = margin(model(point), y)
        score = suspicion(point)
        if not score.requires_grad:
            raise UsageError("evade: the detector's score has no gradient with respect to the input")
        fooled = apart.detach() > 0
        loss = torch.where(fooled, -score.to(apart.dtype), apart)
        (gradient,) = torch.autograd.grad(loss.sum(), point)
    return gradient, fooled, apart.detach().double(), score.detach().double()
