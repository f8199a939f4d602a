from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustkit.attacks.losses import LOSSES, LossName, cross_entropy, dlr, margin, named, reached
from robustkit.contracts import Threat
from robustkit.host import Host
from robustkit.params import ParamError, UsageError

LOGITS = torch.tensor([[3.0, 1.0, 0.0, -1.0], [3.0, 1.0, 0.0, -1.0], [0.5, 0.5, 0.5, -2.0]])
Y = torch.tensor([0, 2, 3])


def test_values_by_hand() -> None:
    assert torch.allclose(margin(LOGITS, Y), torch.tensor([-2.0, 3.0, 2.5]))
    assert torch.allclose(dlr(LOGITS, Y)[:2], torch.tensor([-2.0 / 3.0, 3.0 / 3.0]))
    expected = LOGITS.double().exp().sum(dim=1).log() - LOGITS.double()[torch.arange(3), Y]
    assert torch.allclose(cross_entropy(LOGITS, Y).double(), expected)


@given(seed=st.integers(0, 10_000), classes=st.integers(3, 12), scale=st.floats(0.01, 100), shift=st.floats(-50, 50))
@settings(deadline=None, max_examples=50)
def test_the_ratio_ignores_scale_and_shift(seed: int, classes: int, scale: float, shift: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((6, classes), generator=generator, dtype=torch.float64)
    y = torch.randint(0, classes, (6,), generator=generator)
    assert torch.allclose(dlr(scale * logits + shift, y), dlr(logits, y), rtol=1e-6)


@given(seed=st.integers(0, 10_000), classes=st.integers(3, 12))
@settings(deadline=None, max_examples=50)
def test_margin_and_ratio_are_positive_exactly_where_the_prediction_is_another(seed: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((9, classes), generator=generator)
    y = torch.randint(0, classes, (9,), generator=generator)
    fallen = logits.argmax(dim=1) != y
    assert torch.equal(margin(logits, y) > 0, fallen)
    assert torch.equal(dlr(logits, y) > 0, fallen)
    assert torch.equal(reached(logits, y, targeted=False), fallen)
    assert torch.equal(reached(logits, y, targeted=True), ~fallen)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_by_finite_differences(name: LossName) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((5, 6), generator=generator, dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0, 1, 2, 3, 4])
    for targeted in (False, True):
        loss = named(name, targeted)
        assert torch.autograd.gradcheck(lambda z, loss=loss: loss(z, y), logits)


@pytest.mark.parametrize("name", LOSSES)
def test_a_targeted_loss_is_the_negative(name: LossName) -> None:
    assert torch.equal(named(name, True)(LOGITS, Y), -named(name, False)(LOGITS, Y))


def test_two_classes_have_no_third_logit() -> None:
    with pytest.raises(UsageError, match=r"loss=dlr needs at least 3 classes, the model has 2; use loss=margin"):
        dlr(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))


def test_the_names_are_those_of_the_type() -> None:
    assert get_args(LossName) == LOSSES


OWN = "own_losses_of_these_tests"


@pytest.fixture
def own() -> Iterator[None]:
    module = ModuleType(OWN)
    module.mine = margin  # type: ignore[attr-defined]
    module.total = lambda logits, y: margin(logits, y).sum()  # type: ignore[attr-defined]
    module.broken = lambda logits, y: 1 / 0  # type: ignore[attr-defined]
    sys.modules[OWN] = module
    yield
    del sys.modules[OWN]


@pytest.mark.parametrize("name", ["bim", "pgd", "mifgsm", "apgd", "adaptive"])
def test_a_loss_of_one_s_own_is_followed(trained: Any, own: None, name: str) -> None:
    model, x, y = trained.model, trained.x[:20], trained.y[:20]
    found = []
    for loss in (f"{OWN}:mine", "margin", "cross_entropy"):
        torch.manual_seed(0)
        attack = Host(discover=False).build("attack", f"{name}:loss={loss}:steps=4").value
        found.append(attack(model, x, y, Threat("l2", 0.3)))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    if hasattr(attack, "polish"):
        attack = Host(discover=False).build("attack", f"{name}:loss={OWN}:mine").value
        assert attack.polish(model, x, found[0], y, Threat("l2", 0.3)).shape == x.shape


@pytest.mark.parametrize("name", ["bim", "pgd", "mifgsm", "apgd", "adaptive"])
def test_a_bad_loss_of_one_s_own_is_refused(trained: Any, own: None, name: str) -> None:
    model, x, y, threat, host = trained.model, trained.x[:3], trained.y[:3], Threat("linf", 0.1), Host(discover=False)
    with pytest.raises(ParamError, match="loss='marign' is not one of cross_entropy, margin, dlr"):
        host.build("attack", f"{name}:loss=marign")
    for loss, message in (
        ("no_such_module:loss", "cannot be imported"),
        (f"{OWN}:absent", "has no 'absent'"),
        (f"{OWN}:total", r"return one loss a sample, \(3,\)"),
        (f"{OWN}:broken", "failed with ZeroDivisionError"),
    ):
        with pytest.raises(UsageError, match=message):
            host.build("attack", f"{name}:loss={loss}").value(model, x, y, threat)
