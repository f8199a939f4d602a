"""Channel Lipschitzness pruning: channels that react far more than their neighbours are switched off; no data."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.contracts import Data, Training
from robustkit.params import check, param


@dataclass(frozen=True, kw_only=True)
class CLP:
    """Zheng, Tang, Li, Liu 2022 (ECCV, https://arxiv.org/abs/2208.03111).

    The bound of a channel is the largest singular value of its kernel, (C_in, k k) as a matrix, times |gamma / sigma|
    of the BatchNorm behind it; in every convolution the channels above mean + u standard deviations are set to zero,
    with their BatchNorm. Departure: convolutions without BatchNorm are pruned by the singular value alone.

    Fields:
        u: standard deviations above the mean at which a channel is switched off.

    Cost: a singular value decomposition a channel; no data and no training.
    """

    u: float = param(3.0, "standard deviations above the mean at which a channel is switched off", low=0.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        network = copy.deepcopy(model)
        with torch.no_grad():
            for convolution, norm in convolutions(network):
                bound = lipschitz(convolution, norm)
                switch_off(convolution, norm, bound > bound.mean() + self.u * bound.std(unbiased=False))
        return network


def convolutions(network: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d | None]]:
    """Every convolution with the BatchNorm that follows it in the order of the modules, if one of its size does."""
    found: list[tuple[nn.Conv2d, nn.BatchNorm2d | None]] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            found.append((module, None))
        elif isinstance(module, nn.BatchNorm2d) and found and found[-1][1] is None:
            convolution = found[-1][0]
            found[-1] = (convolution, module if convolution.out_channels == module.num_features else None)
    return found


def lipschitz(convolution: nn.Conv2d, norm: nn.BatchNorm2d | None) -> Tensor:
    """(C_out,) bound of each channel."""
    bound: Tensor = torch.linalg.svdvals(convolution.weight.flatten(2))[:, 0]
    if norm is not None and norm.running_var is not None:
        scale = (norm.running_var + norm.eps).rsqrt()
        bound = bound * (scale if norm.weight is None else (norm.weight * scale).abs())
    return bound


def switch_off(convolution: nn.Conv2d, norm: nn.BatchNorm2d | None, channels: Tensor) -> None:
    """Set the channels (C_out,) bool to zero, whatever they are given."""
    convolution.weight[channels] = 0
    if convolution.bias is not None:
        convolution.bias[channels] = 0
    if norm is None:
        return
    if norm.weight is None or norm.bias is None:  # without parameters zero minus the mean is left; so is the mean
        if norm.running_mean is not None:
            norm.running_mean[channels] = 0
        return
    norm.weight[channels] = 0
    norm.bias[channels] = 0
