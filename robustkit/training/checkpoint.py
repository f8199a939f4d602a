"""The state of a training on disk, after each epoch, so that a killed one goes on."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustkit.contracts import Recipe
from robustkit.files import replacing
from robustkit.params import UsageError
from robustkit.precision import Chosen


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything the next epoch depends on. Random draws depend on seed and epoch alone, so no generator is kept.

    Args:
        about: which training this is; another one is never continued from here.
        precision: in which it began; "auto" could choose another one the next time.
        epoch: epochs done.
        model, optimizer: state dicts.
        average: weights of the moving average, empty where there is none.
        memory: what the method keeps between batches.
        kept: weights of earlier epochs, and what is known of them.
    """

    about: str
    precision: Chosen
    epoch: int
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    average: dict[str, Tensor]
    memory: dict[str, Tensor]
    kept: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write by rename: a reader finds the old file or the new one, whole."""
        with replacing(path) as part:
            torch.save(vars(self), part)


def described(recipe: Recipe) -> str:
    """What stands for a recipe in `about`: the fields that differ from their defaults.

    A field that a later version adds is not in it where it changes nothing, so that trainings go on after an upgrade.
    """
    changed = [f"{f.name}={value!r}" for f in fields(recipe) if (value := getattr(recipe, f.name)) != f.default]
    return f"Recipe({', '.join(changed)})"


def load(path: Path, about: str, device: str) -> Checkpoint | None:
    """The checkpoint at `path`, or None where there is none; what a killed process left half-written is removed.

    Raises:
        UsageError: it belongs to another training, or cannot be read.
    """
    for part in path.parent.glob(f"{path.name}.*.part"):
        part.unlink(missing_ok=True)
    if not path.is_file():
        return None
    try:
        found = Checkpoint(**torch.load(path, map_location=device, weights_only=True))
    except Exception as error:  # whatever a damaged archive makes the reader raise
        raise UsageError(
            f"checkpoint {path} cannot be read ({type(error).__name__}); delete it to start anew"
        ) from error
    if found.about != about:
        raise UsageError(
            f"checkpoint {path} is of another training:\n  there: {found.about}\n  here:  {about}\n"
            "delete it, or train into another folder"
        )
    return found
