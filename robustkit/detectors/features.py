"""One pass over each image, which several detectors share: the logits, and what the last linear layer is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.contracts import Split
from robustkit.params import UsageError

_AT_ONCE = 500


@dataclass(frozen=True)
class Passed:
    """What came of passing N images, on the CPU.

    Args:
        logits: (N, K) float32.
        rows: (N, D) float64, what the last linear layer was given; None where the network has none.
    """

    logits: Tensor
    rows: Tensor | None


_Memory = dict[tuple[int, int], tuple[nn.Module, Split, Passed]]
_memory: ContextVar[_Memory | None] = ContextVar("memory", default=None)


@contextmanager
def shared_passes() -> Iterator[None]:
    """Within the block no split passes a model twice, whichever detectors ask; neither may change meanwhile."""
    token = _memory.set({})
    try:
        yield
    finally:
        _memory.reset(token)


def device_of(model: nn.Module) -> torch.device:
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def passed(model: nn.Module, split: Split) -> Passed:
    """Logits and features of all images of a split; from memory within `shared_passes`."""
    memory = _memory.get()
    if memory is None:
        return _pass(model, split)
    place = (id(model), id(split))  # both are kept beside the result, so that no other object gets their ids
    if place not in memory:
        memory[place] = (model, split, _pass(model, split))
    return memory[place][2]


def features(model: nn.Module, split: Split, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Features (N, D) float64, predictions (N,) and labels (N,), all on the CPU.

    Args:
        model: with a linear layer; the last one is read.
        split: the images.
        name: of the detector, for messages.

    Raises:
        UsageError: no linear layer, or no images.
    """
    if not len(split):
        raise UsageError(f"{name}: there are no images")
    found = passed(model, split)
    if found.rows is None:
        raise UsageError(f"{name}: the network has no linear layer whose input could be read")
    return found.rows, found.logits.argmax(dim=1), split.labels


@contextmanager
def reading(model: nn.Module) -> Iterator[list[Tensor]]:
    """What the last linear layer is given, (n, D) a pass, in the order of the passes; gradients flow through it."""
    rows: list[Tensor] = []
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    hooks = [
        layer.register_forward_pre_hook(lambda _, given: rows.append(given[0].flatten(1))) for layer in linear[-1:]
    ]
    try:
        yield rows
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def _pass(model: nn.Module, split: Split) -> Passed:
    device = device_of(model)
    logits, rows = [], []
    for index in torch.split(torch.arange(len(split)), _AT_ONCE):
        with reading(model) as given:
            logits.append(model(split.batch(index)[0].to(device)).float().cpu())
        rows += [part.double().cpu() for part in given]
    return Passed(torch.cat(logits), torch.cat(rows) if rows else None)


@torch.no_grad()
def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """Logits (N, K) on the CPU, of images (N, C, H, W)."""
    device = device_of(model)
    return torch.cat([model(part.to(device)).float().cpu() for part in torch.split(x, _AT_ONCE)])


def threshold(clean: Tensor, fpr: float) -> float:
    """The score that a share `fpr` of clean inputs exceeds."""
    return float(torch.quantile(clean.double(), 1 - fpr))
