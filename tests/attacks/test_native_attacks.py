"""What holds for every native attack: ball and box, manners, seeds, odd batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from robustkit.builtin import robustkit_attacks
from robustkit.contracts import NORMS, Attack, Norm, Threat
from robustkit.hookspecs import AttackEntry
from robustkit.host import Host
from robustkit.norms import distance
from robustkit.params import UsageError

Make = Callable[..., Any]
EPS: dict[Norm, float] = {"linf": 0.06, "l2": 0.6, "l1": 3.0, "l0": 5.0}
SETTINGS: dict[str, dict[str, Any]] = {
    "noise": {"draws": 3},
    "bim": {"steps": 4},
    "pgd": {"steps": 4, "restarts": 2},
    "adaptive": {"steps": 4, "restarts": 2, "draws": 2},
    "evade": {"steps": 6},
    "mifgsm": {"steps": 4},
    "apgd": {"steps": 6, "restarts": 2},
    "square": {"queries": 100},
    "fab": {"steps": 1, "restarts": 3},
    "autoattack": {"steps": 6, "queries": 20},
    "nes": {"queries": 43, "directions": 4},
    "spsa": {"queries": 43, "directions": 4},
    "hopskipjump": {"queries": 150, "directions": 20},
    "ddn": {"steps": 30},
    "fmn": {"steps": 30},
    "cw": {"steps": 30, "binary_search_steps": 4, "initial_const": 1.0, "step_size": 0.1},
}
LONGER: dict[str, dict[str, Any]] = {
    **{name: {"queries": 600, "directions": 10} for name in ("nes", "spsa")},
    "hopskipjump": {"queries": 1000},
}
"""For those that need more than the above to get anywhere on a trained network."""
HOST = Host(discover=False)


class Case(NamedTuple):
    entry: AttackEntry
    norm: Norm

    def attack(self, **more: Any) -> Any:
        given = {**SETTINGS.get(self.entry.name, {}), **more}
        return HOST.build("attack", self.entry.name, given).value

    @property
    def threat(self) -> Threat:
        return Threat(self.norm, EPS[self.norm])


ENTRIES = list(robustkit_attacks())
# what needs a linear model, or another network, is tried in a file of its own
APART = ("linear_exact", "transfer")
CASES = [Case(entry, norm) for entry in ENTRIES if entry.name not in APART for norm in sorted(entry.norms)]


def over(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: f"{case.entry.name}-{case.norm}")


every = over(CASES)


def run(attack: Attack, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, seed: int = 0) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return attack(model, x, y, threat)


def wrong(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.as_tensor(model(x).argmax(dim=1) != y)


@every
@given(
    batch=st.sampled_from([1, 3, 8, 17]),
    image=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
    share=st.sampled_from([0.0, 1e-3, 1.0, 10.0]),
    wild=st.booleans(),
)
@settings(deadline=None, max_examples=25)
def test_adversarial_examples_are_in_ball_and_box(
    case: Case,
    untrained: Make,
    batch: int,
    image: tuple[int, int, int],
    dtype: torch.dtype,
    seed: int,
    share: float,
    wild: bool,
) -> None:
    model, x, y = untrained((batch, *image), seed, dtype)
    if wild:  # labels that the model does not give
        y = (y + torch.arange(batch)) % 5
    threat = Threat(case.norm, share * EPS[case.norm])
    x_adv = run(case.attack(), model, x, y, threat, seed)
    assert x_adv.shape == x.shape
    assert x_adv.dtype == dtype
    assert not x_adv.requires_grad
    if case.entry.goal == "budget":
        assert bool((distance(x_adv.double(), x.double(), case.norm) <= threat.allowance).all())
    assert 0 <= float(x_adv.min()) <= float(x_adv.max()) <= 1


@every
def test_the_model_and_the_inputs_are_left_alone(case: Case, untrained: Make) -> None:
    model, x, y = untrained((6, 3, 7, 7))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kept = x.clone(), y.clone()
    run(case.attack(), model, x, y, case.threat)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(x, kept[0])
    assert torch.equal(y, kept[1])
    assert not x.requires_grad


@every
def test_what_comes_back_shares_no_memory_with_the_input(case: Case, untrained: Make) -> None:
    model, x, y = untrained((4, 1, 5, 5))
    kept = x.clone()
    for labels in (y, (y + 1) % 5):  # standing and fallen before the search
        run(case.attack(), model, x, labels, case.threat).zero_()
        assert torch.equal(x, kept)


@every
def test_the_same_seed_gives_the_same_result(case: Case, untrained: Make) -> None:
    model, x, y = untrained((9, 3, 7, 7))
    first, again, other = (run(case.attack(), model, x, y, case.threat, seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert torch.equal(first, other) == case.entry.deterministic


@every
def test_under_no_grad_the_result_is_the_same(case: Case, untrained: Make) -> None:
    model, x, y = untrained((5, 1, 6, 6))
    with torch.no_grad():
        inside = run(case.attack(), model, x, y, case.threat)
    assert torch.equal(inside, run(case.attack(), model, x, y, case.threat))


@every
def test_an_empty_batch(case: Case, untrained: Make) -> None:
    model, x, y = untrained((0, 3, 6, 6))
    x_adv = run(case.attack(), model, x, y, case.threat)
    assert x_adv.shape == x.shape
    assert x_adv.dtype == x.dtype


@over([case for case in CASES if case.entry.deterministic])
def test_a_sample_gets_the_same_alone_or_in_company(case: Case, untrained: Make) -> None:
    model, x, y = untrained((8, 2, 6, 6))
    together = run(case.attack(), model, x, y, case.threat)
    alone = torch.cat([run(case.attack(), model, x[i : i + 1], y[i : i + 1], case.threat) for i in range(8)])
    if case.entry.goal == "budget":
        assert torch.allclose(together, alone, atol=1e-5)
    else:  # each look at the boundary decides on the way to come, and rounding may decide it
        far, far_alone = (distance(z, x, case.norm) for z in (together, alone))
        assert float((far / far_alone - 1).abs().median()) <= 1e-3
        assert float((far / far_alone - 1).abs().max()) <= 0.1


@every
def test_what_is_misclassified_is_not_repaired(case: Case, untrained: Make) -> None:
    model, x, y = untrained((17, 3, 7, 7))
    other = (y + 1) % 5
    x_adv = run(case.attack(), model, x, other, case.threat)
    assert bool(wrong(model, x_adv, other).all())
    if case.entry.deterministic:  # those start at the input itself, and find that nothing is left to do
        assert torch.equal(x_adv, x)


@over([case for case in CASES if case.entry.name != "noise"])
def test_a_good_part_of_a_trained_network_s_verdicts_falls(case: Case, trained: Any) -> None:
    model, x, y = trained.model, trained.x[:60], trained.y[:60]
    threat = Threat(case.norm, {"linf": 0.2, "l2": 3.0, "l1": 30.0, "l0": 30.0}[case.norm])
    fallen = wrong(model, run(case.attack(**LONGER.get(case.entry.name, {})), model, x, y, threat), y).double().mean()
    assert fallen >= 0.25


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_entry_says_whether_it_can_be_targeted(entry: AttackEntry) -> None:
    assert hasattr(HOST.build("attack", entry.name).value, "targeted") == entry.targeted


@over([case for case in CASES if case.entry.targeted])
def test_targets_are_reached(case: Case, trained: Any) -> None:
    model, x = trained.model, trained.x[:60]
    target = (trained.y[:60] + 1) % 10
    threat = Threat(case.norm, {"linf": 0.4, "l2": 6.0, "l1": 80.0, "l0": 0.0}[case.norm])
    more = {"steps": 20} if case.entry.name in ("bim", "pgd", "mifgsm", "apgd") else {}
    if case.entry.name in ("ddn", "fmn"):
        more = {"steps": 300 if case.norm == "l0" else 100}
    x_adv = run(case.attack(targeted=True, **LONGER.get(case.entry.name, more)), model, x, target, threat)
    with torch.no_grad():
        before, after = (torch.log_softmax(model(z), dim=1).gather(1, target[:, None]) for z in (x, x_adv))
    assert float((after > before).double().mean()) >= 0.95
    if more:
        assert float((~wrong(model, x_adv, target)).double().mean()) >= 0.9


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_norm_that_does_not_fit_is_refused_by_name(entry: AttackEntry, linear: Make) -> None:
    """The entry's norms are exactly those that the attack accepts."""
    model, x, y = linear(samples=3)
    attack = HOST.build("attack", entry.name, SETTINGS.get(entry.name, {})).value
    attack = attack.on(model) if entry.name == "transfer" else attack
    for norm in NORMS:
        threat = Threat(norm, 1.0)
        if norm in entry.norms:
            assert run(attack, model, x, y, threat).shape == x.shape
        else:
            fits = ", ".join(known for known in NORMS if known in entry.norms)
            with pytest.raises(UsageError, match=rf"{entry.name} has no form for norm={norm}; it fits {fits}"):
                run(attack, model, x, y, threat)


@every
def test_parameters_out_of_range_are_refused(case: Case) -> None:
    wrong_values = {
        "steps": 0,
        "draws": 0,
        "restarts": 0,
        "queries": 0,
        "area": 1.5,
        "gamma": 1.5,
        "radius": -1.0,
        "candidates": 0,
        "overshoot": -0.1,
        "binary_search_steps": 0,
        "confidence": -1.0,
        "classes": 0,
        "step_size": -0.1,
        "alpha": -0.1,
        "decay": -1.0,
        "directions": 0,
        "loss": "mse",
    }
    names = {name for name in wrong_values if hasattr(case.attack(), name)} | {"targeted"} & set(vars(case.attack()))
    for name in names:
        with pytest.raises(UsageError, match=name):
            case.attack(**{name: wrong_values.get(name, "perhaps")})
