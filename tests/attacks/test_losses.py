from __future__ import annotations

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustkit.attacks.losses import LOSSES, LossName, cross_entropy, dlr, margin, named, reached
from robustkit.params import UsageError

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
