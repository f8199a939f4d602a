"""Questions of a course or a paper, each answered with a figure, a table and a text of what is seen.

`linear`, `tradeoff`, `gradients`, `large_eps`, `interpolate` and `epochs` are functions that return a `Study`; imported
with torch and matplotlib when they are first used. `robustkit study NAME` writes one to a folder.
"""

from __future__ import annotations

import importlib
from typing import Any

STUDIES = {
    "linear": "closed-form worst cases of linear models, adversarial training beside the soft-margin SVM",
    "tradeoff": "standard against robust accuracy, over training ε and the size of the training set",
    "gradients": "input gradients of standard and of robust networks",
    "large_eps": "adversarial examples at large ε: do they show the other class?",
    "interpolate": "from an image to its large-ε adversarial example, as a strip and an animated GIF",
    "epochs": "adversarial examples over the epochs of a training",
}
"""Name → what it asks."""

__all__ = ["STUDIES", *STUDIES]  # noqa: PLE0604 (names of functions that are imported when used)


def __getattr__(name: str) -> Any:
    if name not in STUDIES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"robustkit.studies.{name}_study"), name)
