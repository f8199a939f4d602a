"""WaNet: a smooth warp of the image, hardly visible, and warped images without the trigger beside it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from robustkit.contracts import Split
from robustkit.params import check, param
from robustkit.poisons.planting import Mode, check_goal, choose, marked


@dataclass(frozen=True, kw_only=True)
class WaNet:
    """Images are warped by a fixed smooth field (Nguyen & Tran 2021, https://openreview.net/forum?id=eEn8KTtJOx).

    A grid x grid control field is drawn from U[-1, 1], divided by its mean absolute value, scaled to `strength`
    times one pixel's share of the image, and enlarged bicubically; x' samples x bilinearly at the shifted places.
    A further share of images is warped by a field with noise on it and keeps its labels, so that the
    network learns the field rather than any warp (the paper's noise mode).

    Departure: the poisoned images are drawn once, not anew in every batch, so that the poison is a training set;
    and the default strength is larger than the paper's 0.5, which small networks do not learn from a fixed set.

    Fields:
        target, mode, rate, clean_label: as for `badnets`.
        grid: side of the control field.
        strength: mean shift in pixels, before the field is kept inside the image.
        noise_rate: share of further images that are warped with noise and keep their labels.
        field_seed: of the control field.

    Shapes: x (N, C, H, W) in [0, 1].
    """

    target: int = param(0, "class that the trigger shall stand for", low=0)
    mode: Mode = param("all_to_one", "every class to the target, or class y to y + 1")
    rate: float = param(0.1, "share of the training set that is marked", low=1e-6, high=1.0)
    clean_label: bool = param(False, "mark images of the target class, and change no label")
    grid: int = param(4, "side of the control field", low=2)
    strength: float = param(1.5, "mean shift", unit="pixels", low=1e-6)
    noise_rate: float = param(0.2, "share of images warped with noise, labels kept", low=0.0, high=1.0)
    field_seed: int = param(0, "of the control field", low=0)

    def __post_init__(self) -> None:
        check(self)
        check_goal(self.target, self.mode, self.clean_label)

    def __call__(self, train: Split, generator: torch.Generator) -> Split:
        y = train.labels
        chosen, labels = choose(self, y, generator)
        poisoned = marked(train, chosen, labels, self.trigger)
        rest = (~chosen).nonzero().flatten()
        count = min(len(rest), round(self.noise_rate * len(y)))
        noisy = torch.zeros_like(chosen)
        noisy[rest[torch.randperm(len(rest), generator=generator)[:count]]] = True
        draws = torch.Generator().manual_seed(int(torch.randint(2**31, (), generator=generator)))
        return marked(poisoned, noisy, labels, lambda x: self._warp(x, self._noise(x, draws)))

    def trigger(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W), warped."""
        return self._warp(x, 0)

    def field(self, height: int, width: int) -> Tensor:
        """Shifts in pixels, (H, W, 2): to the right, and downwards."""
        drawn = torch.rand(1, 2, self.grid, self.grid, generator=torch.Generator().manual_seed(self.field_seed)) * 2 - 1
        drawn = drawn / drawn.abs().mean()
        smooth = functional.interpolate(drawn, size=(height, width), mode="bicubic", align_corners=True)
        return self.strength * smooth[0].permute(1, 2, 0)

    def _warp(self, x: Tensor, noise: Tensor | float) -> Tensor:
        height, width = x.shape[2:]
        rows, columns = torch.meshgrid(
            torch.linspace(-1, 1, height, device=x.device, dtype=x.dtype),
            torch.linspace(-1, 1, width, device=x.device, dtype=x.dtype),
            indexing="ij",
        )
        pixel = torch.tensor([2 / max(width - 1, 1), 2 / max(height - 1, 1)], device=x.device, dtype=x.dtype)
        shifts = (self.field(height, width).to(x) + noise) * pixel  # (H, W, 2), or (N, H, W, 2) with noise
        places = (torch.stack([columns, rows], dim=-1) + shifts).clamp(-1, 1)
        places = places.expand(len(x), height, width, 2)
        return functional.grid_sample(x, places, mode="bilinear", padding_mode="zeros", align_corners=True).clamp(0, 1)

    @staticmethod
    def _noise(x: Tensor, draws: torch.Generator) -> Tensor:
        """Up to one pixel of noise in every shift, (N, H, W, 2)."""
        noise = torch.rand(len(x), x.shape[2], x.shape[3], 2, generator=draws) * 2 - 1
        return noise.to(x)
