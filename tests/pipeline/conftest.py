"""A data set and plugins small enough that a whole bench takes a second."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustkit.contracts import Certificate, Data, Threat, Training
from robustkit.hookspecs import AttackEntry, CertifierEntry, DefenseEntry, hookimpl
from robustkit.host import Host
from robustkit.params import param
from robustkit.pipeline.plan import Plan, make_plan
from robustkit.pipeline.run import run
from robustkit.pipeline.spec import BenchSpec
from robustkit.pipeline.store import ModelCache, RunStore

CALLS: list[str] = []
"""What the components below were asked to do, in this process."""


@dataclass(frozen=True, kw_only=True)
class Broken:
    """Raises on the block that holds a sample of class 2; records every call."""

    message: str = param("boom", "what it says")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        CALLS.append("broken")
        raise RuntimeError(self.message)


@dataclass(frozen=True, kw_only=True)
class Quits:
    """What some libraries do where they find no licence."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        raise SystemExit("no licence")


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Random noise of half the radius: tells whether random draws are the same."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        CALLS.append("draws")
        return (x + threat.eps * (torch.rand_like(x) - 0.5)).clamp(0, 1)


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """Walks along the gradient in small steps until the label changes: a minimal distance, without a budget."""

    steps: int = param(40, "steps at most")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        CALLS.append("nearest")
        point = x.clone()
        for _ in range(self.steps):
            wanting = point.clone().requires_grad_()
            logits = model(wanting)
            (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(logits, y, reduction="sum"), wanting)
            still = (logits.argmax(dim=1) == y)[:, None, None, None]
            point = torch.where(still, (point + 0.02 * gradient.sign()).clamp(0, 1), point)
        return point


@dataclass(frozen=True, kw_only=True)
class Greyer:
    """Wraps a model: halves the contrast of its input."""

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        CALLS.append("greyer")
        return _Greyer(model)


@dataclass(frozen=True, kw_only=True)
class Same:
    """Wraps a model and leaves it as it is, so that several are the same; or shifts its classes by one."""

    number: int = param(0, "tells one from the other")
    shift: int = param(0, "classes")

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        CALLS.append("same")
        return _Shifted(model, self.shift)


class _Shifted(nn.Module):
    def __init__(self, inner: nn.Module, shift: int) -> None:
        super().__init__()
        self.inner, self.shift = inner, shift

    def forward(self, x: Tensor) -> Tensor:
        return torch.roll(self.inner(x), self.shift, dims=1)


class _Greyer(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(0.5 * x + 0.25)
        return logits


@dataclass(frozen=True, kw_only=True)
class Untrainable:
    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        raise ZeroDivisionError("no gradient here")


@dataclass(frozen=True, kw_only=True)
class Liar:
    """Promises every prediction everywhere."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Certificate:
        CALLS.append("liar")
        whole = torch.ones(len(x), dtype=torch.float64)
        return Certificate(prediction=model(x).argmax(dim=1), radius=whole, norm="linf", guarantee="Everything.")


def plugin() -> types.ModuleType:
    """The components above as a plugin module."""
    module = types.ModuleType("tiny_plugin")
    here = __name__

    def entry(name: str, target: type, **more: Any) -> AttackEntry:
        return AttackEntry(name=name, target=f"{here}:{target.__name__}", summary="test", **more)

    @hookimpl
    def robustkit_attacks() -> Iterator[AttackEntry]:
        everywhere = frozenset({"linf", "l2"})
        yield entry("broken", Broken, norms=everywhere)
        yield entry("quits", Quits, norms=everywhere)
        yield entry("draws", Draws, norms=everywhere)
        yield entry("nearest", Nearest, norms=frozenset({"linf"}), goal="minimal")
        yield entry("sparse", Draws, norms=frozenset({"l0"}))

    @hookimpl
    def robustkit_defenses() -> Iterator[DefenseEntry]:
        yield DefenseEntry(name="greyer", target=f"{here}:Greyer", summary="test", trains=False)
        yield DefenseEntry(name="same", target=f"{here}:Same", summary="test", trains=False)
        yield DefenseEntry(name="untrainable", target=f"{here}:Untrainable", summary="test")

    @hookimpl
    def robustkit_certifiers() -> Iterator[CertifierEntry]:
        for name, chance in (("liar", False), ("unsure", True)):
            norms = frozenset({"linf"})
            yield CertifierEntry(name=name, target=f"{here}:Liar", summary="test", norms=norms, probabilistic=chance)

    module.robustkit_certifiers = robustkit_certifiers  # type: ignore[attr-defined]
    module.robustkit_attacks = robustkit_attacks  # type: ignore[attr-defined]
    module.robustkit_defenses = robustkit_defenses  # type: ignore[attr-defined]
    return module


@pytest.fixture
def host() -> Host:
    CALLS.clear()
    return Host(plugins={"tiny": plugin()}, discover=False)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three classes of noisy patterns, 6 x 6, 500 for training and 450 for testing: three blocks."""
    rng = np.random.default_rng(3)
    patterns = rng.integers(60, 196, (3, 6, 6))

    def split(count: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.arange(count) % 3
        return np.clip(patterns[y] + rng.normal(0, 40, (count, 6, 6)), 0, 255).astype(np.uint8), y

    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    (x_train, y_train), (x_test, y_test) = split(500), split(450)
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return f"npz:{path}"


@pytest.fixture
def spec(tiny: str) -> Callable[..., BenchSpec]:
    """A bench of seconds; keyword arguments replace settings."""

    def made(**changes: Any) -> BenchSpec:
        settings: dict[str, Any] = {
            "dataset": tiny,
            "model": "linear",
            "defenses": ("fgsm_at",),
            "attacks": ("fgsm", "pgd:steps=5"),
            "eps": (0.1,),
            "recipe": {"epochs": 2},
            "device": "cpu",
            "precision": "fp32",
        }
        return BenchSpec(**{**settings, **changes})

    return made


@dataclass
class Ran:
    plan: Plan
    records: list[dict[str, Any]]
    events: list[Any]
    store: RunStore

    def record(self, subject: str, label: str, eps: float | None = None) -> dict[str, Any]:
        """The record of one cell; label "clean" is the one without an attack."""
        for record in self.records:
            name = "clean" if record["component"] is None else record["component"]["label"]
            right_eps = eps is None or record["threat"]["eps"] == eps
            if (record["subject"]["label"], name) == (subject, label) and right_eps:
                return record
        raise KeyError((subject, label))


@pytest.fixture
def bench(host: Host, tmp_path: Path) -> Callable[..., Ran]:
    """Run a spec in a folder; `listen` may raise to interrupt it."""

    def ran(spec: BenchSpec, folder: str = "run", listen: Callable[[Any], None] | None = None) -> Ran:
        plan = make_plan(spec, host)
        store = RunStore(tmp_path / folder)
        events: list[Any] = []

        def heard(event: Any) -> None:
            events.append(event)
            if listen is not None:
                listen(event)

        store.open()
        try:
            records = run(plan, store, host=host, cache=ModelCache(), listen=heard)
        finally:
            store.close()
        return Ran(plan, records, events, store)

    return ran
