"""A plugin that workers discover like any other: attacks and detectors that draw, linger, kill their process or eat its
memory.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from robustkit.contracts import Data, Threat, Verdict
from robustkit.hookspecs import AttackEntry, DetectorEntry, hookimpl
from robustkit.params import param


def _noise(x: Tensor, threat: Threat) -> Tensor:
    eps = threat.eps if threat.norm == "linf" else threat.eps / x[0].numel() ** 0.5
    return (x + 2 * eps * (torch.rand_like(x) - 0.5)).clamp(0, 1)


def _first(name: str, times: int) -> bool:
    """Whether this is one of the first `times` calls of this name in any process."""
    path = Path(os.environ["FLEET_DIR"]) / name
    with path.open("a") as file:
        file.write(f"{os.getpid()}\n")
    return len(path.read_text().splitlines()) <= times


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Random noise: tells whether the draws are the same."""

    pause: float = param(0.0, "seconds a block takes longer")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        _first("noise", 0)
        time.sleep(self.pause)
        return _noise(x, threat)


@dataclass(frozen=True, kw_only=True)
class Kills:
    """Kills its process on the last, small block, so often."""

    times: int = param(1, "kills")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        if len(x) <= 50 and _first(f"kills{self.times}", self.times):
            os.kill(os.getpid(), signal.SIGKILL)
        return _noise(x, threat)


@dataclass(frozen=True, kw_only=True)
class Greedy:
    """Asks for more memory than its process may have, on the last, small block, so often."""

    times: int = param(1, "calls")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        if len(x) <= 50 and _first(f"greedy{self.times}", self.times):
            resource.setrlimit(resource.RLIMIT_AS, (2**34, 2**34))
            torch.ones(2**36)
        return _noise(x, threat)


@dataclass(frozen=True, kw_only=True)
class Raises:
    """Raises on the last, small block."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        if len(x) <= 50:
            raise RuntimeError("boom")
        return _noise(x, threat)


@hookimpl
def robustkit_attacks() -> Iterator[AttackEntry]:
    for name, target in (("noise", Noise), ("kills", Kills), ("greedy", Greedy), ("raises", Raises)):
        yield AttackEntry(
            name=name,
            target=f"{__name__}:{target.__name__}",
            summary="test",
            norms=frozenset({"linf", "l2"}),
            knowledge="decision",
        )


@dataclass(frozen=True, kw_only=True)
class Suspects:
    """Scores a model by a random draw and its logits; kills its process so often before."""

    times: int = param(0, "kills")
    pause: float = param(0.0, "seconds it takes longer")

    def __call__(self, model: nn.Module, data: Data) -> Verdict:
        if _first(f"suspects{self.times}", self.times):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.pause)
        x, _ = data.val.batch(torch.arange(20))
        with torch.no_grad():
            score = float(model(x + torch.rand_like(x)).double().sum())
        return Verdict(score=score, flagged=score > 0)


@dataclass(frozen=True, kw_only=True)
class Refuses:
    """Raises."""

    def __call__(self, model: nn.Module, data: Data) -> Verdict:
        raise RuntimeError("no verdict")


@hookimpl
def robustkit_detectors() -> Iterator[DetectorEntry]:
    for name, target in (("suspects", Suspects), ("refuses", Refuses)):
        yield DetectorEntry(name=name, target=f"{__name__}:{target.__name__}", summary="test", scope="model")
