"""Around every call of foreign code: what it needs before, and everything as it was after."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass
class State:
    """What had to be put back, in words: "training flags", "requires_grad", "parameter gradients", "weights"."""

    restored: tuple[str, ...] = ()


@contextmanager
def guarded(model: nn.Module, seed: int) -> Iterator[State]:
    """Run foreign code on `model`: eval mode, gradients enabled, generators seeded; then restore it all.

    Measured on today's releases: torchattacks sets a frozen BatchNorm to train, ART leaves the model in eval,
    foolbox and ART leave `.grad` behind, ART draws from NumPy's generator, all fail under `no_grad`. Restored
    are the training flag of every module, `requires_grad` and `.grad` of every parameter, the values of
    parameters and buffers, and the states of the generators of torch, NumPy and Python.

    Args:
        model: what the code is given.
        seed: for torch (and CUDA), NumPy and Python.

    Yields:
        A state whose `restored` is filled in when the block ends.
    """
    state = State()
    flags = {module: module.training for module in model.modules()}
    parameters = dict(model.named_parameters())
    wants = {name: parameter.requires_grad for name, parameter in parameters.items()}
    gradients = {name: parameter.grad for name, parameter in parameters.items()}
    values = {name: value.detach().clone() for name, value in _tensors(model)}
    model.eval()
    evaluating = {module: module.training for module in flags}
    with generators_kept(seed), torch.inference_mode(False), torch.enable_grad():
        try:
            yield state
        finally:
            restored = []
            if any(module.training != evaluating[module] for module in flags):
                restored.append("training flags")
            for module, training in flags.items():
                module.training = training
            if any(parameters[name].requires_grad != want for name, want in wants.items()):
                restored.append("requires_grad")
            if any(parameters[name].grad is not gradient for name, gradient in gradients.items()):
                restored.append("parameter gradients")
            for name, parameter in parameters.items():
                parameter.requires_grad_(wants[name])
                parameter.grad = gradients[name]
            if _restore_values(model, values):
                restored.append("weights")
            state.restored = tuple(restored)


@contextmanager
def generators_kept(seed: int) -> Iterator[None]:
    """Seed the generators of torch, NumPy and Python for the block, then put their states back."""
    saved = (torch.get_rng_state(), np.random.get_state(), random.getstate())  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - wrapped libraries draw from the global generator
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(saved[0])
        np.random.set_state(saved[1])  # noqa: NPY002
        random.setstate(saved[2])
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients for the host's own passes; the training flags are put back."""
    flags = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in flags.items():
            module.training = training


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _restore_values(model: nn.Module, values: dict[str, Tensor]) -> bool:
    """Write back what changed; by value, because writing through `.data` leaves no trace in a version counter."""
    changed = False
    with torch.no_grad():
        for name, value in _tensors(model):
            before = values.get(name)
            if before is None:
                continue
            if before.shape != value.shape:
                value.data = before
                changed = True
            elif not torch.equal(value, before) and not _same_with_nan(value, before):
                value.copy_(before)
                changed = True
    return changed


def _same_with_nan(a: Tensor, b: Tensor) -> bool:
    return (
        a.is_floating_point() and torch.equal(a.nan_to_num(), b.nan_to_num()) and torch.equal(a.isnan(), b.isnan())
    )
