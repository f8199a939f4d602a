"""The adapter is the library, seeded; its refusals; and the library's faults, which tell when they are mended."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import robustkit_pyautoattack
import torch
from torch import nn

from robustkit.contracts import Threat
from robustkit.host import Host
from robustkit.params import UsageError
from robustkit.testing.yardstick import images, labels, network, yardstick

pyautoattack = pytest.importorskip("pyautoattack")

HOST = Host({"pyautoattack": robustkit_pyautoattack}, discover=False)


def _attack(text: str = "") -> Any:
    return HOST.build("attack", f"pyautoattack.autoattack{text}").value


def _linear(classes: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, classes)).eval()


@pytest.mark.parametrize(("norm", "name", "eps"), [("linf", "Linf", 0.15), ("l2", "L2", 1.5), ("l1", "L1", 12.0)])
def test_result_is_the_librarys_own(norm: Any, name: str, eps: float) -> None:
    """With the defaults untouched, bit for bit what a direct call gives with the same seed."""
    model, x = network(), images(2)
    for p in model.parameters():
        p.requires_grad_(False)
    y = labels(model, x)
    torch.manual_seed(5)
    seed = int(torch.randint(2**31 - 1, ()))
    direct = pyautoattack.AutoAttack(model, norm=name, eps=eps, seed=seed, version="standard")
    direct.square.n_queries = 100
    expected, _ = direct.run_standard_evaluation(x, y)
    torch.manual_seed(5)
    assert torch.equal(_attack(":queries=100")(model, x, y, Threat(norm, eps)), expected)
    assert bool((labels(model, expected) != y).any())


@pytest.mark.parametrize("version", ["standard", "plus", "rand"])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_versions_reach_the_exact_optimum(version: str, norm: Any) -> None:
    ruler = yardstick(norm)
    steps = 100 if version == "rand" else 20
    found = _attack(f":version={version}:steps={steps}:queries=10")(ruler.model, ruler.x, ruler.y, ruler.threat(1.05))
    assert bool((labels(ruler.model, found) != ruler.y).all())


@pytest.mark.parametrize(
    ("classes", "version", "works"),
    [(3, "standard", False), (3, "plus", False), (2, "rand", False), (3, "rand", True)]
    + [(classes, version, True) for classes in (4, 5, 9, 12) for version in ("standard", "plus")],
)
def test_few_classes(classes: int, version: str, works: bool) -> None:
    model, x = _linear(classes), images()
    y = labels(model, x)
    attack = _attack(f":version={version}:steps=5:queries=5")
    if works:
        found = attack(model, x, y, Threat("linf", 0.01))
        assert found.shape == x.shape
    else:
        with pytest.raises(UsageError, match=f"needs at least {4 if version != 'rand' else 3} classes"):
            attack(model, x, y, Threat("linf", 0.01))


def test_library_fails_below_ten_classes() -> None:
    """Why the adapter lowers the number of targets; where this passes no more, it need not."""
    model, x = _linear(5), images()
    direct = pyautoattack.AutoAttack(model, eps=0.001, seed=0)
    with pytest.raises(IndexError):
        direct.run_standard_evaluation(x, labels(model, x))


def test_caller_is_left_alone() -> None:
    model, x = network(), images(2)
    y = labels(model, x)
    model.train()
    model[1].eval()  # type: ignore[index]
    model[3].eval()  # type: ignore[index]
    modes = [m.training for m in model.modules()]
    torch.manual_seed(1)
    torch.randint(2**31 - 1, ())
    expected = torch.get_rng_state()
    torch.manual_seed(1)
    calls = []
    previous = sys.gettrace()
    sys.settrace(lambda *event: calls.append(event))
    try:
        with torch.no_grad():
            _attack(":steps=2:queries=2")(model, x, y, Threat("linf", 0.001))
        kept = sys.gettrace()
    finally:
        sys.settrace(previous)
    assert kept is not None
    assert torch.equal(torch.get_rng_state(), expected)
    assert [m.training for m in model.modules()] == modes
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_warnings_of_the_library_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A model that gives probabilities is named as one."""
    model, x = nn.Sequential(network(), nn.Softmax(dim=1)).eval(), images(2)
    with caplog.at_level(logging.WARNING, logger="auto-attack"):
        _attack(":steps=2:queries=2")(model, x, labels(model, x), Threat("linf", 0.001))
    assert "probability distribution" in caplog.text


def test_resume_of_the_library_always_fails(tmp_path: Path) -> None:
    """Why the host's own store does that job."""
    model, x = network(), images(2)
    y = labels(model, x)
    for attempt in (1, 2):
        direct = pyautoattack.AutoAttack(model, eps=1.0, seed=0)
        if attempt == 1:
            direct.run_standard_evaluation(x, y, state_path=tmp_path / "state.json")
        else:
            with pytest.raises(ValueError, match="different set of attacks"):
                direct.run_standard_evaluation(x, y, state_path=tmp_path / "state.json")


def test_trace_function_is_removed_by_the_library() -> None:
    model, x = network(), images(2)
    previous = sys.gettrace()
    sys.settrace(lambda *event: None)
    try:
        pyautoattack.AutoAttack(model, eps=1.0, seed=0).run_standard_evaluation(x, labels(model, x))
        after = sys.gettrace()
    finally:
        sys.settrace(previous)
    assert after is None, "mended: drop _trace_kept"
