"""A few adversarial images of each attack, kept in the run directory for people to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustkit.engine.evaluate import Arena, BlockResult
from robustkit.files import as_npz, from_npz

MOST = 10
_VALUES = 500_000
"""At most so many pixel values a cell, so that large images don't fill a disk: 3 of 3 x 224 x 224."""


def picture_path(directory: Path, key: str) -> Path:
    return directory / "pictures" / f"{key}.npz"


def chosen_rows(labels: Tensor, values: int) -> Tensor:
    """(n,) int64, n ≤ 10: the first sample of each class, in the order in which classes appear.

    The choice depends on labels alone, so that all models and attacks of a run show the same images.

    Args:
        labels: (N,) int64.
        values: C·H·W of an image.
    """
    first: dict[int, int] = {}
    for row, label in enumerate(labels.tolist()):
        first.setdefault(label, row)
    most = min(MOST, max(1, _VALUES // values))
    return torch.tensor(sorted(first.values())[:most], dtype=torch.int64)


def pictures_of(x: Tensor, y: Tensor, result: BlockResult, arena: Arena, classes: Sequence[str], seed: int) -> bytes:
    """The chosen samples of one block as npz, without pickle.

    Arrays: x, x_adv (n, C, H, W) float32; row, label, clean_pred, adv_pred (n,) int64; clean_confidence,
    adv_confidence (n,) float32, the softmax share of the predicted class; attacked, success (n,) bool; classes (K,)
    text.

    Args:
        x, y: (N, C, H, W) and (N,) the block.
        result: what the attack made of it.
        arena: of the model, for its confidence.
        classes: names.
        seed: of the predictions, which some models draw random numbers for.
    """
    rows = chosen_rows(y, x[0].numel())
    here = rows.to(x.device)
    arrays: dict[str, np.ndarray] = {"row": rows.numpy(), "classes": np.array(classes, dtype=np.str_)}
    for name, images, pred in (("clean", x, result.clean_pred), ("adv", result.x_adv, result.adv_pred)):
        shares = arena.logits(images[here], seed).softmax(dim=1)
        arrays[f"{name}_confidence"] = _numpy(shares.gather(1, pred[here, None]).squeeze(1))
        arrays[f"{name}_pred"] = _numpy(pred[here])
    arrays |= {
        "x": _numpy(x[here]),
        "x_adv": _numpy(result.x_adv[here]),
        "label": _numpy(y[here]),
        "attacked": _numpy(result.attacked[here]),
        "success": _numpy(result.success[here]),
    }
    return as_npz(arrays, compressed=True)


def read_pictures(directory: Path, key: str) -> Mapping[str, np.ndarray] | None:
    """The arrays of one cell; None where none were kept."""
    path = picture_path(directory, key)
    return from_npz(path) if path.is_file() else None


def images_as_npz(images: Mapping[str, Tensor]) -> bytes:
    """Named images as npz, without pickle: `names` (n,) text, and `image_0`, `image_1` … (C, H, W) float32.

    Args:
        images: (C, H, W) in [0, 1], or (N, C, H, W), of which the first is kept.
    """
    shown = [image[0] if image.ndim == 4 else image for image in images.values()]
    arrays = {f"image_{place}": _numpy(image.detach().float().clamp(0, 1)) for place, image in enumerate(shown)}
    return as_npz({"names": np.array(list(images), dtype=np.str_), **arrays}, compressed=True)


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()
