"""The noises of randomized smoothing: how each is drawn, and which radius a probability is worth."""

from __future__ import annotations

import math
from typing import Literal, Protocol

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

from robustkit.certifiers.confidence import Floats
from robustkit.contracts import Norm


class Noise(Protocol):
    """`radius(p)` is 0 at p ≤ 1/2 and grows; `share(r)` is its inverse."""

    @property
    def norm(self) -> Norm: ...

    def draw(self, x: Tensor) -> Tensor: ...
    def radius(self, share: Floats) -> Floats: ...
    def share(self, radius: float) -> float: ...


class Gaussian:
    """N(0, σ²): radius σ Φ⁻¹(p) in l2 (Cohen et al. 2019), over √d in linf, whose ball of eps lies in one of eps √d."""

    def __init__(self, sigma: float, norm: Literal["l2", "linf"], size: int) -> None:
        self.sigma, self.norm = sigma, norm
        self.scale = sigma / math.sqrt(size) if norm == "linf" else sigma

    def draw(self, x: Tensor) -> Tensor:
        return x + self.sigma * torch.randn_like(x)

    def radius(self, share: Floats) -> Floats:
        found: Floats = np.where(share > 0.5, self.scale * ndtri(np.maximum(share, 0.5)), 0.0)
        return found

    def share(self, radius: float) -> float:
        return float(ndtr(radius / self.scale))


class Uniform:
    """Uniform on [−λ, λ]^d: radius 2 λ (p − 1/2) in l1 (Yang et al. 2020, https://arxiv.org/abs/2002.08118)."""

    norm: Norm = "l1"

    def __init__(self, width: float) -> None:
        self.scale = width

    def draw(self, x: Tensor) -> Tensor:
        return x + self.scale * (2 * torch.rand_like(x) - 1)

    def radius(self, share: Floats) -> Floats:
        return 2 * self.scale * np.maximum(share - 0.5, 0.0)

    def share(self, radius: float) -> float:
        return 0.5 + radius / (2 * self.scale)
