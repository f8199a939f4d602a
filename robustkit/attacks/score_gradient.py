"""NES and SPSA: projected ascent along gradients that are estimated from scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from robustkit.attacks.climb import usual_step
from robustkit.attacks.fits import require_norm
from robustkit.attacks.losses import Loss, named, reached
from robustkit.contracts import Threat
from robustkit.norms import per_sample, project, steepest
from robustkit.params import check, param

Draw = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class NES:
    """Natural evolution strategies (Ilyas et al. 2018, https://arxiv.org/abs/1804.08598).

    g = Σ u (f(x + σu) − f(x − σu)) / (2σn) over n Gaussian directions u, then a projected step along it: sign in linf,
    normalised in l2. f is the margin, or the cross-entropy of the softmax.

    Departs from the paper: untargeted unless asked for, with all scores known and a step size that stays; what has
    fallen makes no more queries.

    Fields:
        queries: forward passes of a sample at most.
        directions: pairs of passes an estimate.
        sigma: length of the probes a value.
        step_size: None: 2.5 · eps / number of steps, in l2 twice that.
        loss: what is maximised.
        targeted: y are classes to reach, not labels to leave.

    Shapes: x (N, C, H, W) float in [0, 1]; y (N,) int64; returns like x.
    Cost: at most `queries` forward passes a sample, no backward pass: 2 · directions + 1 a step.
    """

    queries: int = param(5000, "forward passes of a sample at most", low=3)
    directions: int = param(25, "pairs of passes an estimate", low=1)
    sigma: float = param(0.01, "length of the probes a value", unit="input units", low=1e-6)
    step_size: float | None = param(None, "length of a step; none: from eps and steps", unit="input units", low=0)
    loss: Literal["margin", "cross_entropy"] = param("margin", "what is maximised")
    targeted: bool = param(False, "y are classes to reach")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return self.counted(model, x, y, threat)[0]

    def counted(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> tuple[Tensor, Tensor]:
        """The same, with the number of queries that each sample took until it fell, or altogether, (N,) int64."""
        require_norm("nes", threat, ("linf", "l2"))
        return follow(
            model,
            x,
            y,
            threat,
            draw=torch.randn_like,
            queries=self.queries,
            directions=self.directions,
            sigma=self.sigma,
            step_size=self.step_size,
            loss=named(self.loss, self.targeted),
            targeted=self.targeted,
        )


@dataclass(frozen=True, kw_only=True)
class SPSA:
    """Simultaneous perturbation stochastic approximation (Uesato et al. 2018, https://arxiv.org/abs/1802.05666).

    As `NES`, with directions of random signs instead of Gaussian ones.

    Departs from the paper: steps are those of projected ascent, where the paper takes Adam's; what has fallen
    makes no more queries.

    Fields and cost: as of `NES`.
    """

    queries: int = param(5000, "forward passes of a sample at most", low=3)
    directions: int = param(25, "pairs of passes an estimate", low=1)
    sigma: float = param(0.01, "length of the probes a value", unit="input units", low=1e-6)
    step_size: float | None = param(None, "length of a step; none: from eps and steps", unit="input units", low=0)
    loss: Literal["margin", "cross_entropy"] = param("margin", "what is maximised")
    targeted: bool = param(False, "y are classes to reach")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return self.counted(model, x, y, threat)[0]

    def counted(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> tuple[Tensor, Tensor]:
        """The same, with the number of queries that each sample took until it fell, or altogether, (N,) int64."""
        require_norm("spsa", threat, ("linf", "l2"))
        return follow(
            model,
            x,
            y,
            threat,
            draw=_signs,
            queries=self.queries,
            directions=self.directions,
            sigma=self.sigma,
            step_size=self.step_size,
            loss=named(self.loss, self.targeted),
            targeted=self.targeted,
        )


@torch.no_grad()
def follow(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    draw: Draw,
    queries: int,
    directions: int,
    sigma: float,
    step_size: float | None,
    loss: Loss,
    targeted: bool,
) -> tuple[Tensor, Tensor]:
    """Ascend along estimated gradients, from x itself.

    Args:
        model: as the host gives it; x, y, threat: as for an attack.
        draw: (N, ...) → random directions of that shape.
        queries, directions, sigma, step_size: as in `NES`.
        loss: (logits, y) → (N,), to be maximised.
        targeted: whether reaching y, rather than leaving it, ends the search.

    Returns:
        The adversarial iterate, or the last one, (N, ...), and queries (N,) int64.
    """
    each = 2 * directions + 1
    steps = max(1, (queries - 1) // each)
    length = usual_step(threat, steps) if step_size is None else step_size
    best, used = x.clone(), torch.zeros_like(y)
    index, origin, label, current = torch.arange(len(x), device=x.device), x, y, x.clone()
    for step in range(steps + 1):
        if not len(index):
            break
        fallen = reached(model(current), label, targeted)
        used[index] += 1
        best[index] = current
        standing = ~fallen
        index, origin, label, current = index[standing], origin[standing], label[standing], current[standing]
        if step == steps or not len(index):
            break
        pairs = min(directions, (queries - 2 - step * each) // 2)
        if pairs < 1:
            break
        gradient = estimate(model, current, label, loss, draw, pairs, sigma)
        used[index] += 2 * pairs
        current = project(current + length * steepest(gradient, threat.norm), origin, threat)
    return best, used


def estimate(model: nn.Module, x: Tensor, y: Tensor, loss: Loss, draw: Draw, directions: int, sigma: float) -> Tensor:
    """Mean of u (f(x + σu) − f(x − σu)) / 2σ over random directions u, like x; probes may leave the box."""
    total = torch.zeros_like(x)
    for _ in range(directions):
        direction = draw(x)
        ahead, behind = (loss(model(x + sign * sigma * direction), y).to(x.dtype) for sign in (1, -1))
        total += direction * per_sample((ahead - behind) / (2 * sigma * directions), x)
    return total


def _signs(x: Tensor) -> Tensor:
    return torch.randint(2, x.shape, device=x.device).to(x.dtype) * 2 - 1
