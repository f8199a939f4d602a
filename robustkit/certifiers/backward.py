"""Backward linear bounds of a ReLU network (Zhang et al. 2018, https://arxiv.org/abs/1811.00866).

A linear function of the logits is traced back, node by node, to a linear function of the input that lies below it all
over the ball; its least value there is then exact. Affine layers are traced exactly. A ReLU whose input may have
either sign is held between two lines: the chord above, and below the zero line or the identity, whichever leaves
the smaller area (the adaptive slope). The intervals of the inputs of ReLUs are those of interval propagation, which
makes it CROWN-IBP (Zhang et al. 2020, https://arxiv.org/abs/1906.06316).

With `rounding`, each node's value may differ from that of its layer by what `bounds` allows for, in either direction,
and that is taken off at the node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from robustkit.certifiers.bounds import Bounds, Interval, weight_and_bias
from robustkit.models.normalise import Normalise
from robustkit.models.strided import Strided

Traced = tuple[Tensor, Tensor]
"""Coefficients of a node's input, (N, S, ...), and a constant, (N, S)."""


def backward_margins(bounds: Bounds, values: dict[str, Interval], y: Tensor, rounding: float = 0.0) -> Tensor:
    """Lower bounds of logit y minus each logit, (N, K); 0 at y itself. Neither these nor interval bounds are always
    the better ones.

    Args:
        bounds: of the network.
        values: its intervals in the ball, `bounds.values(ball, rounding)`.
        y: labels, (N,).
        rounding: unit roundoff of the network as executed.
    """
    logits = values[bounds.last.name].center
    count, classes = logits.shape
    every = torch.arange(classes, device=y.device).expand(count, classes)
    others = every[every != y[:, None]].reshape(count, classes - 1)
    unit = torch.eye(classes, dtype=logits.dtype, device=logits.device)
    low = _lowest(bounds, values, unit[y][:, None] - unit[others], rounding)
    return torch.zeros_like(logits).scatter(1, others, low)


def _lowest(bounds: Bounds, values: dict[str, Interval], wanted: Tensor, rounding: float) -> Tensor:
    """Lower bounds, (N, S), of `wanted` (N, S, K) times the logits."""
    open_nodes = {bounds.last.name: wanted}
    low = wanted.new_zeros(wanted.shape[:2])
    for node in reversed(bounds.graph.nodes):
        weight = open_nodes.pop(node.name, None)
        if weight is None:
            continue
        if node.op == "placeholder":
            ball = values[node.name]
            low = low + _times(weight, ball.center) - _times(weight.abs(), ball.radius)
            continue
        if rounding:
            exact = bounds.through(node, values, 0.0)
            low = low - _times(weight.abs(), values[node.name].radius - exact.radius)
        for source, (part, constant) in _trace(bounds, node, values, weight):
            open_nodes[source.name] = open_nodes[source.name] + part if source.name in open_nodes else part
            low = low + constant
    return low


def _trace(bounds: Bounds, node: fx.Node, values: dict[str, Interval], weight: Tensor) -> list[tuple[fx.Node, Traced]]:
    """What `weight` times a node's value is at least, as a function of each of the nodes it comes from."""
    nothing = weight.new_zeros(weight.shape[:2])
    sources = [argument for argument in node.args if isinstance(argument, fx.Node)]
    if len(sources) > 1:  # a sum
        return [(source, (weight, nothing)) for source in sources]
    given = values[sources[0].name]
    if node.op == "call_module":
        module = bounds.modules[cast(str, node.target)]
        rule = next(rule for kinds, rule in _MODULES if isinstance(module, kinds))
        return [(sources[0], rule(module, given, weight))]
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if name.startswith("relu"):
        return [(sources[0], _relu(None, given, weight))]
    how, named = node.args[1:], cast(dict[str, Any], node.kwargs)
    function = cast(Callable[..., Tensor], torch.flatten if name == "flatten" else torch.mean)
    return [(sources[0], (_pulled(lambda x: function(x, *how, **named), given, weight), nothing))]


def _times(weight: Tensor, value: Tensor) -> Tensor:
    """(N, S, ...) times (N, ...), summed: (N, S)."""
    return (weight.flatten(2) @ value.flatten(1)[:, :, None]).squeeze(2)


def _pulled(function: Callable[[Tensor], Tensor], given: Interval, weight: Tensor) -> Tensor:
    """Through a linear function, by its own gradient."""
    differentiate = torch.is_grad_enabled()
    with torch.enable_grad():
        zero = given.center.new_zeros(weight.shape[0] * weight.shape[1], *given.center.shape[1:]).requires_grad_()
        (found,) = torch.autograd.grad(function(zero), zero, weight.flatten(0, 1), create_graph=differentiate)
    return _apart(found, weight)


