"""Per-sample losses that attacks maximise, (N, K) logits and (N,) classes → (N,)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from robustkit.factory import call_factory, import_factory, is_reference
from robustkit.params import ParamError, UsageError

Loss = Callable[[Tensor, Tensor], Tensor]
LossName = Literal["cross_entropy", "margin", "dlr"]
LOSSES: tuple[LossName, ...] = get_args(LossName)


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """−log softmax(logits)[y]."""
    return F.cross_entropy(logits, y, reduction="none")


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Largest other logit minus the logit of y (Carlini & Wagner 2017, https://arxiv.org/abs/1608.04644).

    Positive exactly where the prediction is not y.
    """
    own = logits.gather(1, y[:, None]).squeeze(1)
    others = logits.scatter(1, y[:, None], float("-inf"))
    return others.amax(dim=1) - own


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio (Croce & Hein 2020, https://arxiv.org/abs/2003.01690).

    The margin divided by the difference of the largest and the third largest logit, so that neither shift
    nor scale of the logits matters.

    Raises:
        UsageError: fewer than 3 classes.
    """
    if logits.shape[1] < 3:
        raise UsageError(f"loss=dlr needs at least 3 classes, the model has {logits.shape[1]}; use loss=margin")
    ordered = logits.topk(3, dim=1).values
    return margin(logits, y) / (ordered[:, 0] - ordered[:, 2]).clamp_min(1e-12)


def dlr_targeted(logits: Tensor, goal: Tensor) -> Tensor:
    """The difference of logits ratio towards one class (Croce & Hein 2020, https://arxiv.org/abs/2003.01690).

    (z_t − z_y) / (z_(1) − (z_(3) + z_(4)) / 2), z_(i) the i-th largest logit; goal (N, 2) holds y and t.

    Raises:
        UsageError: fewer than 4 classes.
    """
    if logits.shape[1] < 4:
        raise UsageError(
            f"loss=dlr_targeted needs at least 4 classes, the model has {logits.shape[1]}; use loss=margin"
        )
    own, aim = logits.gather(1, goal).unbind(1)
    ordered = logits.topk(4, dim=1).values
    return (aim - own) / (ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2).clamp_min(1e-12)


def named(name: LossName, targeted: bool) -> Loss:
    """The loss to *maximise*: away from y, or towards y where the attack is targeted."""
    loss: Loss = {"cross_entropy": cross_entropy, "margin": margin, "dlr": dlr}[name]
    return (lambda logits, y: -loss(logits, y)) if targeted else loss


OWN_LOSS = 'what is maximised: a name, or "package.module:function" of logits and y'


def check_loss(owner: str, loss: str, names: tuple[str, ...] = LOSSES) -> None:
    """Refuse what is neither one of `names` nor has the form "package.module:function".

    Raises:
        ParamError: naming `owner`, the component.
    """
    if loss not in names and not is_reference(loss):
        raise ParamError(
            f"{owner}: loss={loss!r} is not one of {', '.join(names)}, nor the path of a function, "
            "'package.module:function'"
        )


def chosen(loss: str, targeted: bool) -> Loss:
    """The loss to maximise, by its name, or the user's own: it takes logits (N, K) and y (N,), and returns (N,).

    A loss of the user's is maximised as it is, towards y where the attack is targeted.

    Raises:
        UsageError: the function cannot be imported; called, that it fails, or returns another shape.
    """
    for name in LOSSES:
        if loss == name:
            return named(name, targeted)
    function = import_factory(loss)

    def own(logits: Tensor, y: Tensor) -> Tensor:
        values = call_factory(loss, function, logits, y)
        if not isinstance(values, Tensor) or values.shape != y.shape:
            shown = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise UsageError(f"{loss} returned {shown} for {len(y)} samples; return one loss a sample, ({len(y)},)")
        return values

    return own


def reached(logits: Tensor, y: Tensor, targeted: bool) -> Tensor:
    """(N,) bool: whether the attack has what it wants."""
    hit = logits.argmax(dim=1) == y
    return hit if targeted else torch.logical_not(hit)
