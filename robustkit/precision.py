"""The fastest precision of the machine for the search; verdicts are always float32."""

from __future__ import annotations

import contextlib
import copy
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from robustkit.contracts import Precision
from robustkit.params import UsageError
from robustkit.rescale import Rescaled

Chosen = Literal["fp32", "bf16", "fp16"]
_DTYPES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
_WORTH = 0.9
"""bf16 is taken where it needs at most this share of float32's time; closer calls are noise."""
_TIMED_SAMPLES = 64
_LOGITS_ALIKE, _GRADIENTS_ALIKE = 1e-3, 1e-2
"""Relative l2 differences that rounding explains; a few ReLUs may switch, which only gradients notice."""


class InPrecision(nn.Module):
    """A network whose layers run in low precision: float32 in, float32 out, autocast between.

    bf16 has a spacing of 1/256 near 1, so inputs and perturbations stay float32 outside.
    """

    def __init__(self, network: nn.Module, precision: Chosen, *, channels_last: bool = True) -> None:
        super().__init__()
        self.network = network
        self.dtype = _DTYPES.get(precision)
        self.channels_last = channels_last

    def forward(self, x: Tensor) -> Tensor:
        if self.channels_last and x.ndim == 4 and x.shape[1] > 1:
            x = x.contiguous(memory_format=torch.channels_last)
        if self.dtype is None:
            return cast(Tensor, self.network(x))
        with torch.autocast(x.device.type, dtype=self.dtype):
            logits: Tensor = self.network(x)
        return logits.float()


def search_model(model: nn.Module, precision: Chosen, example: Tensor) -> nn.Module:
    """A private copy for attacks to search on: frozen, convolution and BatchNorm fused, channels-last.

    Frozen parameters spare the gradient of the weights, which attacks never need; fusing halves the number
    of memory-bound layers of a ResNet. Each of these is kept only where the copy still gives the logits and
    input gradients of the model: a network may freeze what a trace of it drew or branched on, call `view` on
    what channels-last has turned around, or overflow in low precision.

    Args:
        model: stays untouched. Where it cannot be copied, it is used itself, under the guard.
        precision: "fp32", "bf16" or "fp16".
        example: a few inputs, on which the copy is compared with the model.
    """
    try:
        network = copy.deepcopy(model)
    except Exception:  # any module may refuse to be copied, in any way
        return InPrecision(model, "fp32", channels_last=False)
    network.eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    with exact_float32(), torch.inference_mode(False), generator_kept(example.device):
        example = example.detach().clone()
        known = _behaviour(network, example)
        if known is None:  # the attack will say in its own words what is wrong
            return InPrecision(network, "fp32", channels_last=False)
        network = _fused(network, example, known)
        channels_last = _turned(network, example, known)
        search = InPrecision(network, precision, channels_last=channels_last)
        if precision == "fp32":
            return search.eval()
        low = Rescaled(search) if precision == "fp16" else search
        found = _behaviour(low, example)
        if found is None or not all(bool(torch.isfinite(value).all()) for value in found):
            return InPrecision(network, "fp32", channels_last=channels_last).eval()
    return low.eval()


def _behaviour(network: nn.Module, example: Tensor) -> tuple[Tensor, Tensor] | None:
    """Logits, and the input gradient of the sum of their squares; None where the network fails."""
    try:
        with torch.enable_grad():
            point = example.clone().requires_grad_()
            logits: Tensor = network(point)
            if not logits.requires_grad:
                return logits, torch.zeros_like(point)
            gradient = torch.autograd.grad(logits.square().sum(), point, allow_unused=True)[0]
    except Exception:  # foreign code
        return None
    return logits.detach(), torch.zeros_like(point) if gradient is None else gradient


def _alike(found: tuple[Tensor, Tensor] | None, known: tuple[Tensor, Tensor]) -> bool:
    if found is None:
        return False
    pairs = zip(found, known, (_LOGITS_ALIKE, _GRADIENTS_ALIKE), strict=True)
    return all(bool((a - b).norm() <= share * b.norm() + 1e-6) for a, b, share in pairs)


def _fused(network: nn.Module, example: Tensor, known: tuple[Tensor, Tensor]) -> nn.Module:
    """The network with BatchNorm folded into convolutions, or itself where that cannot be done safely."""
    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return network
    if not _alike(_behaviour(network, example), known):
        return network  # stochastic: a trace could freeze its draws
    try:
        fused = fuse(network).eval()
    except Exception:  # torch.fx cannot trace every network, and says so in many ways
        return network
    for parameter in fused.parameters():
        parameter.requires_grad_(False)
    return fused if _alike(_behaviour(fused, example), known) else network