def _apart(found: Tensor, weight: Tensor) -> Tensor:
    """(N · S, ...) → (N, S, ...)."""
    return found.reshape(*weight.shape[:2], *found.shape[1:])


def _linear(module: nn.Linear, given: Interval, weight: Tensor) -> Traced:
    matrix, bias = weight_and_bias(module, weight)
    return weight @ matrix, (weight @ bias).reshape(*weight.shape[:2], -1).sum(2)


def _conv(module: nn.Conv2d, given: Interval, weight: Tensor) -> Traced:
    kernel, bias = weight_and_bias(module, weight)
    constant = weight.sum(dim=(3, 4)) @ bias
    if isinstance(module.padding, str):
        how: tuple[Any, ...] = (None, module.stride, module.padding, module.dilation, module.groups)
        return _pulled(lambda x: F.conv2d(x, kernel, *how), given, weight), constant
    if isinstance(module, Strided):
        return _apart(module.transpose(weight.flatten(0, 1), given.center.shape), weight), constant
    rest = []  # pixels beyond the last window
    for side, out, k, s, p, d in zip(
        given.center.shape[2:],
        weight.shape[3:],
        module.kernel_size,
        module.stride,
        module.padding,
        module.dilation,
        strict=True,
    ):
        rest.append(side + 2 * p - d * (k - 1) - 1 - (out - 1) * s)
    found = F.conv_transpose2d(
        weight.flatten(0, 1), kernel, None, module.stride, module.padding, rest, module.groups, module.dilation
    )
    return _apart(found, weight), constant


def _batch_norm(module: nn.BatchNorm1d | nn.BatchNorm2d, given: Interval, weight: Tensor) -> Traced:
    mean, var = cast(Tensor, module.running_mean).to(weight.dtype), cast(Tensor, module.running_var).to(weight.dtype)
    scale = (var + module.eps).rsqrt()
    shift = torch.zeros_like(mean)
    if module.affine:
        scale, shift = scale * module.weight.to(mean.dtype), module.bias.to(mean.dtype)
    constant = weight.flatten(3).sum(3) if weight.ndim > 3 else weight
    return weight * scale.reshape(-1, *(1,) * (weight.ndim - 3)), constant @ (shift - mean * scale)


def _normalise(module: Normalise, given: Interval, weight: Tensor) -> Traced:
    mean, std = module.mean.to(weight.dtype), module.std.to(weight.dtype)
    return weight / std, -weight.sum(dim=(3, 4)) @ (mean / std).flatten()


def _average(module: nn.Module, given: Interval, weight: Tensor) -> Traced:
    return _pulled(module, given, weight), weight.new_zeros(weight.shape[:2])


def _relu(module: object, given: Interval, weight: Tensor) -> Traced:
    low, high = given.low, given.high
    either = (low < 0) & (high > 0)
    chord = torch.where(either, high / torch.where(either, high - low, 1.0), (low >= 0).to(low.dtype))
    below = torch.relu(weight)  # goes with the lower line, the rest with the upper one
    found = torch.addcmul(weight * chord[:, None], below, (lower_slope(low, high) - chord)[:, None])
    rise = -chord * low.clamp_max(0)
    return found, _times(weight, rise) - _times(below, rise)


def lower_slope(low: Tensor, high: Tensor) -> Tensor:
    """Of the line below ReLU: 1 where more of the interval is positive, else 0."""
    return (high > -low).to(low.dtype)


def _max_pool(module: nn.MaxPool2d, given: Interval, weight: Tensor) -> Traced:
    """Below it is the pixel with the largest lower end, above it a constant."""
    how = (module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode)
    _, index = F.max_pool2d(given.low, *how, return_indices=True)
    index = index[:, None].expand_as(weight).flatten(3)
    found = weight.new_zeros(*weight.shape[:2], *given.center.shape[1:])
    below = found.flatten(3).scatter_add(3, index, weight.clamp_min(0).flatten(3)).reshape(found.shape)
    return below, _times(weight.clamp_max(0), module(given.high))


def _same(module: nn.Module, given: Interval, weight: Tensor) -> Traced:
    """Through what only gives values another shape."""
    return weight.reshape(*weight.shape[:2], *given.center.shape[1:]), weight.new_zeros(weight.shape[:2])


_MODULES: tuple[tuple[Any, Callable[[Any, Interval, Tensor], Traced]], ...] = (
    (nn.Linear, _linear),
    (nn.Conv2d, _conv),
    ((nn.BatchNorm1d, nn.BatchNorm2d), _batch_norm),
    (Normalise, _normalise),
    (nn.ReLU, _relu),
    (nn.MaxPool2d, _max_pool),
    ((nn.AvgPool2d, nn.AdaptiveAvgPool2d), _average),
    ((nn.Flatten, nn.Dropout, nn.Dropout2d, nn.Identity), _same),
)
