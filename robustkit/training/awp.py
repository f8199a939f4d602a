"""Adversarial weight perturbation, around any method."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

AWP_HELP = "size of an adversarial weight perturbation relative to the weights (Wu et al. 2020); 0: none"

_TINY = 1e-20


@contextlib.contextmanager
def perturbed_weights(
    model: nn.Module,
    loss: Callable[[], Tensor],
    gamma: float,
    average: Callable[[Iterable[Tensor]], None] = lambda gradients: None,
) -> Iterator[None]:
    """The weights at w + v for as long as the block lasts (Wu et al. 2020, https://arxiv.org/abs/2004.05884).

    v = gamma · ‖w‖ · ∇ / ‖∇‖ for each layer, with the gradient of the loss: one step that makes the loss on the
    same adversarial examples worse. The optimiser's step belongs into the block: it follows the gradient at w + v, and
    v is taken off again afterwards. Only weights of two or more dimensions are perturbed, no biases and nothing
    of BatchNorm, whose running statistics don't take part in the pass for v.

    The reference finds v on a copy of the network by a step of plain gradient descent; its length cancels out.

    Args:
        model: whose weights are moved in place.
        loss: makes a forward pass through `model`.
        gamma: relative size of v; 0 leaves everything as it is. The paper's are 0.01 for PGD training and 0.005 for
            TRADES.
        average: of gradients over the processes that train together, in place.

    Cost: one forward and one backward pass more for each update.
    """
    if gamma == 0:
        yield
        return
    weights = [w for name, w in model.named_parameters() if name.endswith("weight") and w.ndim > 1 and w.requires_grad]
    statistics = [(buffer, buffer.clone()) for buffer in model.buffers()]
    gradients = torch.autograd.grad(loss(), weights, allow_unused=True)
    average(gradient for gradient in gradients if gradient is not None)
    with torch.no_grad():
        for buffer, before in statistics:
            buffer.copy_(before)
        moved = [
            (w, gradient * (gamma * w.norm() / (gradient.norm() + _TINY)))
            for w, gradient in zip(weights, gradients, strict=True)
            if gradient is not None
        ]
        for w, v in moved:
            w.add_(v)
    try:
        yield
    finally:
        with torch.no_grad():
            for w, v in moved:
                w.sub_(v)
