"""A threat model whose radius differs from image to image of a batch."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustkit.contracts import Threat
from robustkit.norms import distance, per_sample, project


@dataclass(frozen=True)
class Radii(Threat):
    """Image i of a batch may be moved by shares[i] · eps; (B,) between 0 and 1."""

    shares: Tensor = field(compare=False, repr=False)


def share_of(threat: Threat, x: Tensor) -> Tensor | float:
    """What to multiply steps of length eps with: 1, or (B, 1, ..., 1)."""
    return per_sample(threat.shares, x) if isinstance(threat, Radii) else 1.0


def part_of(threat: Threat, which: slice) -> Threat:
    """The threat model of some images of a batch."""
    return Radii(threat.norm, threat.eps, threat.shares[which]) if isinstance(threat, Radii) else threat


def pull_back(point: Tensor, x: Tensor, threat: Threat) -> Tensor:
    """A point of each image's own ball ∩ box; where all have one radius, `norms.project`.

    Own radii: into the ball of eps, then further: linf cuts off each coordinate, l2 and l1 shrink towards x, which
    cannot leave the box. In l1 that is not the nearest point.
    """
    point = project(point, x, threat)
    if not isinstance(threat, Radii):
        return point
    radius = threat.shares * threat.eps  # (B,)
    if threat.norm == "linf":
        width = per_sample(radius, x)
        return torch.minimum(torch.maximum(point, x - width), x + width).clamp(0, 1)
    length = distance(point, x, threat.norm)
    shrink = torch.where(length > radius, radius / length.clamp_min(1e-30), 1.0)
    return (x + (point - x) * per_sample(shrink, x)).clamp(0, 1)
