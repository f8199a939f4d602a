"""Between RobustKit's contract and foolbox's: models, criteria, tensors.

foolbox 3.3.4 takes a model, inputs and a criterion, and leaves gradients in the model's parameters, since
EagerPy calls `backward`. Here the parameters are frozen while an attack runs, which also saves the passes that
would compute those gradients.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from robustkit.norms import project


def _import_foolbox() -> tuple[Any, Any]:
    """Import foolbox without its side effects.

    foolbox.attacks.blur imports an alias that SciPy is about to remove, which warns, and foolbox.zoo imports
    GitPython, which raises where no git executable is installed although no attack needs it.
    """
    asked = os.environ.get("GIT_PYTHON_REFRESH")
    os.environ["GIT_PYTHON_REFRESH"] = asked or "quiet"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*scipy\.ndimage\.filters", category=DeprecationWarning)
            import foolbox
    finally:
        if asked is None:
            del os.environ["GIT_PYTHON_REFRESH"]
    return foolbox, foolbox.attacks


foolbox, attacks = _import_foolbox()

if TYPE_CHECKING:
    from torch import Tensor

    from robustkit.contracts import Threat

    Search = Callable[[Any, Tensor, Any], Tensor]
    """(foolbox model, x float32, criterion) → perturbed x."""


class _Network(nn.Module):
    """The user's model as foolbox wants it: float32 in and out. Held outside the module tree, so that foolbox
    can neither move it nor change its mode.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self._held = (model, dtype)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        model, dtype = self._held
        logits: Tensor = model(x.to(dtype))
        return logits.float()


@contextlib.contextmanager
def wrapped(model: nn.Module, x: Tensor) -> Iterator[Any]:
    """A foolbox model on the box [0, 1]; the parameters of `model` need no gradient inside."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield foolbox.PyTorchModel(_Network(model, x.dtype), bounds=(0, 1), device=x.device)
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def criterion(y: Tensor, targeted: bool) -> Any:
    """What foolbox counts as a success for labels (N,), or for targets (N,)."""
    y = y.detach().long()
    return foolbox.criteria.TargetedMisclassification(y) if targeted else foolbox.criteria.Misclassification(y)


def adversarial(network: Any, x: Tensor, y: Tensor, targeted: bool) -> Tensor:
    """(N,) bool: does the criterion hold at x?"""
    with torch.no_grad():
        hit: Tensor = network(x).argmax(dim=1) == y
    return hit if targeted else ~hit


def budget(
    attack: Any,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    targeted: bool = False,
    restarts: int = 1,
) -> Tensor:
    """Run a fixed-budget attack; after the first run only samples that still stand are attacked again.

    foolbox returns what its last step gave; the result is brought into ball and box here, and a sample whose
    result is not finite comes back unchanged.
    """
    with wrapped(model, x) as network:
        x32, best = x.detach().float(), x.detach().float().clone()
        standing = torch.arange(len(x), device=x.device)
        for restart in range(restarts):
            if restart:
                fallen = adversarial(network, best[standing], y[standing], targeted)
                standing = standing[~fallen]
            if len(standing) == 0:
                break
            part = x32[standing]
            found = attack.run(network, part, criterion(y[standing], targeted), epsilon=threat.eps).detach()
            finite = torch.isfinite(found).flatten(1).all(dim=1).view(-1, 1, 1, 1)
            best[standing] = project(torch.where(finite, found, part), part, threat)
    return _like(best, x)


def minimal(search: Search, model: nn.Module, x: Tensor, y: Tensor, *, targeted: bool = False) -> Tensor:
    """Run a minimum-norm attack on the samples that are not adversarial as they are.

    A sample for which the search ends on something not adversarial comes back unchanged: foolbox returns its
    last or its first iterate there, or a black image (Carlini-Wagner, EAD).
    """
    with wrapped(model, x) as network:
        best = x.detach().float().clone()
        todo = ~adversarial(network, best, y, targeted)  # (N,)
        if bool(todo.any()):
            part = best[todo]
            found = search(network, part, criterion(y[todo], targeted)).detach().clamp(0, 1)
            found = torch.where(torch.isfinite(found), found, part)
            valid = adversarial(network, found, y[todo], targeted)
            best[todo] = torch.where(valid.view(-1, 1, 1, 1), found, part)
    return _like(best, x)


def _like(found: Tensor, x: Tensor) -> Tensor:
    """`found` in the type of x; values that were not moved are those of x to the last bit."""
    return torch.where(found == x.float(), x.detach(), found.to(x.dtype))
