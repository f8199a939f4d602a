"""What the last linear layer of a network is given: the features that several detectors share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustkit.contracts import Split
from robustkit.params import UsageError

_AT_ONCE = 500


def device_of(model: nn.Module) -> torch.device:
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


@torch.no_grad()
def features(model: nn.Module, split: Split, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Features (N, D) float64, predictions (N,) and labels (N,), all on the CPU.

    Args:
        model: with a linear layer; the last one is read.
        split: the images.
        name: of the detector, for messages.

    Raises:
        UsageError: no linear layer, or no images.
    """
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UsageError(f"{name}: the network has no linear layer whose input could be read")
    if not len(split):
        raise UsageError(f"{name}: there are no images")
    device = device_of(model)
    rows: list[Tensor] = []
    said: list[Tensor] = []
    hook = linear[-1].register_forward_pre_hook(lambda module, given: rows.append(given[0].detach().flatten(1).cpu()))
    try:
        for index in torch.split(torch.arange(len(split)), _AT_ONCE):
            said.append(model(split.batch(index)[0].to(device)).argmax(dim=1).cpu())
    finally:
        hook.remove()
    return torch.cat(rows).double(), torch.cat(said), split.labels


@torch.no_grad()
def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """Logits (N, K) on the CPU, of images (N, C, H, W)."""
    device = device_of(model)
    return torch.cat([model(part.to(device)).float().cpu() for part in torch.split(x, _AT_ONCE)])


def threshold(clean: Tensor, fpr: float) -> float:
    """The score that a share `fpr` of clean inputs exceeds."""
    return float(torch.quantile(clean.double(), 1 - fpr))
