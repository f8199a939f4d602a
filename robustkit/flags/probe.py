"""Red flags of a model itself: some dozens of passes over a few inputs, before any attack of the bench.

After Carlini et al. 2019 (https://arxiv.org/abs/1902.06705) and Athalye et al. 2018
(https://arxiv.org/abs/1802.00420).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from robustkit.attacks.climb import climb
from robustkit.attacks.gradient import input_gradient
from robustkit.attacks.losses import cross_entropy, margin
from robustkit.contracts import Threat
from robustkit.engine.guard import guarded, judging
from robustkit.engine.statistics import mcnemar
from robustkit.flags.flag import Flag, more_than_a_few
from robustkit.norms import flat
from robustkit.params import UsageError

SAMPLES = 64
"""Inputs that the checks look at."""
_SEARCHED = 32
"""Inputs that are attacked over the whole box."""
_STEPS, _STRIDE = 20, 0.125
_SMALL_STEP = 1 / 255
_RISES = 0.8
"""Share of inputs whose loss a small step along the gradient raises at least, where the loss is smooth."""
_SAME = 1e-3
"""Relative to the largest logit: differences below it are rounding."""
_JUMP = 0.1
_SURELY = 1e-3
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

Logits = Callable[[Tensor, int], Tensor]


def safely_probed(model: nn.Module, x: Tensor, y: Tensor) -> list[Flag]:
    """`probe`; where the model fails at it, that is the flag."""
    try:
        return probe(model, x, y)
    except Exception as error:  # whatever a model raises, its clean accuracy is still good
        return [Flag(name="unchecked", evidence=f"the checks failed: {type(error).__name__}: {error}")]


def probe(model: nn.Module, x: Tensor, y: Tensor) -> list[Flag]:
    """Look for reasons why attacks that follow gradients would fail on this model, robust or not.

    Args:
        model: float32 (N, C, H, W) in [0, 1] → logits (N, K); comes back as it was.
        x, y: inputs and labels (N,), on the model's device; of more than 64 the first 64 are used.

    Returns:
        random-output: logits differ between two passes. batch-dependent: they differ with the company in a batch.
        input-scale: accuracy rises by 10 points or more where inputs are rescaled. no-gradients: the gradient of the
        cross-entropy is zero or not finite for more than 5 %. rough-loss: a step of 1/255 along the gradient of the
        margin raises it for less than 80 %. stands-at-any-eps: 20 steps of PGD over the whole box leave more than
        5 % standing. The last four are of inputs that the model gets right; the last two are not asked of random
        models.

    Cost: 10 forward and 2 backward passes of 64 samples, and at most 21 forward and 20 backward of 32.
    """
    x, y = x[:SAMPLES], y[:SAMPLES]
    if not len(x):
        return []

    def logits(points: Tensor, seed: int) -> Tensor:
        with judging(model, seed):
            found: Tensor = model(points)
        return found.detach().float()

    clean = logits(x, 0)
    random = _random(logits, x, clean)
    found = [random] if random else []
    if not random:
        found += _batch(logits, x, clean)
    found += _scale(logits, x, y, clean)
    right = clean.argmax(dim=1) == y
    if bool(right.any()):
        with guarded(model, 0):
            found += _gradients(model, x[right], y[right], steady=not random)
    return found


def _random(logits: Logits, x: Tensor, clean: Tensor) -> Flag | None:
    again = logits(x, 1)
    if not _differ(clean, again).any():
        return None
    turned = int((clean.argmax(dim=1) != again.argmax(dim=1)).sum())
    return Flag(
        name="random-output",
        evidence=f"two passes over the same {len(x)} inputs give other logits for {int(_differ(clean, again).sum())} "
        f"and other classes for {turned}",
    )


def _batch(logits: Logits, x: Tensor, clean: Tensor) -> Iterator[Flag]:
    parts = torch.empty_like(clean)
    for start in (0, 1):
        if len(x[start::2]):
            parts[start::2] = logits(x[start::2], 0)
    differ = _differ(clean, parts)
    if differ.any():
        turned = int((clean.argmax(dim=1) != parts.argmax(dim=1)).sum())
        yield Flag(
            name="batch-dependent",
            evidence=f"in a batch of every second input, {int(differ.sum())} of {len(x)} inputs get other logits and "
            f"{turned} another class",
        )


def _differ(first: Tensor, second: Tensor) -> Tensor:
    """(N,) bool: logits differ by more than rounding."""
    size = first.abs().amax(dim=1).clamp_min(1e-6)
    return ~((first - second).abs().amax(dim=1) <= _SAME * size)


def _scale(logits: Logits, x: Tensor, y: Tensor, clean: Tensor) -> Iterator[Flag]:
    scales = {"[0, 255]": x * 255, "[-1, 1]": 2 * x - 1}
    if x.ndim == 4 and x.shape[1] == 3:
        mean, std = (torch.tensor(values, device=x.device).reshape(1, 3, 1, 1) for values in _IMAGENET)
        scales["ImageNet's mean and standard deviation"] = (x - mean) / std
    right = clean.argmax(dim=1) == y
    for name, points in scales.items():
        rescaled = logits(points, 0).argmax(dim=1) == y
        better = float(rescaled.float().mean() - right.float().mean())
        if better >= _JUMP and mcnemar(int((right & ~rescaled).sum()), int((rescaled & ~right).sum())) < _SURELY:
            yield Flag(
                name="input-scale",
                evidence=f"accuracy is {_percent(right)} on {len(x)} inputs in [0, 1] and {_percent(rescaled)} on the "
                f"same inputs scaled to {name}",
            )


def _gradients(model: nn.Module, x: Tensor, y: Tensor, *, steady: bool) -> Iterator[Flag]:
    try:
        gradient, _, _ = input_gradient(model, x, y, cross_entropy)
        slope, before, _ = input_gradient(model, x, y, margin)
    except (UsageError, RuntimeError) as error:
        yield Flag(name="no-gradients", evidence=f"no gradient with respect to the input: {error}")
        return
    values = flat(gradient)
    zero, broken = (values == 0).all(dim=1), ~values.isfinite().all(dim=1)
    if more_than_a_few(int((zero | broken).sum()), len(x)):
        yield Flag(
            name="no-gradients",
            evidence=f"the gradient of the cross-entropy is zero for {int(zero.sum())} and not finite for "
            f"{int(broken.sum())} of {len(x)} inputs",
        )
    if not steady:
        return
    with torch.no_grad():
        rises = margin(model((x + _SMALL_STEP * slope.sign()).clamp(0, 1)), y) > before
        chance = margin(model((x + _SMALL_STEP * torch.randn_like(x).sign()).clamp(0, 1)), y) > before
    if float(rises.float().mean()) < _RISES:
        yield Flag(
            name="rough-loss",
            evidence=f"a step of 1/255 along the gradient raises the margin of {_percent(rises)} of {len(x)} inputs, "
            f"one in a random direction that of {_percent(chance)}",
        )
    x, y = x[:_SEARCHED], y[:_SEARCHED]
    _, reached = climb(model, x, y, Threat("linf", 1.0), x, steps=_STEPS, step_size=_STRIDE, loss=_finite)
    left = int((~reached.isposinf()).sum())
    if more_than_a_few(left, len(x)):
        yield Flag(
            name="stands-at-any-eps",
            evidence=f"{_STEPS} steps of PGD on the cross-entropy, free to go anywhere in [0, 1], leave {left} of "
            f"{len(x)} inputs standing",
        )


def _finite(logits: Tensor, y: Tensor) -> Tensor:
    """The cross-entropy, short of the infinity that means "fallen" to the search."""
    return cross_entropy(logits, y).clamp_max(torch.finfo(torch.float32).max)


def _percent(hits: Tensor) -> str:
    return f"{100 * float(hits.float().mean()):.0f} %"
