"""The embedded default: a subset of MNIST."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from robustkit.contracts import Data, Threat
from robustkit.data.recipes import DIGITS
from robustkit.data.splits import ArraySplit, fingerprint, holdout, validation_size


@dataclass(frozen=True, kw_only=True)
class MNIST10k:
    """The first 10,000 training and the first 2,000 test images of MNIST (LeCun, Cortes & Burges 1998).

    500 of the training images, drawn with a fixed seed, are for validation. Read from the file beside this one;
    `data_dir` is not looked at.
    """

    def __call__(self, data_dir: Path | None = None) -> Data:
        with (
            (resources.files("robustkit.data") / "mnist_10k.npz").open("rb") as file,
            np.load(file, allow_pickle=False) as arrays,
        ):
            train, test = (
                ArraySplit(
                    torch.from_numpy(arrays[f"x_{part}"]).unsqueeze(1),  # uint8 (N, 1, 28, 28)
                    torch.from_numpy(arrays[f"y_{part}"]).long(),  # (N,)
                )
                for part in ("train", "test")
            )
        rest, val = holdout(train, validation_size(len(train)))
        return Data(
            name="mnist_10k",
            classes=tuple("0123456789"),
            shape=(1, 28, 28),
            threat=Threat("linf", 0.3),
            train=rest,
            val=val,
            test=test,
            fingerprint=fingerprint(train, test),
            recipe=DIGITS,
        )
