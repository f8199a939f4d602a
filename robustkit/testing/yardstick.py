"""A linear classifier on which every norm's smallest adversarial distance is known in closed form.

Each class k owns a group of pixels with weights w_k of equal length and random sign, and its logit is
T (w_k · (x - 0.5)) + 1. A sample of class y with rival r is x = 0.5 + (c w_y + (c - d) w_r) / |w|², so that
z_y - z_r = T d and all other logits lie far below. To close the gap d in the direction w_y - w_r needs
exactly d / |w_y - w_r|_1 in linf, d / |w_y - w_r|_2 in l2, d / |w_y - w_r|_inf in l1, and in l0 the fewest
pixels whose moves to the end of the box add up to d. By symmetry the margin is the same for every sample, and
the box binds in l0 alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from robustkit.contracts import Norm, Shape, Threat

if TYPE_CHECKING:
    from torch import Tensor

SHAPE: Shape = (3, 8, 8)
CLASSES = 10


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """Inputs of a linear model with one known margin.

    Args:
        model: float (N, 3, 8, 8) in [0, 1] → logits (N, 10), linear.
        x: (N, 3, 8, 8) float32 in [0.2, 0.8].
        y: (N,) int64, the class that the model gives them.
        rival: (N,) int64, the class on the other side of the nearest boundary.
        norm: of the margin.
        margin: input units (l0: changed values); no smaller perturbation changes a prediction.
    """

    model: nn.Module
    x: Tensor
    y: Tensor
    rival: Tensor
    norm: Norm
    margin: float

    def threat(self, factor: float) -> Threat:
        """The ball of `factor` times the margin."""
        return Threat(self.norm, factor * self.margin)


def yardstick(norm: Norm, *, samples: int = 10) -> Yardstick:
    """Build the yardstick of `norm`; the same call gives the same tensors."""
    features = SHAPE[0] * SHAPE[1] * SHAPE[2]
    group = features // CLASSES
    generator = torch.Generator().manual_seed(7)
    sizes = torch.linspace(0.75, 1.4, group).clamp(max=1.25)  # several pixels share the largest weight
    places = torch.randperm(features, generator=generator)
    signs = torch.randint(0, 2, (CLASSES, group), generator=generator) * 2.0 - 1.0
    weight = torch.zeros(CLASSES, features)  # (K, D)
    for k in range(CLASSES):
        weight[k, places[k * group : (k + 1) * group]] = sizes * signs[k]
    length = (sizes**2).sum()
    reach = 0.195 * length  # c: the largest offset of a pixel is 1.25 * 0.195
    gap = 2.3 if norm == "l0" else float(reach) / 10  # d
    scale = 3.0 / gap  # T: the rival keeps a probability of about 5 %, so that gradients don't vanish

    y = torch.arange(samples) % CLASSES
    rival = (y + 1 + torch.arange(samples) // CLASSES) % CLASSES
    x = 0.5 + (reach * weight[y] + (reach - gap) * weight[rival]) / length  # (N, D)

    layer = nn.Linear(features, CLASSES)
    with torch.no_grad():
        layer.weight.copy_(scale * weight)
        layer.bias.copy_(1.0 - scale * 0.5 * weight.sum(dim=1))
    model = nn.Sequential(nn.Flatten(), layer).eval()
    return Yardstick(
        model=model,
        x=x.reshape(samples, *SHAPE),
        y=y,
        rival=rival,
        norm=norm,
        margin=_margin(x[0], weight[y[0]] - weight[rival[0]], gap, norm),
    )


def network() -> nn.Module:
    """A small untrained network with what attacks upset: batch normalisation and dropout. In eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        body = nn.Sequential(
            nn.Conv2d(SHAPE[0], 8, 3, stride=2, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Flatten(),
            nn.Linear(8 * 4 * 4, CLASSES),
        )
    return body.eval()


def images(samples: int = 5) -> Tensor:
    """(N, 3, 8, 8) in [0, 1]; a third of the values are exactly 0 or 1, where box and ball meet."""
    x = torch.rand((samples, *SHAPE), generator=torch.Generator().manual_seed(13))
    return ((x - 0.5) * 1.5 + 0.5).clamp(0, 1)


def labels(model: nn.Module, x: Tensor) -> Tensor:
    """What the model says of x, so that every sample is worth attacking."""
    with torch.no_grad():
        logits: Tensor = model(x)
    return logits.argmax(dim=1)


def _margin(x: Tensor, normal: Tensor, gap: float, norm: Norm) -> float:
    """Closed form for one sample (D,) and the difference of two classes' weights (D,)."""
    if norm == "linf":
        return gap / float(normal.abs().sum())
    if norm == "l2":
        return gap / float(normal.norm())
    if norm == "l1":
        return gap / float(normal.abs().max())
    gains = torch.where(normal > 0, normal * x, normal * (x - 1))  # the most one pixel can take off the gap
    total = gains.sort(descending=True).values.cumsum(dim=0)
    return int((total <= gap).sum()) + 1
