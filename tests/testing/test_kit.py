"""Ids, tags, expected failures, settings, and how outcomes are told."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from robustkit import testing
from robustkit.params import UsageError

THING = """
from dataclasses import dataclass
from robustkit.params import param

@dataclass(frozen=True, kw_only=True)
class Thing:
    share: float = param(help="how much of eps to use", low=0.0, high=2.0)

    def __call__(self, model, x, y, threat):
        return (x + self.share * threat.eps).clamp(0, 1)
"""
FACTS = 'norms=frozenset({"linf"}), knowledge="decision", deterministic=True'
IDLE = {"thing": {"share": 0.0}}


def test_ids_read_provider_entry_norm_check(write_plugin: Callable[..., ModuleType]) -> None:
    plugin = write_plugin(THING, FACTS)
    provider = plugin.__name__.removeprefix("robustkit_")
    ids = [check.id for check in testing.checks(plugin)]
    assert len(set(ids)) == len(ids)
    assert f"{provider}.thing-linf-ball_and_box" in ids
    assert f"{provider}.thing-silent" in ids
    assert f"{provider}-listed_without_import" in ids


def test_settings_give_parameters_without_a_default(write_plugin: Callable[..., ModuleType]) -> None:
    plugin = write_plugin(THING, FACTS)
    missing = {o.check.name: o for o in testing.run(plugin, kinds=["attack"])}
    assert missing["silent"].status == "failed"
    assert "needs share" in missing["silent"].reason
    given = {o.check.name: o for o in testing.run(plugin, kinds=["attack"], settings=IDLE)}
    assert given["silent"].status == "passed"
    assert given["linear_reach"].status == "failed"
    assert all(o.seconds >= 0 for o in given.values())
    with pytest.raises(UsageError, match="did you mean thing"):
        testing.checks(plugin, settings={"think": {}})


def test_expected_failures_are_told_apart(write_plugin: Callable[..., ModuleType]) -> None:
    plugin = write_plugin(THING, FACTS)
    expected = {"*-linear_reach": "does nothing", "thing-silent": "chats"}
    outcomes = {
        o.check.name: o for o in testing.run(plugin, kinds=["attack"], settings=IDLE, expected_failures=expected)
    }
    assert outcomes["linear_reach"].status == "expected failure"
    assert outcomes["linear_reach"].reason == "does nothing"
    assert outcomes["linear_reach"].good
    assert outcomes["silent"].status == "passed unexpectedly"
    assert not outcomes["silent"].good
    with pytest.raises(UsageError, match="names no check"):
        list(testing.run(plugin, settings=IDLE, expected_failures={"thing-linear_rich": "typo"}))


def test_what_a_plugin_declares_is_used(write_plugin: Callable[..., ModuleType]) -> None:
    conformance = f"SETTINGS = {IDLE}\nEXPECTED_FAILURES = {{'thing-linf-linear_reach': 'does nothing'}}\n"
    plugin = write_plugin(THING, FACTS, conformance=conformance)
    outcomes = list(testing.run(plugin, kinds=["attack"]))
    assert all(o.good for o in outcomes)
    assert [o.check.name for o in outcomes if o.status == "expected failure"] == ["linear_reach"]


def test_parametrisation_marks_what_is_expected_and_what_is_slow(
    write_plugin: Callable[..., ModuleType],
) -> None:
    plugin = write_plugin(THING, FACTS)
    mark = testing.parametrize(
        plugin, expected_failures={"thing-linf-linear_reach": "idle"}, settings=IDLE, slow=["*-host_*"]
    ).mark
    assert mark.args[0] == "check"
    rows = {row.values[0].tag: row for row in mark.args[1]}
    (xfail,) = rows["thing-linf-linear_reach"].marks
    assert xfail.name == "xfail"
    assert xfail.kwargs == {"reason": "idle", "strict": True}
    assert [m.name for m in rows["thing-host_restores"].marks] == ["slow"]
    assert list(rows["thing-silent"].marks) == []
    assert all(row.id == row.values[0].id for row in mark.args[1])


def test_names_of_installed_plugins_and_broken_ones(write_plugin: Callable[..., ModuleType]) -> None:
    assert {c.provider for c in testing.checks("robustkit", kinds=["attack"])} == {"robustkit"}
    with pytest.raises(UsageError, match="no plugin 'robustkid' is installed; did you mean robustkit"):
        testing.checks("robustkid")
    broken = write_plugin(THING, 'norms="linf"')
    with pytest.raises(UsageError, match="is broken at robustkit_attacks"):
        testing.checks(broken)


def test_checks_leave_the_random_states(write_plugin: Callable[..., ModuleType]) -> None:
    import torch

    before = torch.get_rng_state()
    for outcome in testing.run(write_plugin(THING, FACTS), kinds=["attack"], settings=IDLE):
        assert outcome.seconds >= 0
    assert torch.equal(torch.get_rng_state(), before)
