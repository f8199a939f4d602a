"""What a plugin may do at import, and what its entries must say."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from robustkit import testing
from robustkit.hookspecs import Kind

THING = """
from dataclasses import dataclass
from robustkit.params import param

# AT IMPORT

@dataclass(frozen=True, kw_only=True)
class Thing:
    levels: int = param(3, "levels", low=1)
    sizes: tuple[int, ...] = param((1, 2), "sizes")

    def __call__(self, shape, classes):
        import torch
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, classes))
"""


def _failed(plugin: ModuleType, kind: Kind = "model") -> dict[str, str]:
    return {o.check.tag: o.reason for o in testing.run(plugin, kinds=[kind]) if not o.good}


def test_a_sound_plugin_passes(write_plugin: Callable[..., ModuleType]) -> None:
    outcomes = list(testing.run(write_plugin(THING, kind="model")))
    assert [o for o in outcomes if o.status != "passed"] == []
    assert {"listed_without_import", "import_is_silent", "logits"} <= {o.check.name for o in outcomes}


RUDE = """
import logging, os, random, warnings
import numpy, torch
numpy.random.seed(0)
random.seed(0)
torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
os.environ["THING"] = "1"
logging.basicConfig()
print("hello")
warnings.warn("old")
warnings.simplefilter("ignore")
"""


def test_side_effects_of_an_import_are_found(write_plugin: Callable[..., ModuleType]) -> None:
    plugin = write_plugin(THING.replace("# AT IMPORT", RUDE), kind="model")
    found = {c.name: c for c in testing.checks(plugin)}
    with pytest.raises(AssertionError) as changes:
        found["import_changes_nothing"]()
    for what in ("torch", "numpy", "python"):
        assert f"{what}'s generator" in str(changes.value)
    for what in ("default dtype", "environment", "root logger", "warning filters"):
        assert what in str(changes.value)
    with pytest.raises(AssertionError, match="hello"):
        found["import_is_silent"]()


def test_warnings_at_import_are_found(write_plugin: Callable[..., ModuleType]) -> None:
    plugin = write_plugin(THING.replace("# AT IMPORT", "import warnings; warnings.warn('old')"), kind="model")
    found = next(c for c in testing.checks(plugin) if c.name == "import_is_silent")
    with pytest.raises(AssertionError, match="UserWarning: old"):
        found()


def test_listing_may_import_nothing_heavy(write_plugin: Callable[..., ModuleType]) -> None:
    plugin = write_plugin(THING, kind="model", rows="import numpy")
    found = next(c for c in testing.checks(plugin) if c.name == "listed_without_import")
    with pytest.raises(AssertionError, match="numpy"):
        found()


@pytest.mark.parametrize(
    ("old", "new", "check", "said"),
    [
        ("frozen=True, ", "", "entry_is_true", "not frozen"),
        ("frozen=True, kw_only=True", "frozen=True", "entry_is_true", "by position"),
        ("@dataclass(frozen=True, kw_only=True)", "", "entry_is_true", "no dataclass"),
        ('param(3, "levels", low=1)', "3", "parameters_described", "no help for levels"),
        ("class Thing", "class Other", "entry_is_true", "no dataclass 'Thing'"),
        (
            'param((1, 2), "sizes")',
            'param(float("inf"), "sizes")',
            "parameters_roundtrip",
            "Out of range",
        ),
    ],
)
def test_entries_that_are_not_true_are_found(
    old: str, new: str, check: str, said: str, write_plugin: Callable[..., ModuleType]
) -> None:
    assert old in THING
    failed = _failed(write_plugin(THING.replace(old, new), kind="model"))
    assert said in failed[f"thing-{check}"]


def test_attacks_have_no_budget_of_their_own(write_plugin: Callable[..., ModuleType]) -> None:
    attack = THING.replace("levels: int = param(3,", "eps: float = param(3.0,")
    failed = _failed(write_plugin(attack, 'norms=frozenset({"linf"}), targeted=True'), "attack")
    assert "declares targeted=True" in failed["thing-entry_is_true"]
    failed = _failed(write_plugin(attack, 'norms=frozenset({"linf"})'), "attack")
    assert "the threat model is the bench's" in failed["thing-entry_is_true"]
