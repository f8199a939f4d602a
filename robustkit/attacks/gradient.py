"""The gradient of a loss with respect to the input, and nothing else."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustkit.attacks.losses import Loss


def input_gradient(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
    """∇ₓ Σ loss(model(x), y), with the logits of the same pass.

    `torch.autograd.grad` with respect to x alone: parameter gradients are neither computed nor accumulated
    where the parameters are frozen, and never written to `.grad`.

    Returns:
        gradient (N, ...) like x; values (N,) of the loss; logits (N, K), detached.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits = model(x)
        values = loss(logits, y)
        (gradient,) = torch.autograd.grad(values.sum(), x)
    return gradient, values.detach(), logits.detach()
