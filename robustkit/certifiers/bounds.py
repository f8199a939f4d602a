"""Interval bounds of a ReLU network, layer by layer (Gowal et al. 2018, https://arxiv.org/abs/1810.12715).

An interval is a pair of tensors, center and radius. Through an affine layer the center goes as any input does, and the
radius through the absolute weights; through ReLU and max pooling the two ends go.

With `rounding` a unit roundoff u, every interval also holds what the network computes in that precision: a sum of n
products, in whatever order, errs by at most (n + 2) u Σ|w||x| (Higham 2002, "Accuracy and Stability of Numerical
Algorithms", 3.1). Convolutions by transforms (Winograd, FFT) are not sums of that kind and not covered.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from robustkit.models.normalise import Normalise
from robustkit.models.strided import Strided
from robustkit.params import UsageError

_KNOWN = (
    "Linear, Conv2d, BatchNorm, ReLU, max and average pooling, mean over pixels, Flatten, Dropout, Identity, "
    "sums and normalisation"
)


@dataclass(frozen=True)
class Interval:
    """center ± radius, both of one shape; radius ≥ 0."""

    center: Tensor
    radius: Tensor

    @property
    def largest(self) -> Tensor:
        """The largest absolute value inside."""
        return self.center.abs() + self.radius

    @property
    def low(self) -> Tensor:
        return self.center - self.radius

    @property
    def high(self) -> Tensor:
        return self.center + self.radius

    def map(self, function: Callable[[Tensor], Tensor]) -> Interval:
        """Through something that only moves or leaves out values."""
        return Interval(function(self.center), function(self.radius))

    def rising(self, function: Callable[[Tensor], Tensor]) -> Interval:
        """Through something that rises in every value, and rounds nothing."""
        return between(function(self.low), function(self.high))


def between(low: Tensor, high: Tensor) -> Interval:
    return Interval((high + low) / 2, (high - low) / 2)


class Bounds:
    """The bounds of one network in eval mode; differentiable, in the dtype of the input.

    Args:
        model: sequential, residual or of any static graph of known layers.

    Raises:
        UsageError: a layer or operation that is not known, or a forward pass that depends on the data.
    """

    def __init__(self, model: nn.Module) -> None:
        model = nn.Sequential(model)  # so that a network of one layer is a graph, too
        try:
            self.graph = _Tracer().trace(model)
        except Exception as error:  # torch.fx raises whatever the forward pass does
            raise UsageError(f"interval bounds need a network without branches on its data: {error}") from error
        self.modules = dict(model.named_modules())
        for node in self.graph.nodes:
            _rule(node, self.modules)

    def values(self, interval: Interval, rounding: float = 0.0) -> dict[str, Interval]:
        """Bounds of what every node of `graph` gives, by its name."""
        values: dict[str, Interval] = {}
        for node in self.graph.nodes:
            if node.op == "placeholder":
                values[node.name] = interval
            elif node.op != "output":
                values[node.name] = self.through(node, values, rounding)
        return values

    def through(self, node: fx.Node, values: dict[str, Interval], rounding: float) -> Interval:
        """Bounds of what a node gives, from those of what it is given."""
        given = [values[a.name] if isinstance(a, fx.Node) else a for a in node.args]
        return _rule(node, self.modules)(node, given, rounding)

    @property
    def last(self) -> fx.Node:
        """The node that gives the logits."""
        output = next(node for node in self.graph.nodes if node.op == "output")
        return cast(fx.Node, output.args[0])

    def logits(self, interval: Interval, rounding: float = 0.0) -> Interval:
        """Bounds of the logits, (N, K)."""
        return self.values(interval, rounding)[self.last.name]

    def margins(self, interval: Interval, y: Tensor, rounding: float = 0.0) -> Tensor:
        """Lower bounds of logit y minus each logit, (N, K); 0 at y itself.

        A last linear layer is taken together with the difference, which is sharper than the bounds of both.
        """
        return self.margins_of(self.values(interval, rounding), y, rounding)

    def margins_of(self, values: dict[str, Interval], y: Tensor, rounding: float = 0.0) -> Tensor:
        """`margins` from the bounds of all nodes."""
        logits = values[self.last.name]
        module = self.modules.get(cast(str, self.last.target)) if self.last.op == "call_module" else None
        if type(module) is not nn.Linear:
            own = logits.low.gather(1, y[:, None])
            return (own - logits.high).scatter(1, y[:, None], 0.0)
        inner = values[cast(fx.Node, self.last.args[0]).name]
        weight, bias = weight_and_bias(module, inner.center)
        found = torch.zeros_like(logits.center)
        slack = (inner.center.shape[1] + 2) * rounding * F.linear(inner.largest, weight.abs(), bias.abs())
        for label in sorted(set(y.tolist())):
            rows = (y == label).nonzero().squeeze(1)
            difference = weight[label] - weight
            spread = inner.radius[rows] @ difference.abs().T + slack[rows] + slack[rows][:, [label]]
            margin = inner.center[rows] @ difference.T + bias[label] - bias - spread
            found = found.index_put((rows,), margin)
        return found.scatter(1, y[:, None], 0.0)


Rule = Callable[[fx.Node, list[Any], float], Interval]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Normalise | Strided) or super().is_leaf_module(m, module_qualified_name)


def _rule(node: fx.Node, modules: dict[str, nn.Module]) -> Rule:
    """How a node passes intervals on.

    Raises:
        UsageError: it is none of those known.
    """
    if node.op in ("placeholder", "output"):
        return lambda node, given, rounding: cast(Interval, given[0])
    if node.op == "call_module":
        module = modules[cast(str, node.target)]
        for kinds, rule in _MODULES:
            if isinstance(module, kinds):
                if isinstance(module, nn.MaxPool2d) and module.return_indices:
                    break
                return lambda node, given, rounding: rule(module, given[0], rounding)
        raise UsageError(f"interval bounds don't know {type(module).__name__} ({node.target}); known are {_KNOWN}")
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    if name in ("relu", "relu_"):
        return lambda node, given, rounding: cast(Interval, given[0]).rising(torch.relu)
    if name == "mean":
        return _mean
    if name == "flatten":
        return lambda node, given, rounding: cast(Interval, given[0]).map(
            lambda part: torch.flatten(part, *given[1:], **cast(dict[str, Any], node.kwargs))
        )
    if node.target in (operator.add, operator.iadd, torch.add) or name == "add":
        return _add
    raise UsageError(f"interval bounds don't know the operation {name}; known are {_KNOWN}")


def weight_and_bias(module: nn.Linear | nn.Conv2d, like: Tensor) -> tuple[Tensor, Tensor]:
    weight = module.weight.to(like.dtype)
    return weight, weight.new_zeros(len(weight)) if module.bias is None else module.bias.to(like.dtype)


def _linear(module: nn.Linear, given: Interval, rounding: float) -> Interval:
    weight, bias = weight_and_bias(module, given.center)
    error = (module.in_features + 2) * rounding
    radius = F.linear(given.radius + error * given.largest, weight.abs(), error * bias.abs())
    return Interval(F.linear(given.center, weight, bias), radius)


def _conv(module: nn.Conv2d, given: Interval, rounding: float) -> Interval:
    if module.padding_mode != "zeros":
        raise UsageError(f"interval bounds don't know padding_mode={module.padding_mode!r}; known is zeros")
    weight, bias = weight_and_bias(module, given.center)
    error = (weight[0].numel() + 2) * rounding
    how: tuple[Any, ...] = (module.stride, module.padding, module.dilation, module.groups)
    radius = F.conv2d(given.radius + error * given.largest, weight.abs(), error * bias.abs(), *how)
    return Interval(F.conv2d(given.center, weight, bias, *how), radius)


def _batch_norm(module: nn.BatchNorm1d | nn.BatchNorm2d, given: Interval, rounding: float) -> Interval:
    if module.running_mean is None or module.running_var is None:
        raise UsageError("interval bounds need BatchNorm with running statistics; this one uses those of the batch")
    mean, var = module.running_mean.to(given.center.dtype), module.running_var.to(given.center.dtype)
    scale = (var + module.eps).rsqrt()
    shift = torch.zeros_like(mean)
    if module.affine:
        scale, shift = scale * module.weight.to(mean.dtype), module.bias.to(mean.dtype)
    shape = (1, -1) + (1,) * (given.center.ndim - 2)
    scale, shift, mean = scale.reshape(shape), shift.reshape(shape), mean.reshape(shape)
    error = 8 * rounding * (scale.abs() * (given.largest + mean.abs()) + shift.abs())
    return Interval((given.center - mean) * scale + shift, given.radius * scale.abs() + error)


def _normalise(module: Normalise, given: Interval, rounding: float) -> Interval:
    mean, std = module.mean.to(given.center.dtype), module.std.to(given.center.dtype)
    error = 4 * rounding * (given.largest + mean.abs()) / std
    return Interval((given.center - mean) / std, given.radius / std + error)


def _average(module: nn.Module, given: Interval, rounding: float) -> Interval:
    values = given.center[0, 0].numel()  # no window is larger
    center, radius = module(given.center), module(given.radius)
    return Interval(center, radius + (values + 2) * rounding * module(given.largest))


def _mean(node: fx.Node, given: list[Any], rounding: float) -> Interval:
    interval, how, named = cast(Interval, given[0]), given[1:], cast(dict[str, Any], node.kwargs)
    values = interval.center[0].numel()
    center, radius = (part.mean(*how, **named) for part in (interval.center, interval.radius))
    return Interval(center, radius + (values + 2) * rounding * interval.largest.mean(*how, **named))


def _add(node: fx.Node, given: list[Any], rounding: float) -> Interval:
    first, second = given[:2]
    if not isinstance(first, Interval) or not isinstance(second, Interval) or node.kwargs:
        raise UsageError(f"interval bounds know sums of two results of layers, not {node.format_node()}")
    radius = first.radius + second.radius + rounding * (first.largest + second.largest)
    return Interval(first.center + second.center, radius)


_MODULES: tuple[tuple[Any, Callable[[Any, Interval, float], Interval]], ...] = (
    (nn.Linear, _linear),
    (nn.Conv2d, _conv),
    ((nn.BatchNorm1d, nn.BatchNorm2d), _batch_norm),
    (Normalise, _normalise),
    (nn.ReLU, lambda module, given, rounding: given.rising(torch.relu)),
    (nn.MaxPool2d, lambda module, given, rounding: given.rising(module)),
    ((nn.AvgPool2d, nn.AdaptiveAvgPool2d), _average),
    (nn.Flatten, lambda module, given, rounding: given.map(module)),
    ((nn.Dropout, nn.Dropout2d, nn.Identity), lambda module, given, rounding: given),
)
