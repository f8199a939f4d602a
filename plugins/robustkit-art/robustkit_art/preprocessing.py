"""ART's preprocessors as defenses that wrap a trained network: what it sees is compressed, squeezed or smoothed.

ART gives them the identity for a gradient where it knows no better (BPDA, Athalye et al. 2018), and so does this:
attacks see the network's gradient at the processed input. They run on NumPy on the CPU, in float32.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from robustkit.params import UsageError, check, param
from robustkit_art.library import preprocessor as art

if TYPE_CHECKING:
    from torch import Tensor

    from robustkit.contracts import Data, Training

_CLIP = (0.0, 1.0)


class Preprocessed(nn.Module):
    """A network behind an ART preprocessor.

    Args:
        network: float (N, C, H, W) in [0, 1] → logits (N, K).
        step: the ART preprocessor.
        channels_last: it takes (N, H, W, C).
        differentiable: it maps tensors to tensors, and its own gradient is used.
    """

    def __init__(
        self, network: nn.Module, step: Any, *, channels_last: bool = False, differentiable: bool = False
    ) -> None:
        super().__init__()
        self.network = network
        self._step = (step, channels_last, differentiable)

    def forward(self, x: Tensor) -> Tensor:
        step, channels_last, differentiable = self._step
        if differentiable:
            seen = step.forward(x.float())[0].to(x.dtype)
        else:
            array = x.detach().float().clamp(0, 1).cpu().numpy()
            array = step(array.transpose(0, 2, 3, 1) if channels_last else array)[0]
            array = array.transpose(0, 3, 1, 2) if channels_last else array
            processed = torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(x.device, x.dtype)
            seen = x + (processed - x).detach()  # forward the processed, backward the identity
        logits: Tensor = self.network(seen)
        return logits


@dataclass(frozen=True, kw_only=True)
class JPEG:
    """JPEG compression (`JpegCompression`; Das et al. 2017, https://arxiv.org/abs/1705.02900)."""

    quality: int = param(50, "of the compression", low=1, high=95)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        return Preprocessed(model, art.JpegCompression(clip_values=_CLIP, quality=self.quality, channels_first=True))


@dataclass(frozen=True, kw_only=True)
class FeatureSqueezing:
    """Fewer grey levels (`FeatureSqueezing`; Xu et al. 2018, https://arxiv.org/abs/1704.01155)."""

    bit_depth: int = param(4, "bits a value is left with", low=1, high=16)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        return Preprocessed(model, art.FeatureSqueezing(clip_values=_CLIP, bit_depth=self.bit_depth))


@dataclass(frozen=True, kw_only=True)
class SpatialSmoothing:
    """A median filter (`SpatialSmoothingPyTorch`; Xu et al. 2018), through which the gradient flows."""

    window_size: int = param(3, "side of the window", unit="pixels", low=2)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        if importlib.util.find_spec("kornia") is None:
            raise UsageError("spatial_smoothing needs the package kornia; install it with: pip install kornia")
        if self.window_size > min(data.shape[1:]):
            raise UsageError(f"window_size={self.window_size} is larger than the images, {data.shape[1:]}")
        step = art.SpatialSmoothingPyTorch(
            window_size=self.window_size,
            channels_first=True,
            clip_values=_CLIP,
            device_type="cpu" if training.device == "cpu" else "gpu",
        )
        return Preprocessed(model, step, differentiable=True)


@dataclass(frozen=True, kw_only=True)
class TotalVariation:
    """The smoothest image near some random pixels (`TotalVarMin`; Guo et al. 2018, https://arxiv.org/abs/1711.00117).

    Random pixels are drawn at every pass. Cost: a solution of an optimisation problem for each image and channel.
    """

    prob: float = param(0.3, "share of the pixels that are kept", low=0.0, high=1.0)
    lamb: float = param(0.5, "weight of the variation", low=0.0)
    variation_norm: int = param(2, "norm of the differences (norm)", low=1)
    max_iter: int = param(10, "iterations of the solver", low=1)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        step = art.TotalVarMin(
            prob=self.prob, norm=self.variation_norm, lamb=self.lamb, max_iter=self.max_iter, clip_values=_CLIP
        )
        return Preprocessed(model, step, channels_last=True)


@dataclass(frozen=True, kw_only=True)
class GaussianNoiseInput:
    """Gaussian noise on the input at every pass (`GaussianAugmentation` at prediction)."""

    sigma: float = param(0.1, "standard deviation", unit="input units", low=0.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        step = art.GaussianAugmentation(
            sigma=self.sigma, augmentation=False, clip_values=_CLIP, apply_fit=False, apply_predict=True
        )
        return Preprocessed(model, step)
