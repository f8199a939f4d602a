"""What ART's trainings share: a classifier of the network itself, the recipe's optimizer and schedule, arrays, seeds.

ART trains on arrays in memory, in float32, without augmentation, ramp or averaged weights. Optimizer, batch size,
epochs and learning rate are the recipe's, and the schedule counts weight updates.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from robustkit.training.schedule import rate
from robustkit_art.bridge import PyTorchClassifier, one_hot

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from robustkit.contracts import Data, Recipe, Training


class _Whole(nn.Module):
    """ART calls a Sequential layer by layer, takes the first layer's output for the prediction, and hands float64."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(x.float())
        return logits


class _Learner(PyTorchClassifier):  # type: ignore[misc]
    """A classifier that is back in training mode after a gradient: FBF would train BatchNorm in eval mode."""

    def loss_gradient(self, x: Any, y: Any, training_mode: bool = False, **options: Any) -> Any:
        gradient = super().loss_gradient(x, y, training_mode=training_mode, **options)
        self._model.train(mode=True)
        return gradient


def learner(model: nn.Module, data: Data, training: Training) -> PyTorchClassifier:
    """An ART classifier of `model` itself, with the recipe's optimizer and schedule."""
    recipe = training.recipe
    model.to(training.device)
    if recipe.optimizer == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            model.parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.momentum > 0,
            weight_decay=recipe.weight_decay,
        )
    else:
        optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    _schedule(optimizer, recipe, recipe.epochs * -(-len(data.train) // recipe.batch_size))
    return _Learner(
        model=_Whole(model),
        loss=nn.CrossEntropyLoss(),
        input_shape=data.shape,
        nb_classes=len(data.classes),
        optimizer=optimizer,
        clip_values=(0.0, 1.0),
        device_type="gpu" if training.device.startswith("cuda") else "cpu",
    )


def _schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, updates: int) -> None:
    done = 0

    def before(chosen: torch.optim.Optimizer, given: Any, named: Any) -> None:
        nonlocal done
        for group in chosen.param_groups:
            group["lr"] = rate(recipe, min(done, updates - 1), updates)
        done += 1

    optimizer.register_step_pre_hook(before)


def arrays(data: Data) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The training set: x (N, C, H, W) and one-hot y (N, K)."""
    x, y = data.train.batch(torch.arange(len(data.train)))
    return x.numpy().copy(), one_hot(y, len(data.classes))


@contextlib.contextmanager
def seeded(training: Training) -> Iterator[None]:
    """ART shuffles by NumPy's global generator; inside it and torch's are seeded, after it they are as before."""
    kept = np.random.get_state()  # noqa: NPY002
    devices = [training.device] if training.device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices), torch.enable_grad():
        torch.manual_seed(training.seed)
        np.random.seed(training.seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(kept)  # noqa: NPY002
