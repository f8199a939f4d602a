"""What an attack returned: checked, brought into box and ball, measured. All by the host."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.contracts import Norm, Threat
from robustkit.norms import distance, flat, per_sample, project
from robustkit.params import UsageError

_BOX = 1e-6
"""How far outside [0, 1] is still rounding."""


class CellError(Exception):
    """What came back cannot be scored. The cell is an error, never "robust"."""


def check_samples(x: Tensor, y: Tensor) -> None:
    """What is to be attacked must be float32 in [0, 1] with one int64 label each.

    Raises:
        UsageError: it isn't.
    """
    if x.dtype != torch.float32 or x.ndim < 2:
        raise UsageError(f"x is {tuple(x.shape)} {x.dtype}; give float32 (N, C, H, W), with x.float()")
    if y.shape != x.shape[:1] or y.dtype != torch.int64:
        raise UsageError(f"y is {tuple(y.shape)} {y.dtype}; give int64 ({len(x)},), with y.long()")
    if not _in_box(x):
        low, high = (float(value) for value in torch.aminmax(x))
        raise UsageError(
            f"x has values from {low:g} to {high:g}; give images in [0, 1] (divide grey levels by 255) and let "
            "the model normalise"
        )


def check_logits(logits: object, count: int) -> Tensor:
    """The model's answer to `count` samples as float32 (N, K).

    Raises:
        CellError: it is something else, or has NaN in it, which an argmax would take for a class.
    """
    if not isinstance(logits, Tensor) or not logits.is_floating_point() or logits.ndim != 2 or len(logits) != count:
        shown = f"{tuple(logits.shape)} {logits.dtype}" if isinstance(logits, Tensor) else type(logits).__name__
        raise CellError(f"the model returned {shown} for {count} samples, not logits ({count}, K)")
    bad = int(logits.isnan().any(dim=1).sum())
    if bad:
        raise CellError(f"the model returned NaN for {bad} of {count} samples; no verdict is possible")
    return logits.detach().float()


def settle(returned: object, x: Tensor, threat: Threat, *, bounded: bool, name: str) -> tuple[Tensor, Tensor]:
    """Check what an attack returned, and bring it into the box, and into the ball if it is bounded by it.

    Args:
        returned: whatever it returned.
        x: (N, ...) what it was given.
        threat: ball.
        bounded: the attack has promised to stay in the ball. Of others the distance is measured as it is.
        name: of the attack, for messages.

    Returns:
        x_adv (N, ...) inside, and (N,) bool: what had to be moved by more than rounding.

    Raises:
        CellError: another type, shape or dtype, or values that are not finite.
    """
    if not isinstance(returned, Tensor):
        raise CellError(f"{name} returned {type(returned).__name__}, not a tensor")
    if returned.shape != x.shape or returned.dtype != x.dtype:
        raise CellError(
            f"{name} returned {tuple(returned.shape)} {returned.dtype}, not {tuple(x.shape)} {x.dtype} as it was given"
        )
    points = returned.detach().to(x.device)
    outside = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    if not _in_box(points):
        bad = int((~torch.isfinite(flat(points))).any(dim=1).sum())
        if bad:
            raise CellError(f"{name} returned values that are not finite in {bad} of {len(x)} samples")
        outside = ((flat(points) < -_BOX) | (flat(points) > 1 + _BOX)).any(dim=1)
    settled = points.clamp(0, 1)
    if bounded:
        too_far = distance(settled, x, threat.norm) > threat.allowance
        if too_far.any():
            settled = torch.where(per_sample(too_far, settled), project(settled, x, threat), settled)
            outside = outside | too_far
    return settled, outside


def _in_box(x: Tensor) -> bool:
    """Whether all values are in [0, 1], up to rounding; NaN is not."""
    if not x.numel():
        return True
    low, high = torch.aminmax(x)
    return bool((low >= -_BOX) & (high <= 1 + _BOX))


def distances(x_adv: Tensor, x: Tensor) -> dict[Norm, Tensor]:
    """(N,) float32 distance of each sample in each norm, in one go over the differences.

    Float32 is exact enough: differences of neighbouring float32 numbers have no rounding at all, and sums are
    formed pairwise or in float64.
    """
    size = flat(x_adv - x).abs_()  # (N, D)
    return {
        "linf": size.amax(dim=1),
        "l2": torch.linalg.vector_norm(size, dim=1, dtype=torch.float64).float(),
        "l1": size.sum(dim=1),
        "l0": size.sign_().sum(dim=1),  # in place, so last
    }
