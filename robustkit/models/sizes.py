"""Which image sizes an architecture takes."""

from __future__ import annotations

from robustkit.contracts import Shape
from robustkit.params import UsageError


def at_least(pixels: int, shape: Shape, name: str) -> Shape:
    """`shape`, unless a side is shorter than `pixels`.

    Raises:
        UsageError: naming the model, the size it needs and the size given.
    """
    _, height, width = shape
    if min(height, width) < pixels:
        raise UsageError(
            f"{name} needs images of at least {pixels} x {pixels}, these are {height} x {width}; "
            "take --model linear or mlp"
        )
    return shape
