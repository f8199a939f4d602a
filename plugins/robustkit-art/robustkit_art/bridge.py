"""Between RobustKit's contract and ART's: classifiers, one-hot labels, NumPy arrays.

ART 1.20.1 takes float32 arrays and a `PyTorchClassifier`. It puts the model into eval mode, leaves gradients in
its parameters, draws from NumPy's global generator, and hands float64 to the model under NumPy >= 2. Here it gets
a stand-in for the model that casts and can't be changed, and the model's parameters are frozen meanwhile.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from robustkit.norms import project
from robustkit_art.library import PyTorchClassifier, evasion

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from robustkit.contracts import Norm, Threat

    Make = Callable[[PyTorchClassifier], Any]
    """A classifier → an ART attack."""

__all__ = [
    "ORDER",
    "adversarial",
    "budget",
    "classifier",
    "evasion",
    "generate",
    "minimal",
    "one_hot",
    "runner_up",
]

ORDER: dict[Norm, Any] = {"linf": np.inf, "l2": 2, "l1": 1}
"""ART's names of the norms."""


class Network(nn.Module):
    """The user's model as ART may have it: float32 in and out, modes and submodules out of reach.

    Args:
        model: float (N, C, H, W) in [0, 1] → logits (N, K).
        x: a batch like those to come; its type is what `model` gets.
        probabilities: softmax of the logits, for attacks that want probabilities.
        flat: inputs come as (N, D).
        channels_last: inputs come as (N, H, W, C).
    """

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        *,
        probabilities: bool = False,
        flat: bool = False,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self._held = (model, x.dtype, x.shape[1:])
        self._how = (probabilities, flat, channels_last)
        self.anchor = nn.Parameter(
            torch.zeros((), device=x.device), requires_grad=False
        )  # where ART looks for a device
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        model, dtype, shape = self._held
        probabilities, flat, channels_last = self._how
        if channels_last:
            x = x.permute(0, 3, 1, 2)
        if flat:
            x = x.reshape(len(x), *shape)
        logits: Tensor = model(x.to(dtype)).float()
        return logits.softmax(dim=1) if probabilities else logits


@contextlib.contextmanager
def classifier(
    model: nn.Module,
    x: Tensor,
    *,
    probabilities: bool = False,
    flat: bool = False,
    channels_last: bool = False,
    kind: type[PyTorchClassifier] = PyTorchClassifier,
) -> Iterator[PyTorchClassifier]:
    """An ART classifier on the box [0, 1]; see `Network`. The parameters of `model` need no gradient inside."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    shape = tuple(x.shape[1:])
    if flat:
        shape = (int(np.prod(shape)),)
    elif channels_last:
        shape = (shape[1], shape[2], shape[0])
    try:
        with torch.no_grad():
            classes = int(model(x[:1]).shape[1])
        with torch.cuda.device(x.device) if x.device.type == "cuda" else contextlib.nullcontext():
            yield kind(
                model=Network(model, x, probabilities=probabilities, flat=flat, channels_last=channels_last),
                loss=nn.CrossEntropyLoss(reduction="sum"),  # a sample's gradient must not depend on the batch
                input_shape=shape,
                nb_classes=classes,
                clip_values=(0.0, 1.0),
                channels_first=not channels_last,
                device_type="gpu" if x.device.type == "cuda" else "cpu",
            )
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def one_hot(y: Tensor, classes: int) -> NDArray[np.float32]:
    """(N,) → (N, K)."""
    return np.eye(classes, dtype=np.float32)[y.cpu().numpy()]


def adversarial(model: nn.Module, x: Tensor, y: Tensor, targeted: bool) -> Tensor:
    """(N,) bool: is the prediction at x another than y, or y where `targeted`?"""
    with torch.no_grad():
        hit: Tensor = model(x).argmax(dim=1) == y
    return hit if targeted else ~hit


def generate(attack: Any, x: Tensor, labels: Any) -> Tensor:
    """Run an ART attack on x (N, C, H, W); what is not finite comes back as it was."""
    x32 = x.detach().float()
    with warnings.catch_warnings():
        # NumPy and SciPy warn of divisions and overflows inside; results are checked, by sample, after the call
        warnings.filterwarnings("ignore", category=RuntimeWarning)
        array = attack.generate(x32.cpu().numpy().copy(), labels)
    found = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(x.device)
    return torch.where(torch.isfinite(found), found, x32)


def budget(
    make: Make,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    labelled: bool = True,
    runs: int = 1,
    targeted: bool = False,
    probabilities: bool = False,
) -> Tensor:
    """Run a fixed-budget attack; after the first run only samples that still stand are attacked again.

    Args:
        make: builds the attack; whether it is targeted is its own matter.
        labelled: hand `y` to ART; without it ART takes the model's predictions.
        runs: of the attack.
        targeted: what counts as fallen between runs.
        probabilities: give the attack probabilities.
    """
    best = x.detach().float().clone()
    if len(x) == 0 or threat.eps == 0:
        return x.clone()
    with classifier(model, x, probabilities=probabilities) as estimator:
        standing = torch.arange(len(x), device=x.device)
        for run in range(runs):
            if run:
                standing = standing[~adversarial(model, best[standing].to(x.dtype), y[standing], targeted)]
            if len(standing) == 0:
                break
            part = x[standing]
            labels = one_hot(y[standing], estimator.nb_classes) if labelled else None
            found = generate(make(estimator), part, labels)
            best[standing] = project(found, part.float(), threat)
    return _like(best, x)


def minimal(
    make: Make,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    targeted: bool = False,
    labelled: bool = True,
    alone: bool = False,
    probabilities: bool = False,
    beyond: bool = False,
) -> Tensor:
    """Run an attack without a budget on the samples that are not adversarial as they are.

    A sample on which the attack ends without success comes back unchanged. `alone`: one sample at a time, for
    attacks that take single samples or let the samples of a batch affect one another. `beyond`: the attack ends
    on the boundary itself, where the size of a batch decides in float32; its result is taken past it by 1e-4, or
    by 1e-2 where that is too little, of its distance.
    """
    best = x.detach().float().clone()
    if len(x) == 0:
        return x.clone()
    todo = (~adversarial(model, x, y, targeted)).nonzero().flatten()  # (n,)
    with classifier(model, x, probabilities=probabilities) as estimator:
        for part in todo.split(1) if alone else (todo,):
            if len(part) == 0:
                continue
            labels = one_hot(y[part], estimator.nb_classes) if labelled else None
            found = generate(make(estimator), x[part], labels).clamp(0, 1)
            found = torch.where((found - best[part]).abs() < 1e-6, best[part], found)
            start = best[part]
            for share in (1e-2, 1e-4) if beyond else (0.0,):  # the last one that holds is the nearest
                point = (found + share * (found - start)).clamp(0, 1)
                valid = adversarial(model, point.to(x.dtype), y[part], targeted)
                best[part] = torch.where(valid.view(-1, 1, 1, 1), point, best[part])
    return _like(best, x)


def _like(found: Tensor, x: Tensor) -> Tensor:
    """`found` in the type of x; values that were not moved are those of x to the last bit."""
    return torch.where(found == x.float(), x.detach(), found.to(x.dtype))


def runner_up(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """(N,) the most likely class besides y: the target of attacks that ART offers towards a target only."""
    with torch.no_grad():
        scores: Tensor = model(x).scatter(1, y.unsqueeze(1), float("-inf"))
    return scores.argmax(dim=1)
