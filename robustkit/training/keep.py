"""Which epoch's weights are returned, and what becomes of a training that collapses or no longer gets better."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from robustkit.contracts import Recipe

_FALL = 0.2
"""A fall of the robust accuracy by more than this is a collapse (Wong et al. 2020)."""

ROBUST, CLEAN = "validation robust accuracy", "validation accuracy"

State = dict[str, Any]
"""State dicts of model and optimiser, and the moving average."""


class Keeper:
    """Judges each epoch by its robust accuracy on validation data; by its clean one where there is no other.

    A collapse is catastrophic overfitting: the robust accuracy lies more than 0.2 below that of the best epoch,
    while the accuracy on the training examples is no lower than it was then. Other losses of robust accuracy, such
    as robust overfitting or too large a learning rate, don't look like this.

    Args:
        recipe: its `keep`, `patience` and `collapse` are obeyed here.
        kept: what `kept` of an earlier process was.
    """

    def __init__(self, recipe: Recipe, kept: Mapping[str, Any] | None) -> None:
        self._recipe = recipe
        self.kept: dict[str, Any] = {
            "best": None,  # the state of the best epoch
            "good": None,  # the state of the last epoch before a collapse
            "score": float("-inf"),  # the best epoch's accuracy
            "trained": 0.0,  # its accuracy on training examples
            "epoch": 0,  # its number, from 1
            "warned": False,
            "ended": False,
            **(kept or {}),
        }

    @property
    def ended(self) -> bool:
        """Whether the training is over before its last epoch."""
        return bool(self.kept["ended"])

    @property
    def best(self) -> State | None:
        """What to return instead of the last weights."""
        found: State | None = self.kept["best"] if self._recipe.keep == "best" else None
        return found

    def epoch_done(self, epoch: int, metrics: Mapping[str, float], state: Callable[[], State]) -> State | None:
        """Take note of an epoch (from 1).

        Args:
            epoch: its number.
            metrics: of the epoch, validation included.
            state: of the training now; asked for where it is kept, and copied.

        Returns:
            The state to go back to, None to go on from here.
        """
        kept, recipe = self.kept, self._recipe
        score = metrics.get(ROBUST, metrics[CLEAN])
        earlier = None
        if self.collapsed(metrics):
            if not kept["warned"]:
                warnings.warn(_collapse_words(epoch, kept, metrics, recipe), RuntimeWarning, stacklevel=2)
                kept["warned"] = True
            kept["ended"] = recipe.collapse == "stop"
            earlier = kept["good"]
        else:
            best = score >= kept["score"]
            wanted = recipe.collapse != "report" or (best and recipe.keep == "best")
            snapshot = copy.deepcopy(state()) if wanted else None
            if best:
                kept |= {"score": score, "trained": metrics["train accuracy"], "epoch": epoch}
            if best and recipe.keep == "best":
                kept["best"] = snapshot
            if recipe.collapse != "report":
                kept["good"] = snapshot
        if recipe.patience and epoch - kept["epoch"] >= recipe.patience:
            kept["ended"] = True
        return earlier

    def collapsed(self, metrics: Mapping[str, float]) -> bool:
        """Whether an epoch with these metrics is a collapse."""
        if ROBUST not in metrics:
            return False
        fell = metrics[ROBUST] < float(self.kept["score"]) - _FALL
        return fell and metrics["train accuracy"] >= float(self.kept["trained"])


def _collapse_words(epoch: int, kept: Mapping[str, Any], metrics: Mapping[str, float], recipe: Recipe) -> str:
    remedy = {
        "report": "the training goes on; collapse=stop or collapse=rewind in the recipe keep the last good weights",
        "stop": "the training ends with the weights of before",
        "rewind": "the training goes on with the weights of before",
    }[recipe.collapse]
    return (
        f"catastrophic overfitting in epoch {epoch}: robust accuracy on validation data fell from "
        f"{kept['score']:.3f} (epoch {kept['epoch']}) to {metrics[ROBUST]:.3f}, while the accuracy on training "
        f"examples went from {kept['trained']:.3f} to {metrics['train accuracy']:.3f}; {remedy}"
    )
