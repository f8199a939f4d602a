"""What is settled before the first step: precision, memory layout, optimiser."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustkit.contracts import Recipe, Training
from robustkit.params import UsageError
from robustkit.precision import Chosen, InPrecision, choose_precision
from robustkit.training.checkpoint import Checkpoint
from robustkit.training.modes import in_eval


def settle_precision(model: nn.Module, example: Tensor, training: Training, found: Checkpoint | None) -> Chosen:
    """As wanted; "auto" is settled by timing, or by what a training that goes on began with."""
    if training.precision == "fp16":
        raise UsageError("precision=fp16 is for attacks; its gradients of weights underflow: train in bf16 or fp32")
    if found is None:
        return choose_precision(model, example, training.precision)
    if training.precision not in ("auto", found.precision):
        raise UsageError(
            f"the training in {training.directory} began in {found.precision} and cannot go on in "
            f"{training.precision}; take precision={found.precision}, or another folder"
        )
    return found.precision


def turn_channels_last(model: nn.Module, example: Tensor) -> bool:
    """Lay the weights out channels-last where that can help and works; whether it was done."""
    if not any(isinstance(module, nn.Conv2d) and module.in_channels > 1 for module in model.modules()):
        return False
    model.to(memory_format=torch.channels_last)
    try:
        with in_eval(model), torch.no_grad():
            InPrecision(model, "fp32")(example)
    except RuntimeError:  # a network that calls `view` on what lies in another order
        model.to(memory_format=torch.contiguous_format)
        return False
    return True


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        model.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.momentum > 0,
    )
