"""A sound attack passes every check, and each fault is found by the check that is there for it."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from robustkit import testing

FACTS = 'norms=frozenset({"linf", "l2"}), deterministic=True, targeted=True'
THING = """
from dataclasses import dataclass
import warnings
import torch
from robustkit.norms import project, steepest
from robustkit.params import check, param

CALLS = []

@dataclass(frozen=True, kw_only=True)
class Thing:
    steps: int = param(3, "steps", low=1)
    targeted: bool = param(False, "towards the class")

    def __post_init__(self):
        check(self)

    def __call__(self, model, x, y, threat):
        start = x.detach().clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(model(start), y, reduction="sum")
        (gradient,) = torch.autograd.grad(-loss if self.targeted else loss, start)
        x_adv = project(x + threat.eps * steepest(gradient, threat.norm), x, threat)
        # BEFORE RETURN
        return x_adv
"""


def _failed(plugin: ModuleType) -> dict[str, str]:
    return {o.check.tag: o.reason for o in testing.run(plugin, kinds=["attack"]) if not o.good}


def test_a_sound_attack_passes(write_plugin: Callable[..., ModuleType]) -> None:
    outcomes = list(testing.run(write_plugin(THING, FACTS)))
    assert [o for o in outcomes if o.status != "passed"] == []
    assert {o.check.norm for o in outcomes} == {None, "linf", "l2"}
    names = {o.check.name for o in outcomes}
    assert {"split_independence", "linear_target", "linear_optimum", "host_restores"} <= names


FAULTS = {
    "leaves the ball": ("x_adv = x + 1.2 * (x_adv - x)", {"thing-l2-ball_and_box", "thing-linf-ball_and_box"}),
    "leaves the box": ("x_adv = torch.where(x_adv == 0, -1e-4, x_adv)", {"thing-linf-ball_and_box"}),
    "too weak": ("x_adv = x + 0.9 * (x_adv - x)", {"thing-linf-linear_optimum", "thing-l2-linear_target"}),
    "another shape": ("x_adv = x_adv[:, :1]", {"thing-shape_and_dtype", "thing-batch_of_one"}),
    "NaN": ("x_adv = x_adv * float('nan')", {"thing-shape_and_dtype"}),
    "casts": ("x_adv = x_adv.float()", {"thing-float64"}),
    "casts the model": ("model.float()", {"thing-float64"}),
    "changes its input": ("x += 0.1", {"thing-inputs_untouched"}),
    "changes the labels": ("y += 1", {"thing-inputs_untouched"}),
    "random": ("x_adv = project(x_adv + 0.01 * torch.rand_like(x), x, threat)", {"thing-same_seed"}),
    "samples meet": ("x_adv = x + (x_adv - x) * (1 - x.mean())", {"thing-split_independence"}),
    "prints": ("print('working')", {"thing-silent"}),
    "warns": ("warnings.warn('slow')", {"thing-silent"}),
    "returns a list": ("x_adv = x_adv.tolist()", {"thing-shape_and_dtype", "thing-host_no_grad"}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(fault: str, write_plugin: Callable[..., ModuleType]) -> None:
    line, expected = FAULTS[fault]
    failed = _failed(write_plugin(THING.replace("# BEFORE RETURN", line), FACTS))
    assert expected <= set(failed), failed
    assert all(failed.values())


def test_what_the_guard_mends_is_no_fault(write_plugin: Callable[..., ModuleType]) -> None:
    """Modes, gradients and random states are the host's to restore: the host's checks pass all the same."""
    line = "model.train(); model(start).sum().backward(); torch.manual_seed(0); model.eval()"
    failed = _failed(write_plugin(THING.replace("# BEFORE RETURN", line), FACTS))
    assert not any("host" in tag for tag in failed), failed


def test_hidden_state_is_found(write_plugin: Callable[..., ModuleType]) -> None:
    line = "CALLS.append(1); x_adv = x + (x_adv - x) / len(CALLS)"
    assert "thing-same_seed" in _failed(write_plugin(THING.replace("# BEFORE RETURN", line), FACTS))


def test_minimal_attacks_are_measured_by_distance(write_plugin: Callable[..., ModuleType]) -> None:
    """Newton's step to the boundary of the two best classes: exact in l2, and too long with an overshoot."""
    step = """
from dataclasses import dataclass
import torch
from robustkit.params import param

@dataclass(frozen=True, kw_only=True)
class Thing:
    overshoot: float = param({overshoot}, "beyond the boundary")

    def __call__(self, model, x, y, threat):
        start = x.detach().clone().requires_grad_()
        best = model(start).topk(2, dim=1).values
        gap = best[:, 0] - best[:, 1]
        (normal,) = torch.autograd.grad(gap.sum(), start)
        length = gap.detach() / normal.flatten(1).square().sum(1).clamp_min(1e-9)
        return (x - (1 + self.overshoot) * length.view(-1, 1, 1, 1) * normal).clamp(0, 1)
"""
    facts = 'norms=frozenset({"l2"}), goal="minimal", deterministic=True'
    assert _failed(write_plugin(step.format(overshoot=0.02), facts)) == {}
    failed = _failed(write_plugin(step.format(overshoot=0.2), facts))
    assert set(failed) == {"thing-l2-linear_optimum"}
    assert "1.200 x the margin" in failed["thing-l2-linear_optimum"]


def test_attacks_without_gradient_need_to_reach_something(write_plugin: Callable[..., ModuleType]) -> None:
    idle = THING.replace("# BEFORE RETURN", "return x.clone()").replace("targeted", "aim")
    facts = 'norms=frozenset({"linf"}), knowledge="score", deterministic=True'
    assert set(_failed(write_plugin(idle, facts))) == {"thing-linf-linear_reach"}


def test_attacks_of_no_norm_keep_to_the_box(write_plugin: Callable[..., ModuleType]) -> None:
    facts = 'norms=frozenset(), goal="minimal", targeted=True, deterministic=True'
    plugin = write_plugin(THING.replace("# BEFORE RETURN", "x_adv = x_adv + 1"), facts)
    assert set(_failed(plugin)) == {"thing-box"}
