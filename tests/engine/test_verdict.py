from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustkit.contracts import NORMS, Norm, Threat
from robustkit.engine.verdict import CellError, check_logits, check_samples, distances, settle
from robustkit.params import UsageError

X = torch.full((3, 1, 2, 2), 0.5)
BALL = Threat("linf", 0.1)


def _settle(returned: object, *, bounded: bool = True, threat: Threat = BALL) -> tuple[torch.Tensor, torch.Tensor]:
    return settle(returned, X, threat, bounded=bounded, name="mine")


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "mine returned NoneType, not a tensor"),
        (X.numpy(), "mine returned ndarray"),
        (X[:2], r"mine returned \(2, 1, 2, 2\) torch.float32, not \(3, 1, 2, 2\)"),
        (X.double(), "torch.float64, not .* torch.float32"),
        (X.half(), "torch.float16"),
        (X.clone().index_fill_(0, torch.tensor([1]), torch.nan), "not finite in 1 of 3 samples"),
        (X + torch.inf, "not finite in 3 of 3 samples"),
    ],
)
def test_what_cannot_be_scored_is_an_error_that_says_what(returned: object, message: str) -> None:
    with pytest.raises(CellError, match=message):
        _settle(returned)


def test_rounding_is_no_violation_and_stays_as_it_is() -> None:
    points = X + 0.1 + torch.tensor([0.0, 5e-7, -5e-7]).reshape(3, 1, 1, 1)
    settled, outside = _settle(points)
    assert not outside.any()
    assert torch.equal(settled, points)
    edge = torch.tensor([-5e-7, 1 + 5e-7, 0.5]).reshape(3, 1, 1, 1).expand_as(X)
    settled, outside = _settle(edge, bounded=False)
    assert not outside.any()
    assert float(settled.min()) == 0
    assert float(settled.max()) == 1


def test_beyond_the_ball_is_projected_and_counted_where_the_attack_is_bound_by_it() -> None:
    points = X + torch.tensor([0.0, 0.1001, -0.4]).reshape(3, 1, 1, 1)
    settled, outside = _settle(points)
    assert outside.tolist() == [False, True, True]
    torch.testing.assert_close(settled[1:], X[1:] + torch.tensor([0.1, -0.1]).reshape(2, 1, 1, 1))
    kept, outside = _settle(points, bounded=False)
    assert not outside.any()
    assert torch.equal(kept, points)


def test_beyond_the_box_is_clipped_and_counted_for_every_attack() -> None:
    points = X + torch.tensor([0.0, 0.6, -0.7]).reshape(3, 1, 1, 1)
    for bounded in (True, False):
        settled, outside = _settle(points, bounded=bounded, threat=Threat("linf", 1.0))
        assert outside.tolist() == [False, True, True]
        assert torch.equal(settled, points.clamp(0, 1))


@settings(deadline=None, max_examples=60)
@given(
    norm=st.sampled_from(NORMS),
    eps=st.floats(0, 1),
    shape=st.tuples(*[st.integers(1, 4)] * 4),
    scale=st.sampled_from([1e-3, 0.1, 1.0, 1e4]),
    seed=st.integers(0, 1000),
)
def test_whatever_comes_back_ends_inside_ball_and_box(
    norm: Norm, eps: float, shape: tuple[int, ...], scale: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(shape, generator=generator)
    threat = Threat(norm, eps * 3 if norm != "linf" else eps)
    points = x + scale * torch.randn(shape, generator=generator)
    settled, outside = settle(points, x, threat, bounded=True, name="mine")
    assert bool((distances(settled, x)[norm] <= threat.allowance).all())
    assert float(settled.min()) >= 0
    assert float(settled.max()) <= 1
    fine = (distances(points, x)[norm] <= threat.allowance) & ((points >= 0) & (points <= 1)).flatten(1).all(dim=1)
    assert not (outside & fine).any()


@settings(deadline=None, max_examples=30)
@given(count=st.integers(0, 5), size=st.integers(1, 6), seed=st.integers(0, 1000))
def test_distances_against_their_definition(count: int, size: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.rand((count, size), generator=generator) for _ in range(2))
    found = distances(a, b)
    for row in range(count):
        steps = [abs(float(p) - float(q)) for p, q in zip(a[row], b[row], strict=True)]
        assert float(found["linf"][row]) == pytest.approx(max(steps), rel=1e-6)
        assert float(found["l2"][row]) == pytest.approx(sum(step**2 for step in steps) ** 0.5)
        assert float(found["l1"][row]) == pytest.approx(sum(steps))
        assert float(found["l0"][row]) == sum(step > 0 for step in steps)
    assert all(values.shape == (count,) for values in found.values())


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X.double(), torch.zeros(3, dtype=torch.int64), "float64; give float32"),
        (X * 255, torch.zeros(3, dtype=torch.int64), r"from 127.5 to 127.5; give images in \[0, 1\]"),
        (X * torch.nan, torch.zeros(3, dtype=torch.int64), "from nan"),
        (X, torch.zeros(3), "torch.float32; give int64"),
        (X, torch.zeros(2, dtype=torch.int64), r"y is \(2,\)"),
        (torch.zeros(3), torch.zeros(3, dtype=torch.int64), r"x is \(3,\)"),
    ],
)
def test_samples_that_cannot_be_attacked_are_named(x: torch.Tensor, y: torch.Tensor, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_samples(x, y)


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        ((torch.zeros(3, 2),), "returned tuple for 3 samples"),
        (torch.zeros(3), r"returned \(3,\)"),
        (torch.zeros(2, 5), r"returned \(2, 5\)"),
        (torch.zeros(3, 2, dtype=torch.int64), "int64"),
        (torch.tensor([[0.0, 1], [torch.nan, 0], [1, 0]]), "NaN for 1 of 3"),
    ],
)
def test_answers_of_a_model_that_give_no_verdict(logits: object, message: str) -> None:
    with pytest.raises(CellError, match=message):
        check_logits(logits, 3)


def test_minus_infinity_is_a_verdict() -> None:
    logits = torch.tensor([[0.0, -torch.inf]])
    assert check_logits(logits, 1).argmax(dim=1).tolist() == [0]
