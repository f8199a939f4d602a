"""ART's port of Brendel and Bethge's attack, which follows the boundary with a solver that numba compiles."""

from __future__ import annotations

import contextlib
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import tqdm.auto

from robustkit.params import check, param
from robustkit_art.bridge import ORDER, minimal
from robustkit_art.library import unchanged
from robustkit_art.local import NumPy

with unchanged():
    import numba  # noqa: F401 - without it ART leaves the attack out of its package
    from art.attacks.evasion import brendel_bethge as module

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat


def _with_seeded_numpy(method: types.FunctionType) -> types.FunctionType:
    """The method with a seeded `np`; numba, which compiles other functions of the module, must see the real one."""
    names = {**method.__globals__, "np": NumPy()}
    return types.FunctionType(method.__code__, names, method.__name__, method.__defaults__, method.__closure__)


class _Seeded(module.BrendelBethgeAttack):  # type: ignore[misc]
    """Draws starting points from NumPy's global generator, as the host has seeded it."""

    _init_sample = _with_seeded_numpy(module.BrendelBethgeAttack._init_sample)


@dataclass(frozen=True, kw_only=True)
class BrendelBethge:
    """Along the boundary, the nearest point within a trust region at each step (`BrendelBethgeAttack`).

    ART asserts that every sample of a batch has a starting point and searches the boundary for all at once; here
    each sample is attacked alone, and one without a start comes back unchanged. Its progress bar is switched off.
    The first call of a process compiles the solver, which takes about half a minute.
    Cost: `steps` forward and backward passes and one problem of the solver for each step and sample.
    """

    steps: int = param(1000, "iterations", low=1)
    step_size: float = param(1e-3, "first radius of the trust region (lr), as a share of the number of values")
    overshoot: float = param(1.1, "factor by which the boundary is overstepped", low=1.0)
    lr_decay: float = param(0.5, "factor on the radius at each decay", low=0.0, high=1.0)
    lr_num_decay: int = param(20, "decays", low=1)
    momentum: float = param(0.8, "of the estimated boundary", low=0.0, high=1.0)
    binary_search_steps: int = param(10, "halvings between the start and the input", low=1)
    init_size: int = param(100, "random images tried as a start", low=1)
    targeted: bool = param(False, "look for the given class; the start must be a random image of that class")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        order = 0 if threat.norm == "l0" else ORDER[threat.norm]
        with _quiet():
            return minimal(
                lambda estimator: _WithoutStart(
                    _Seeded(
                        estimator,
                        norm=order,
                        targeted=self.targeted,
                        overshoot=self.overshoot,
                        steps=self.steps,
                        lr=self.step_size,
                        lr_decay=self.lr_decay,
                        lr_num_decay=self.lr_num_decay,
                        momentum=self.momentum,
                        binary_search_steps=self.binary_search_steps,
                        init_size=self.init_size,
                    )
                ),
                model,
                x,
                y,
                targeted=self.targeted,
                alone=True,
                beyond=True,
            )


@dataclass(frozen=True)
class _WithoutStart:
    """Returns the input where ART's assertion of a starting point fails."""

    attack: Any

    def generate(self, x: Any, y: Any) -> Any:
        try:
            return self.attack.generate(x, y)
        except AssertionError:
            return x


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar, which ART imports when it runs and does not let be switched off, and no warnings of numba."""
    bar = tqdm.auto.trange
    tqdm.auto.trange = partial(bar, disable=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        tqdm.auto.trange = bar
