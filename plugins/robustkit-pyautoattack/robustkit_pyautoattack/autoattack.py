"""AutoAttack by the package pyautoattack."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyautoattack  # noqa: TID253 - imported only when the attack is used
import torch
from torch import nn

from robustkit.params import UsageError, check, param

if TYPE_CHECKING:
    from torch import Tensor

    from robustkit.contracts import Norm, Threat

# The library warns through this logger; without a handler Python would print that to stderr.
logging.getLogger("auto-attack").addHandler(logging.NullHandler())

_NAMES: dict[Norm, str] = {"linf": "Linf", "l2": "L2", "l1": "L1"}
_NEEDED = {"standard": 4, "plus": 4, "rand": 3}
"""Classes without which the DLR losses of a version are not defined."""


@dataclass(frozen=True, kw_only=True)
class AutoAttack:
    """AutoAttack (Croce & Hein 2020, https://arxiv.org/abs/2003.01690; l1: 2021, https://arxiv.org/abs/2103.01208).

    Attacks in turn, each on what the ones before it left. standard: APGD-CE, APGD-T, FAB-T, Square; plus: APGD-CE
    and APGD-DLR with 5 restarts, FAB, Square, APGD-T, FAB-T; rand: APGD-CE and APGD-DLR with gradients averaged
    over 20 passes.

    Departs from the library below 10 classes, where it aims at all wrong ones instead of failing at the ninth.

    Fields:
        version: set of attacks.
        steps: iterations of APGD and FAB; other than 100 is not AutoAttack.
        queries: of Square; other than 5000 is not AutoAttack.

    Shapes: x (N, C, H, W) float in [0, 1]; y (N,) labels; returns like x. Samples that did not fall come back
    clean.
    Cost for one that does not fall (standard): about 1,000 forward and backward passes of APGD, 1,800 forward and
    900 backward of FAB, 5,000 forward of Square.
    """

    version: Literal["standard", "plus", "rand"] = param("standard", "which attacks run")
    steps: int = param(100, "iterations of APGD and FAB; other than 100 is not AutoAttack", low=1)
    queries: int = param(5000, "queries of Square; other than 5000 is not AutoAttack", low=1)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        if len(x) == 0:
            return x.clone()
        with torch.no_grad():
            found = int(model(x[:1]).shape[1])
        if found < _NEEDED[self.version]:
            raise UsageError(
                f"AutoAttack's version {self.version} needs at least {_NEEDED[self.version]} classes for its DLR "
                f"losses and the model has {found}; use apgd with the cross-entropy, or square"
            )
        with _frozen(model), _own_stream(x.device) as seed, _trace_kept():
            attack = self._build(_Network(model, x.dtype), threat, found, seed, x.device)
            x_adv, _ = attack.run_standard_evaluation(x.detach().float(), y.detach().long(), batch_size=len(x))
        result: Tensor = x_adv.detach().to(x.dtype).clamp(0, 1)
        return result

    def _build(
        self, network: nn.Module, threat: Threat, classes: int, seed: int, device: torch.device
    ) -> pyautoattack.AutoAttack:
        attack = pyautoattack.AutoAttack(
            network,
            norm=_NAMES[threat.norm],
            eps=threat.eps,
            seed=seed,
            version=self.version,
            device=device,
        )
        for apgd in (attack.apgd, attack.apgd_targeted):
            apgd.n_iter = apgd.n_iter_orig = self.steps
            # The checkpoints of the step size, which the constructor derives from 100 iterations.
            apgd.n_iter_2 = max(int(0.22 * self.steps), 1)
            apgd.n_iter_min = max(int(0.06 * self.steps), 1)
            apgd.size_decr = max(int(0.03 * self.steps), 1)
        attack.fab.n_iter = self.steps
        attack.square.n_queries = self.queries
        for member in (attack.apgd_targeted, attack.fab):
            member.n_target_classes = min(member.n_target_classes, classes - 1)
        return attack


class _Network(nn.Module):
    """The caller's model, out of reach of mode switches: float32 in, float32 logits out."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self._held = (model, dtype)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        model, dtype = self._held
        if x.requires_grad:
            x = x.view_as(x)
            x.register_hook(torch.Tensor.contiguous)  # it calls view on gradients, which channels-last refuses
        logits: Tensor = model(x.to(dtype))
        return logits.float()


@contextlib.contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """No gradient is computed for, or left in, the parameters of the model."""
    learning = [p for p in model.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def _own_stream(device: torch.device) -> Iterator[int]:
    """A random stream of its own, from one number of torch's generator; the caller's goes on untouched."""
    seed = int(torch.randint(2**31 - 1, ()))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield seed


@contextlib.contextmanager
def _trace_kept() -> Iterator[None]:
    """Its check for dynamic defenses ends with `sys.settrace(None)`, which stops coverage and debuggers."""
    trace = sys.gettrace()
    try:
        yield
    finally:
        sys.settrace(trace)