def _turned(network: nn.Module, example: Tensor, known: tuple[Tensor, Tensor]) -> bool:
    """Lay the weights out channels-last where that can help and works; whether it was done."""
    if not any(isinstance(module, nn.Conv2d) and module.in_channels > 1 for module in network.modules()):
        return False
    network.to(memory_format=torch.channels_last)
    if _alike(_behaviour(InPrecision(network, "fp32"), example), known):
        return True
    network.to(memory_format=torch.contiguous_format)
    return False


def choose_precision(model: nn.Module, x: Tensor, wanted: Precision = "auto") -> Chosen:
    """Settle "auto" by timing forward and input gradient of one batch in float32 and in bf16.

    A CPU without instructions for bf16 emulates it; there float32 is taken without a timing, which other work on
    the machine could turn round.

    Args:
        model: the network that will be attacked.
        x: (N, C, H, W) on the model's device; at most 64 samples are used.
        wanted: "auto", or a precision, which is returned as it is.

    Raises:
        UsageError: fp16 on a CPU, where it is slower than float32 and overflows.
    """
    if wanted == "fp16" and x.device.type == "cpu":
        raise UsageError("precision=fp16 is for GPUs; on a CPU use bf16, fp32 or auto")
    if wanted != "auto":
        return wanted
    if x.device.type == "cpu" and not _cpu_multiplies_bf16():
        return "fp32"
    timings = precision_timings(model, x)
    return "bf16" if timings["bf16"] <= _WORTH * timings["fp32"] else "fp32"


def _cpu_multiplies_bf16() -> bool:
    """Whether the processor has AMX or AVX512-BF16; an unknown processor may have, and is timed."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return True
    text = info.read_text(errors="replace")
    return " amx_bf16" in text or " avx512_bf16" in text or "model name" not in text


def precision_timings(model: nn.Module, x: Tensor, repeats: int = 5) -> dict[str, float]:
    """Median seconds of one forward pass with input gradient, by precision, taken in turns."""
    x = x[:_TIMED_SAMPLES]
    seconds: dict[Chosen, list[float]] = {"fp32": [], "bf16": []}
    with exact_float32(), torch.inference_mode(False), torch.enable_grad(), generator_kept(x.device):
        models = {name: search_model(model, name, x[:2]) for name in seconds}
        for _ in range(repeats + 1):
            for name, network in models.items():
                point = x.detach().clone().requires_grad_()
                began = time.perf_counter()
                (gradient,) = torch.autograd.grad(network(point).square().sum(), point)
                float(gradient.sum())  # waits for the device
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}  # the first one warms up


@contextlib.contextmanager
def generator_kept(device: torch.device) -> Iterator[None]:
    """Put the states of torch's generators, of the CPU and of `device`, back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Float32 that is float32: no autocast of the caller's, no TF32 or bf16 inside products and convolutions.

    GPUs round convolutions to TF32 (10 bits) by torch's default, and
    `torch.set_float32_matmul_precision("medium")` rounds products to bf16 on some CPUs.
    """
    with contextlib.ExitStack() as undo:
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                undo.enter_context(torch.autocast(kind, enabled=False))
        backends: Any = torch.backends
        operations: list[Any] = [getattr(backends.mkldnn, "matmul", None), getattr(backends.mkldnn, "conv", None)]
        try:
            product = torch.get_float32_matmul_precision()
            if product != "highest":
                torch.set_float32_matmul_precision("highest")
                undo.callback(torch.set_float32_matmul_precision, product)
        except RuntimeError:  # set by operation, which this older switch refuses to sum up
            operations.append(backends.cuda.matmul)
        try:
            if backends.cudnn.allow_tf32:
                backends.cudnn.allow_tf32 = False
                undo.callback(setattr, backends.cudnn, "allow_tf32", True)
        except RuntimeError:
            operations += [backends.cudnn.conv, backends.cudnn.rnn]
        for operation in operations:
            before = getattr(operation, "fp32_precision", "none")
            if before not in ("none", "ieee"):
                operation.fp32_precision = "ieee"
                undo.callback(setattr, operation, "fp32_precision", before)
        yield
