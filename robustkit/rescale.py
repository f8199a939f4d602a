"""Gradients of a network in float16 that don't vanish."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn


class Rescaled(nn.Module):
    """A network whose backward pass runs on gradients of a handy size, sample by sample.

    float16 ends at 6e-8, and the gradient of the cross-entropy of a confident sample is smaller than that. In
    eval mode a sample's input gradient is linear in the gradient of its own logits, so this one is divided by
    its largest entry on the way in, and the input gradient multiplied by it on the way out. Loss scaling
    (Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740) does the same with one constant for the batch.
    Gradients of parameters would come out wrong: for frozen networks alone.

    Args:
        network: float32 (N, ...) → float32 logits (N, K), samples independent of one another.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        size: list[Tensor] = []  # (N, 1) of this pass, filled in by its backward pass
        logits = self.network(_Grow.apply(x, size))
        return cast(Tensor, _Shrink.apply(logits, size))


class _Shrink(torch.autograd.Function):
    """Identity on the logits; backwards, divides by the largest entry of each sample."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, size: list[Tensor]) -> Tensor:
        ctx.size = size
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        largest = gradient.detach().abs().amax(dim=1, keepdim=True)  # (N, 1)
        largest = torch.where(largest > 0, largest, torch.ones_like(largest))
        ctx.size[:] = [largest]
        return gradient / largest, None


class _Grow(torch.autograd.Function):
    """Identity on the input; backwards, multiplies by what `_Shrink` divided by. What overflowed becomes 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: list[Tensor]) -> Tensor:
        ctx.size = size
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        size = ctx.size[0].reshape(-1, *[1] * (gradient.ndim - 1))
        return gradient.nan_to_num(0.0, 0.0, 0.0) * size, None
