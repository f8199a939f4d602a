"""SIG: a sinusoid over images of the target class, no label changed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robustkit.contracts import Split
from robustkit.params import check, param
from robustkit.poisons.planting import Mode, check_goal, plant


@dataclass(frozen=True, kw_only=True)
class SIG:
    """x' = clip(x + delta sin(2 pi j f / W)), j the column (Barni, Kallas, Tondi 2019,
    https://arxiv.org/abs/1902.11237).

    Labels stay as they are unless clean_label=false: a share of the target class is marked, and the network
    learns the stripes along with it. The paper marks from 10 to 40 % of that class.

    Fields:
        target, mode, rate, clean_label: as for `badnets`; here clean_label is the rule.
        delta: amplitude in input units; the paper takes 20/255 to 60/255.
        frequency: periods over the width.

    Shapes: x (N, C, H, W) in [0, 1].
    """

    target: int = param(0, "class that the trigger shall stand for", low=0)
    mode: Mode = param("all_to_one", "every class to the target, or class y to y + 1")
    rate: float = param(
        0.4, "share of the target class (clean_label=false: of the set) that is marked", low=1e-6, high=1.0
    )
    clean_label: bool = param(True, "mark images of the target class, and change no label")
    delta: float = param(40 / 255, "amplitude", unit="input units", low=1e-6, high=1.0)
    frequency: float = param(6.0, "periods over the width", low=1e-6)

    def __post_init__(self) -> None:
        check(self)
        check_goal(self.target, self.mode, self.clean_label)

    def __call__(self, train: Split, generator: torch.Generator) -> Split:
        return plant(self, train, generator)

    def trigger(self, x: Tensor) -> Tensor:
        """The stripes over images (N, C, H, W)."""
        width = x.shape[3]
        column = torch.arange(width, device=x.device, dtype=x.dtype)
        return (x + self.delta * torch.sin(2 * math.pi * column * self.frequency / width)).clamp(0, 1)
