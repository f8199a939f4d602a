"""A strided convolution whose input gradient is quick on CPUs."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class Strided(nn.Conv2d):
    """The convolution of `nn.Conv2d`, with the same parameters, where the kernel's side is a multiple of the stride.

    Blocks of stride x stride pixels become channels, of the image and of the kernel alike; what remains is a
    convolution of stride 1. Attacks and adversarial training ask for the gradient of the input at every step,
    and CPU libraries have no quick way to it through a strided convolution of few channels: for one channel,
    4 x 4 and stride 2, forward and input gradient of the layer take a fifth of the time. With many channels
    it gains nothing.

    Shapes: (N, C, H, W) → (N, O, floor((H + 2p - k) / s) + 1, likewise), as `nn.Conv2d`.
    """

    def __init__(self, channels: int, out: int, kernel: int, *, stride: int, padding: int = 0) -> None:
        if kernel % stride:
            raise ValueError(f"kernel={kernel} must be a multiple of stride={stride}")
        super().__init__(channels, out, kernel, stride=stride, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        step = self.stride[0]
        blocks = F.pixel_unshuffle(F.pad(x, self._edges(x.shape)), step)  # (N, C·s², ., .)
        return F.conv2d(blocks, F.pixel_unshuffle(self.weight, step), self.bias)

    def transpose(self, y: Tensor, shape: Sequence[int]) -> Tensor:
        """The transpose of the map without its bias: (N, O, ., .) → (N, C, H, W), for inputs of `shape`."""
        step, edges = self.stride[0], self._edges(shape)
        blocks = F.conv_transpose2d(y, F.pixel_unshuffle(self.weight.to(y.dtype), step))
        return F.pad(F.pixel_shuffle(blocks, step), [-edge for edge in edges])

    def _edges(self, shape: Sequence[int]) -> list[int]:
        """Columns left and right, rows above and below that the windows reach beyond the pixels; negative where they
        leave some over.
        """
        step, kernel, before = self.stride[0], self.kernel_size[0], int(self.padding[0])
        edges = []
        for side in (shape[-1], shape[-2]):
            windows = (side + 2 * before - kernel) // step + 1
            edges += [before, step * (windows - 1) + kernel - before - side]
        return edges
