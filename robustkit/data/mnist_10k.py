"""The embedded default: a subset of MNIST."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustkit.contracts import Data, Threat
from robustkit.data.recipes import DIGITS
from robustkit.data.splits import ArraySplit, holdout

_FINGERPRINT = "mnist_10k-ba891046-65a50cbb"
"""The subset never changes: first samples of the files whose sha256 begin so; a test compares them."""


@dataclass(frozen=True, kw_only=True)
class MNIST10k:
    """The first 10,000 training and 2,000 test images of MNIST (LeCun, Cortes & Burges 1998).

    500 of the training images, drawn with a fixed seed, are for validation.
    """

    def __call__(self, data_dir: Path | None = None) -> Data:
        with (
            resources.as_file(resources.files("robustkit.data") / "mnist_10k.npz") as path,
            np.load(path, allow_pickle=False) as arrays,
        ):
            train = _split(arrays["x_train"], arrays["y_train"])
            test = _split(arrays["x_test"], arrays["y_test"])
        train, val = holdout(train, 500)  # type: ignore[assignment]
        return Data(
            name="mnist_10k",
            classes=tuple("0123456789"),
            shape=(1, 28, 28),
            threat=Threat("linf", 0.3),
            train=train,
            val=val,
            test=test,
            fingerprint=_FINGERPRINT,
            recipe=DIGITS,
        )


def _split(images: np.ndarray, labels: np.ndarray) -> ArraySplit:
    x: Tensor = torch.from_numpy(images).unsqueeze(1)
    return ArraySplit(x, torch.from_numpy(labels).long())
