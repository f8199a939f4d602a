"""Around every call of foreign code: what it needs before, and everything as it was after."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustkit.precision import exact_float32

_OWN = (
    "_parameters",
    "_buffers",
    "_modules",
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
"""What a module consists of, besides its class and plain attributes."""

_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    (lambda: torch.backends.cudnn.enabled, lambda value: setattr(torch.backends.cudnn, "enabled", value)),
    (lambda: torch.backends.cudnn.benchmark, lambda value: setattr(torch.backends.cudnn, "benchmark", value)),
    (
        lambda: torch.backends.cudnn.deterministic,
        lambda value: setattr(torch.backends.cudnn, "deterministic", value),
    ),
)
"""Switches of the whole process that attack libraries turn."""

Stream = tuple[Callable[[], Any], Callable[[Any], object], Callable[[int], object]]
"""How to read a generator's state, set it, and seed it."""

_STREAMS: tuple[Stream, ...] = (
    (torch.get_rng_state, torch.set_rng_state, torch.default_generator.manual_seed),
    (np.random.get_state, np.random.set_state, lambda seed: np.random.seed(seed % 2**32)),  # noqa: NPY002
    (random.getstate, random.setstate, random.seed),
)
"""`torch.manual_seed` would be slower by two orders, and where CUDA is not in use yet its seed would wait there and
replace the caller's. Wrapped libraries draw from NumPy's global generator."""


@dataclass
class State:
    """What had to be put back, in words: "training flags", "weights" …; filled in when the call has ended."""

    restored: tuple[str, ...] = ()


@contextmanager
def guarded(model: nn.Module, seed: int) -> Iterator[State]:
    """Run foreign code on `model`: eval mode, gradients enabled, generators seeded; then restore it all.

    Measured on today's releases: torchattacks sets a frozen BatchNorm to train, ART leaves the model in eval,
    foolbox and ART leave `.grad` behind, ART draws from NumPy's generator, all fail under `no_grad`. Restored
    are the training flag of every module, its parts and hooks, `requires_grad` and `.grad` of every parameter,
    the values of parameters and buffers, a few settings of torch, and the states of the generators of torch,
    NumPy and Python. Values are compared with a copy rather than by version counter or checksum: writing
    through `.data` leaves no trace in the first, and a copy is needed in any case.

    Args:
        model: what the code is given.
        seed: for torch (and CUDA), NumPy and Python.

    Yields:
        A state whose `restored` is filled in when the block ends.
    """
    state = State()
    with exact_float32(), torch.inference_mode(False), torch.enable_grad(), _in_eval(model) as modules:
        flags = [module.training for module in modules]
        owned = [{name: dict(getattr(module, name)) for name in _OWN} for module in modules]
        parameters = list(model.parameters())
        wants = [parameter.requires_grad for parameter in parameters]
        gradients = [parameter.grad for parameter in parameters]
        tensors = [*parameters, *model.buffers()]
        values = [tensor.detach().clone() for tensor in tensors]
        settings = [get() for get, _ in _SETTINGS]
        for parameter in parameters:
            parameter.grad = None  # gradients of the caller must not be added to
        try:
            with generators_kept(seed):
                yield state
        finally:
            restored = []
            if _set_flags(modules, flags):
                restored.append("training flags")
            changed = [_put_back(module, parts) for module, parts in zip(modules, owned, strict=True)]
            if any(changed):
                restored.append("modules and hooks")
            if [parameter.requires_grad for parameter in parameters] != wants:
                restored.append("requires_grad")
            if any(parameter.grad is not None for parameter in parameters):
                restored.append("parameter gradients")
            if _rewrite(tensors, values):
                restored.append("weights")
            for parameter, want, gradient in zip(parameters, wants, gradients, strict=True):
                parameter.requires_grad_(want)
                parameter.grad = gradient
            if [get() for get, _ in _SETTINGS] != settings:
                restored.append("settings of torch")
                for (_, put), value in zip(_SETTINGS, settings, strict=True):
                    put(value)
            state.restored = tuple(restored)


@contextmanager
def generators_kept(seed: int) -> Iterator[None]:
    """Seed the generators of torch, NumPy and Python for the block, then put their states back."""
    streams = [*_STREAMS, *_accelerators()]
    states = [get() for get, _, _ in streams]
    for _, _, start in streams:
        start(seed)
    try:
        yield
    finally:
        for (_, put, _), state in zip(streams, states, strict=True):
            put(state)


@contextmanager
def judging(model: nn.Module, seed: int = 0) -> Iterator[None]:
    """Eval mode, no gradients, exact float32 for the host's own passes; flags and generators are put back."""
    with exact_float32(), torch.inference_mode(False), torch.no_grad(), _in_eval(model), generators_kept(seed):
        yield


@contextmanager
def _in_eval(model: nn.Module) -> Iterator[list[nn.Module]]:
    """The model in eval mode, and its modules; then the way back.

    By `eval()` and `train()`, which a model may have overridden in order to merge weights or to switch more than
    flags; then flag by flag, since parts may have been frozen.
    """
    modules = list(model.modules())
    flags = [module.training for module in modules]
    if any(flags):
        model.eval()
    try:
        yield modules
    finally:
        if flags[0]:
            model.train()
        _set_flags(modules, flags)


def _set_flags(modules: list[nn.Module], flags: list[bool]) -> bool:
    """Whether any training flag was another."""
    others = [(module, flag) for module, flag in zip(modules, flags, strict=True) if module.training != flag]
    for module, flag in others:
        module.training = flag
    return bool(others)


def _accelerators() -> list[Stream]:
    streams: list[Stream] = []
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        streams.append((torch.cuda.get_rng_state_all, torch.cuda.set_rng_state_all, torch.cuda.manual_seed_all))
    if torch.backends.mps.is_available():
        streams.append((torch.mps.get_rng_state, torch.mps.set_rng_state, torch.mps.manual_seed))
    return streams


def _put_back(module: nn.Module, parts: dict[str, dict[Any, Any]]) -> bool:
    """Whether the module had other parameters, buffers, submodules or hooks than before, which it has again."""
    changed = False
    for name, before in parts.items():
        now = getattr(module, name)
        if list(now) != list(before) or any(now[key] is not value for key, value in before.items()):
            now.clear()
            now.update(before)
            changed = True
    return changed


def _rewrite(tensors: list[Tensor], values: list[Tensor]) -> bool:
    """Write back what changed."""
    changed = False
    with torch.no_grad():
        for tensor, before in zip(tensors, values, strict=True):
            if _equal(tensor, before):
                continue
            changed = True
            if tensor.shape == before.shape and tensor.dtype == before.dtype and tensor.device == before.device:
                tensor.copy_(before)
            else:
                tensor.data = before
    return changed


def _equal(now: Tensor, before: Tensor) -> bool:
    if now.shape != before.shape or now.dtype != before.dtype or now.device != before.device:
        return False
    if torch.equal(now, before):
        return True
    return now.is_floating_point() and bool(((now == before) | (now.isnan() & before.isnan())).all())
