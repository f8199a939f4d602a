"""One certifier on one block of samples, checked; and what its rows add up to."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from robustkit.contracts import ABSTAIN, Certificate, Norm
from robustkit.engine.guard import guarded
from robustkit.engine.verdict import CellError
from robustkit.host import Component

Columns = dict[str, np.ndarray]
_OWN = ("index", "label", "prediction", "radius", "seconds")


@dataclass(frozen=True, kw_only=True)
class CertifiedBlock:
    """What came of one certifier on one block.

    Args:
        columns: by sample: index, label, prediction (ABSTAIN is -1), radius, the certifier's counts, and seconds,
            which are the block's, spread over its samples by their forward passes where those are counted.
        guarantee: the exact promise.
        norm: of the radii.
        restored: what the certifier had changed of the model.
        seconds: of the whole block.
    """

    columns: Columns
    guarantee: str
    norm: Norm
    restored: tuple[str, ...]
    seconds: float


def certify_block(
    model: nn.Module, certifier: Component, x: Tensor, y: Tensor, rows: Tensor, norm: Norm, seed: int
) -> CertifiedBlock:
    """Certify x (N, C, H, W) with labels y (N,), samples `rows` (N,) of the data.

    Raises:
        CellError: what came back is no certificate of N inputs in `norm`.
    """
    began = time.perf_counter()
    with guarded(model, seed) as state:
        found = certifier.value(model, x.clone(), y.clone())
    seconds = time.perf_counter() - began
    _check(found, len(x), norm, certifier.label)
    columns = {
        "index": rows.cpu().numpy(),
        "label": y.cpu().numpy(),
        "prediction": found.prediction.cpu().numpy(),
        "radius": found.radius.double().cpu().numpy(),
        **{name: column.cpu().numpy() for name, column in found.counts.items() if name not in _OWN},
        "seconds": seconds * _shares(found),
    }
    return CertifiedBlock(
        columns=columns, guarantee=found.guarantee, norm=found.norm, restored=state.restored, seconds=seconds
    )


def _shares(found: Certificate) -> np.ndarray:
    """(N,) of each sample in the work of the block, in sum 1."""
    work = found.counts["passes"].double() if "passes" in found.counts else found.radius.new_ones(len(found.radius))
    shares: np.ndarray = (work / work.sum().clamp_min(1)).cpu().numpy()
    return shares


def _check(found: object, count: int, norm: Norm, label: str) -> None:
    if not isinstance(found, Certificate):
        raise CellError(f"{label} returned a {type(found).__name__}, not a Certificate")
    for name, column in (("prediction", found.prediction), ("radius", found.radius), *found.counts.items()):
        if column.shape != (count,):
            raise CellError(f"{label} returned {name} of shape {tuple(column.shape)} for {count} inputs")
    if not bool((found.radius >= 0).all()):
        raise CellError(f"{label} returned a radius that is negative or not a number")
    if bool((found.radius[found.prediction == ABSTAIN] > 0).any()):
        raise CellError(f"{label} returned a radius for an input on which it abstained")
    if found.norm != norm:
        raise CellError(f"{label} certifies in {found.norm}, asked for was {norm}")


def certified(columns: Mapping[str, np.ndarray], eps: float) -> np.ndarray:
    """(N,) bool: predicted as labelled, with a radius of at least `eps`."""
    right: np.ndarray = (columns["prediction"] == columns["label"]) & (columns["radius"] >= eps)
    return right


def summary(columns: Mapping[str, np.ndarray], radii: Sequence[float]) -> dict[str, float | int | None]:
    """Numbers of a certification.

    `certified` counts what is predicted as labelled, `wrong` what is predicted as another class, `abstained` the
    rest; for a certifier that tests the label alone `wrong` is 0. `average_radius` (ACR) is the mean over all
    inputs of the radius, 0 where it is not certified; `mean_radius_certified` is the mean over the certified.
    """
    right = columns["prediction"] == columns["label"]
    abstained = columns["prediction"] == ABSTAIN
    radius = np.minimum(columns["radius"], np.finfo(np.float64).max)  # a constant network has an infinite one
    count = len(right)
    return {
        "count": count,
        "certified": int(right.sum()),
        "wrong": int((~right & ~abstained).sum()),
        "abstained": int(abstained.sum()),
        "average_radius": float(np.where(right, radius / max(count, 1), 0.0).sum()),
        "mean_radius_certified": float((radius[right] / right.sum()).sum()) if right.any() else None,
        **{f"certified_accuracy@{eps:g}": float(certified(columns, eps).mean()) for eps in radii if count},
        **({"mean_passes": float(columns["passes"].mean())} if "passes" in columns and count else {}),
    }
