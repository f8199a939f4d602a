"""Random resizing and padding of the input."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.contracts import Data, Training
from robustkit.params import check, param


@dataclass(frozen=True, kw_only=True)
class RandomResizePad:
    """Random resizing, then random zero padding, in front of a trained network at every pass (Xie et al. 2018,
    https://arxiv.org/abs/1711.01991), by nearest neighbour, with a draw of its own for each image.

    Departs from the paper in one way: it enlarges 299 pixels to at most 331 for networks that take any size; here
    images shrink by the same ratio and are padded to the size they had, so that every network can be wrapped.

    A defense that is random at inference looks strong to an attack that follows the gradient of one draw (Athalye et
    al. 2018, https://arxiv.org/abs/1802.00420). So wherever a gradient is asked for, logits are averaged over `eot`
    draws (expectation over transformation), and every gradient attack of any library follows the expected gradient.
    Predictions without gradient are those of a single draw.

    Fields:
        smallest: the smallest height as a share of the image's; the paper's ratio is 299/331.
        eot: draws averaged where a gradient is asked for; 1 is the defense as it is.

    Cost: `eot` passes for each pass with gradient.
    """

    smallest: float = param(0.9, "smallest height", unit="share of the image's", low=0.05, high=1)
    eot: int = param(10, "draws averaged where a gradient is asked for", low=1)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        return ResizedPadded(model, self.smallest, self.eot)


class ResizedPadded(nn.Module):
    """A network that sees each image at another size and place: (N, C, H, W) in [0, 1] → logits (N, K)."""

    def __init__(self, network: nn.Module, smallest: float, eot: int) -> None:
        super().__init__()
        self.network = network
        self._smallest, self._eot = smallest, eot

    def forward(self, x: Tensor) -> Tensor:
        draws = self._eot if torch.is_grad_enabled() and x.requires_grad else 1
        logits: Tensor = self.network(resize_pad(x, self._smallest))
        for _ in range(draws - 1):
            logits = logits + self.network(resize_pad(x, self._smallest))
        return logits / draws


def resize_pad(x: Tensor, smallest: float) -> Tensor:
    """Each of (N, C, H, W) shrunk to a height between smallest · H and H, at a random place on zeros.

    Drawn from torch's global generator. The gradient flows back to the pixels that are still seen.
    """
    count, _, height, width = x.shape
    least = max(1, round(smallest * height))
    heights = torch.randint(least, height + 1, (count, 1), device=x.device)
    widths = (heights * width / height).round().long().clamp_min(1)
    rows, rows_inside = _source(heights, height)
    columns, columns_inside = _source(widths, width)
    sample = torch.arange(count, device=x.device)[:, None, None]
    picked = x.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]]  # (N, H, W, C)
    inside = rows_inside[:, :, None] & columns_inside[:, None, :]  # (N, H, W)
    return (picked * inside[..., None]).permute(0, 3, 1, 2).contiguous()


def _source(sizes: Tensor, whole: int) -> tuple[Tensor, Tensor]:
    """For sizes (N, 1) at random offsets: which of `whole` pixels each new one shows, and whether it shows any.

    Both are (N, whole).
    """
    room = whole - sizes
    offset = (torch.rand(sizes.shape, device=sizes.device) * (room + 1)).long().clamp_max(room)
    place = torch.arange(whole, device=sizes.device) - offset
    inside = (place >= 0) & (place < sizes)
    return (place * whole // sizes).clamp(0, whole - 1), inside
