"""The gradient of a loss with respect to the input, and nothing else."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustkit.attacks.losses import Loss
from robustkit.params import UsageError


def input_gradient(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
    """∇ₓ Σ loss(model(x), y), with the logits of the same pass.

    `torch.autograd.grad` with respect to x alone: the gradients of the parameters are neither computed nor
    written to `.grad`, frozen or not.

    Returns:
        gradient (N, ...) like x; values (N,) of the loss; logits (N, K), detached.

    Raises:
        UsageError: the output does not depend on the input in a way that autograd can follow.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits = model(x)
        values = loss(logits, y)
        gradient = None
        if values.requires_grad:
            (gradient,) = torch.autograd.grad(values.sum(), x, allow_unused=True)
    if gradient is None:
        raise UsageError(
            "the model's output has no gradient with respect to its input, so gradient attacks say nothing about "
            "it; use noise, or an attack that needs scores or decisions alone"
        )
    return gradient, values.detach(), logits.detach()
