"""Random shifts, crops and flips of a batch, one draw a sample."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

_PAD = {"shift": 2, "crop_flip": 4}


def augment(x: Tensor, kind: Literal["none", "shift", "crop_flip"], generator: torch.Generator) -> Tensor:
    """Augment (N, C, H, W) images; draws come from `generator` on the CPU, so devices agree.

    "shift" moves by up to 2 pixels, "crop_flip" by up to 4 and mirrors half of the images; what comes in at
    the edge is 0.
    """
    if kind == "none":
        return x
    count, _, height, width = x.shape
    pad = _PAD[kind]
    top = torch.randint(0, 2 * pad + 1, (count, 1), generator=generator)
    left = torch.randint(0, 2 * pad + 1, (count, 1), generator=generator)
    rows = top + torch.arange(height)  # (N, H)
    columns = left + torch.arange(width)  # (N, W)
    if kind == "crop_flip":
        mirrored = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    padded = F.pad(x, (pad, pad, pad, pad))
    sample = torch.arange(count)[:, None, None]
    picked = padded.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]]  # (N, H, W, C)
    return picked.permute(0, 3, 1, 2).contiguous()
