"""The fastest precision of the machine for the search; verdicts are always float32."""

from __future__ import annotations

import copy
import statistics
import time
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from robustkit.contracts import Precision
from robustkit.params import UsageError

Chosen = Literal["fp32", "bf16", "fp16"]
_DTYPES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
_WORTH = 0.9
"""bf16 is taken where it needs at most this share of float32's time; closer calls are noise."""
_TIMED_SAMPLES = 64


class InPrecision(nn.Module):
    """A network whose layers run in low precision: float32 in, float32 out, autocast between.

    bf16 has a spacing of 1/256 near 1, so inputs and perturbations stay float32 outside.
    """

    def __init__(self, network: nn.Module, precision: Chosen) -> None:
        super().__init__()
        self.network = network
        self.dtype = _DTYPES.get(precision)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 4 and x.shape[1] > 1:
            x = x.contiguous(memory_format=torch.channels_last)
        if self.dtype is None:
            return cast(Tensor, self.network(x))
        with torch.autocast(x.device.type, dtype=self.dtype):
            logits: Tensor = self.network(x)
        return logits.float()


def search_model(model: nn.Module, precision: Chosen, example: Tensor) -> nn.Module:
    """A private copy for attacks to search on: frozen, convolution and BatchNorm fused, channels-last.

    Frozen parameters spare the gradient of the weights, which attacks never need; fusing halves the number
    of memory-bound layers of a ResNet.

    Args:
        model: stays untouched. Where it cannot be copied, it is used itself, under the guard.
        precision: "fp32", "bf16" or "fp16".
        example: a few inputs, on which the fused copy must give the same logits.
    """
    try:
        network = copy.deepcopy(model)
    except Exception:  # any module may refuse to be copied, in any way
        return model
    network.eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    network = _fused(network, example)
    if any(isinstance(module, nn.Conv2d) and module.in_channels > 1 for module in network.modules()):
        network = network.to(memory_format=torch.channels_last)
    return InPrecision(network, precision).eval()


def _fused(network: nn.Module, example: Tensor) -> nn.Module:
    """The network with BatchNorm folded into convolutions, or itself where that cannot be done safely."""
    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return network
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        expected = network(example)
        if not torch.allclose(network(example), expected):
            return network  # stochastic: a trace could freeze its draws
        try:
            fused = fuse(network)
            same = torch.allclose(fused(example), expected, rtol=1e-3, atol=1e-3)
        except Exception:  # torch.fx cannot trace every network, and says so in many ways
            return network
    if not same:
        return network
    for parameter in fused.parameters():
        parameter.requires_grad_(False)
    return fused.eval()


def choose_precision(model: nn.Module, x: Tensor, wanted: Precision = "auto") -> Chosen:
    """Settle "auto" by timing forward and input gradient of one batch in float32 and in bf16.

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
    timings = precision_timings(model, x)
    return "bf16" if timings["bf16"] <= _WORTH * timings["fp32"] else "fp32"


def precision_timings(model: nn.Module, x: Tensor, repeats: int = 5) -> dict[str, float]:
    """Median seconds of one forward pass with input gradient, by precision, taken in turns."""
    x = x[:_TIMED_SAMPLES]
    models: dict[Chosen, nn.Module] = {name: search_model(model, name, x[:2]) for name in ("fp32", "bf16")}
    seconds: dict[Chosen, list[float]] = {name: [] for name in models}
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        for _ in range(repeats + 1):
            for name, network in models.items():
                began = time.perf_counter()
                point = x.detach().clone().requires_grad_()
                (gradient,) = torch.autograd.grad(network(point).square().sum(), point)
                float(gradient.sum())  # waits for the device
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}  # the first one warms up
