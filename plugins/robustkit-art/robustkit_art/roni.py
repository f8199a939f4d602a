"""RONI on flattened images, with classifiers that are copied in memory."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from robustkit_art.bridge import PyTorchClassifier, one_hot
from robustkit_art.library import poison as art

if TYPE_CHECKING:
    from torch import Tensor

    from robustkit_art.detectors import RONI


class _Rows(nn.Module):
    """The network on rows (N, D)."""

    def __init__(self, network: nn.Module, shape: torch.Size) -> None:
        super().__init__()
        self.network, self.shape = network, shape

    def forward(self, rows: Tensor) -> Tensor:
        logits: Tensor = self.network(rows.reshape(len(rows), *self.shape))
        return logits


class _Copied(PyTorchClassifier):  # type: ignore[misc]
    """ART's deepcopy of a classifier writes its weights to a file and reads them back as a pickle."""

    @classmethod
    def of(cls, network: nn.Module, shape: tuple[int, ...], classes: int, lr: float, epochs: int) -> _Copied:
        made = cls(
            model=network,
            loss=nn.CrossEntropyLoss(),
            input_shape=shape,
            nb_classes=classes,
            optimizer=torch.optim.SGD(network.parameters(), lr=lr),
            clip_values=(0.0, 1.0),
            device_type="cpu" if next(network.parameters()).device.type == "cpu" else "gpu",
        )
        made.how = (lr, epochs)
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> _Copied:
        lr, epochs = self.how
        return self.of(copy.deepcopy(self.model), self.input_shape, self.nb_classes, lr, epochs)

    def fit(self, x: Any, y: Any, **options: Any) -> None:
        # batch normalisation keeps its statistics: a fit shall differ by the suspect alone
        super().fit(x, y, batch_size=64, nb_epochs=self.how[1], training_mode=False)


def _accuracy(truth: Any, scores: Any) -> float:
    """ART's own "accuracy" compares one-hot labels with logits, which scikit-learn refuses."""
    return float((np.argmax(truth, axis=1) == np.argmax(scores, axis=1)).mean())


def impact(
    model: nn.Module, suspects: tuple[Tensor, Tensor], trusted: tuple[Tensor, Tensor], classes: int, how: RONI
) -> tuple[Tensor, Tensor]:
    """Flags (n,) and losses of accuracy (n,) of the suspects."""
    with torch.enable_grad():
        rows = _Rows(copy.deepcopy(model), suspects[0].shape[1:])
        for parameter in rows.parameters():
            parameter.requires_grad_(True)
        shape = (int(suspects[0][0].numel()),)
        defence = art.RONIDefense(
            _Copied.of(rows, shape, classes, how.lr, how.epochs),
            suspects[0].flatten(1).numpy(),
            one_hot(suspects[1], classes),
            trusted[0].flatten(1).numpy(),
            one_hot(trusted[1], classes),
            perf_func=_accuracy,
            pp_quiz=how.quiz_share,
            calibrated=False,
            eps=how.threshold,
        )
        seen: dict[int, float] = {}
        judge = defence.is_suspicious

        def recorded(before: Any, shift: float) -> bool:
            seen[len(seen)] = shift
            return bool(judge(before, shift))

        defence.is_suspicious = recorded
        state = np.random.get_state()  # noqa: NPY002
        order = np.random.permutation(len(suspects[1]))  # noqa: NPY002 - the order ART will draw
        np.random.set_state(state)  # noqa: NPY002
        _, clean = defence.detect_poison()
    shifts = torch.zeros(len(order), dtype=torch.float64)
    for position, index in enumerate(order):
        shifts[int(index)] = seen[position]
    return torch.tensor(clean) == 0, shifts
