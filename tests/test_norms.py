"""Lp geometry against a convex solver, closed forms and the statistics of uniform points."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize
from torch import Tensor

from robustkit.attacks.nearest import onto_ball
from robustkit.contracts import NORMS, Norm, Threat
from robustkit.norms import distance, flat, project, random_start, steepest
from robustkit.params import UsageError

SHAPES = st.tuples(
    st.sampled_from([1, 3, 8, 17]), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)
)  # (N, C, H, W)
DTYPES = st.sampled_from([torch.float32, torch.float64])
SEEDS = st.integers(0, 2**31 - 1)


def images(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """A third of the values are exactly 0 or 1, where ball and box meet."""
    x = torch.rand(shape, generator=generator, dtype=dtype)
    return ((x - 0.5) * 1.5 + 0.5).clamp(0, 1)


def threat_for(norm: Norm, share: float, values: int) -> Threat:
    """From the point itself to about the whole box."""
    largest = {"linf": 1.0, "l2": math.sqrt(values), "l1": float(values), "l0": float(values)}[norm]
    return Threat(norm, share * largest)


def measured(a: Tensor, b: Tensor, norm: Norm) -> Tensor:
    """As the host does it, in float64."""
    return distance(a.double(), b.double(), norm)


@pytest.mark.parametrize("norm", NORMS)
@given(
    shape=SHAPES, dtype=DTYPES, seed=SEEDS, share=st.floats(0, 1), reach=st.sampled_from([1e-7, 0.01, 0.3, 2.0, 1e4])
)
@settings(deadline=None, max_examples=60)
def test_projection_is_in_ball_and_box_and_idempotent(
    norm: Norm, shape: tuple[int, ...], dtype: torch.dtype, seed: int, share: float, reach: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = images(shape, dtype, generator)
    x_adv = x + reach * torch.randn(shape, generator=generator, dtype=dtype)
    kept = x.clone(), x_adv.clone()
    threat = threat_for(norm, share, math.prod(shape[1:]))
    point = project(x_adv, x, threat)
    assert point.dtype == dtype
    assert point.shape == x.shape
    assert bool((measured(point, x, norm) <= threat.allowance).all())
    assert 0 <= float(point.min()) <= float(point.max()) <= 1
    assert torch.equal(project(point, x, threat), point)
    assert torch.equal(x, kept[0])
    assert torch.equal(x_adv, kept[1])


@pytest.mark.parametrize("norm", NORMS)
def test_projection_leaves_what_is_inside(norm: Norm) -> None:
    generator = torch.Generator().manual_seed(1)
    x = images((5, 3, 6, 6), torch.float32, generator)
    threat = threat_for(norm, 0.3, 108)
    inside = random_start(x, threat)
    assert torch.equal(project(inside, x, threat), inside)


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("eps", [1e-4, 0.5, 12.0])
def test_projection_survives_equal_values_that_round_alike(norm: Norm, eps: float) -> None:
    """150,528 values, all rounded the same way: the error is more than the host allows unless it is undone."""
    x = torch.full((2, 3, 224, 224), 0.6)
    threat = Threat(norm, eps)
    for sign in (1, -1):
        point = project(x + sign * 0.3, x, threat)
        assert bool((measured(point, x, norm) <= threat.allowance).all())
        assert torch.equal(project(point, x, threat), point)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_projection_of_a_mixed_batch_treats_each_sample_alone(norm: Norm) -> None:
    generator = torch.Generator().manual_seed(2)
    x = images((6, 1, 5, 5), torch.float32, generator)
    x_adv = (
        x + torch.randn(x.shape, generator=generator) * torch.tensor([0, 1e-3, 1e-2, 0.1, 1, 10])[:, None, None, None]
    )
    threat = Threat(norm, 0.8)
    together = project(x_adv, x, threat)
    alone = torch.cat([project(x_adv[i : i + 1], x[i : i + 1], threat) for i in range(6)])
    assert torch.allclose(together, alone, atol=1e-6)


def nearest(x_adv: np.ndarray, x: np.ndarray, norm: Norm, eps: float, box: bool) -> np.ndarray:
    """The Euclidean projection of one flat sample by SLSQP; δ = p − q with p, q ≥ 0 makes l1 smooth."""
    size = len(x)
    aim = x_adv - x
    low = -x if box else np.full(size, -np.inf)
    high = 1 - x if box else np.full(size, np.inf)
    if norm == "linf":
        return x + np.clip(aim, np.maximum(low, -eps), np.minimum(high, eps))
    if norm == "l2":
        found = minimize(
            lambda d: ((d - aim) ** 2).sum(),
            np.clip(aim, low, high) * 1e-2,
            jac=lambda d: 2 * (d - aim),
            bounds=list(zip(low, high, strict=True)),
            constraints={"type": "ineq", "fun": lambda d: eps**2 - (d**2).sum(), "jac": lambda d: -2 * d},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
    else:
        found = minimize(
            lambda z: ((z[:size] - z[size:] - aim) ** 2).sum(),
            np.zeros(2 * size),
            jac=lambda z: np.concatenate([d := 2 * (z[:size] - z[size:] - aim), -d]),
            bounds=[(0, max(h, 0)) for h in high] + [(0, max(-b, 0)) for b in low],
            constraints={"type": "ineq", "fun": lambda z: eps - z.sum(), "jac": lambda z: -np.ones(2 * size)},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
    assert found.status in (0, 8), found.message  # 8: as exact as float64 lets its line search be
    delta = found.x if norm == "l2" else found.x[:size] - found.x[size:]
    return x + delta


@pytest.mark.parametrize("norm", ["linf", "l1"])
@given(seed=SEEDS, size=st.integers(1, 8), eps=st.floats(0.05, 1.0), reach=st.floats(0.05, 1.5))
@settings(deadline=None, max_examples=40)
def test_projection_is_the_nearest_point_of_ball_and_box(
    norm: Norm, seed: int, size: int, eps: float, reach: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = images((1, size, 1, 1), torch.float64, generator)
    x_adv = x + reach * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    ours = project(x_adv, x, Threat(norm, eps)).flatten()
    theirs = nearest(x_adv.flatten().numpy(), x.flatten().numpy(), norm, eps, box=True)
    assert np.abs(ours.numpy() - theirs).max() <= 1e-4


@given(seed=SEEDS, size=st.integers(1, 8), eps=st.floats(0.05, 0.4))
@settings(deadline=None, max_examples=40)
def test_l2_projection_is_the_nearest_point_where_the_box_is_far(seed: int, size: int, eps: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = 0.45 + 0.1 * torch.rand((1, size, 1, 1), generator=generator, dtype=torch.float64)
    x_adv = x + torch.randn(x.shape, generator=generator, dtype=torch.float64)
    ours = project(x_adv, x, Threat("l2", eps)).flatten()
    theirs = nearest(x_adv.flatten().numpy(), x.flatten().numpy(), "l2", eps, box=True)
    assert np.abs(ours.numpy() - theirs).max() <= 1e-5


@given(seed=SEEDS, size=st.integers(1, 8), eps=st.floats(0.05, 1.0))
@settings(deadline=None, max_examples=40)
def test_l2_projection_is_box_after_ball(seed: int, size: int, eps: float) -> None:
    """Where the box cuts the ball it is not the nearest point, but what its docstring says, by a solver."""
    generator = torch.Generator().manual_seed(seed)
    x = images((1, size, 1, 1), torch.float64, generator)
    x_adv = x + torch.randn(x.shape, generator=generator, dtype=torch.float64)
    ours = project(x_adv, x, Threat("l2", eps)).flatten()
    ball = nearest(x_adv.flatten().numpy(), x.flatten().numpy(), "l2", eps, box=False)
    assert np.abs(ours.numpy() - ball.clip(0, 1)).max() <= 1e-5


def test_l0_projection_keeps_the_largest_changes() -> None:
    x = torch.tensor([[[[0.5, 0.5, 0.5, 0.0]]]])
    x_adv = torch.tensor([[[[0.6, 0.2, 0.9, -3.0]]]])  # the last one is no change once it is in the box
    assert torch.equal(project(x_adv, x, Threat("l0", 2)), torch.tensor([[[[0.5, 0.2, 0.9, 0.0]]]]))
    assert torch.equal(project(x_adv, x, Threat("l0", 0)), x)
    assert torch.equal(project(x_adv, x, Threat("l0", 9)), x_adv.clamp(0, 1))


@given(seed=SEEDS, size=st.integers(1, 7), count=st.integers(0, 8), reach=st.floats(0.05, 1.5))
@settings(deadline=None, max_examples=40)
def test_l0_projection_is_the_nearest_of_all_choices(seed: int, size: int, count: int, reach: float) -> None:
    """Over every set of at most `count` values, moved as near as the box allows; the ball is not convex."""
    generator = torch.Generator().manual_seed(seed)
    x = images((1, size, 1, 1), torch.float64, generator)
    x_adv = (x + reach * torch.randn(x.shape, generator=generator, dtype=torch.float64)).clamp(0, 1)
    ours = project(x_adv, x, Threat("l0", count))
    least = math.inf
    for chosen in itertools.chain.from_iterable(
        itertools.combinations(range(size), k) for k in range(min(count, size) + 1)
    ):
        point = x.clone()
        point[:, list(chosen)] = x_adv[:, list(chosen)]
        least = min(least, float(distance(x_adv, point, "l2")))
    assert float(distance(x_adv, ours, "l2")) == pytest.approx(least, abs=1e-12)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@given(seed=SEEDS, size=st.integers(1, 8), radius=st.floats(0.01, 2.0))
@settings(deadline=None, max_examples=40)
def test_projection_onto_a_ball_alone_is_the_nearest_point(norm: Norm, seed: int, size: int, radius: float) -> None:
    """That of the minimum-norm attacks, a radius each; another sample of another radius beside it."""
    generator = torch.Generator().manual_seed(seed)
    delta = torch.randn((2, size, 1, 1), generator=generator, dtype=torch.float64)
    radii = torch.tensor([radius, 0.5 * radius], dtype=torch.float64)
    ours = onto_ball(delta, radii, norm).reshape(2, size).numpy()
    for row in range(2):
        theirs = nearest(delta[row].flatten().numpy(), np.zeros(size), norm, float(radii[row]), box=False)
        assert np.abs(ours[row] - theirs).max() <= 1e-4


def test_distance_against_numpy() -> None:
    generator = torch.Generator().manual_seed(4)
    a, b = (torch.rand((7, 3, 5, 4), generator=generator, dtype=torch.float64) for _ in range(2))
    b[:, :, 0] = a[:, :, 0]
    difference = (a - b).numpy().reshape(7, -1)
    for norm, order in (("linf", np.inf), ("l2", 2), ("l1", 1), ("l0", 0)):
        expected = np.linalg.norm(difference, ord=order, axis=1) if order else (difference != 0).sum(axis=1)
        assert np.allclose(distance(a, b, norm).numpy(), expected, rtol=1e-12)  # type: ignore[arg-type]


@pytest.mark.parametrize("norm", NORMS)
def test_empty_batches(norm: Norm) -> None:
    x = torch.rand(0, 3, 4, 4)
    threat = threat_for(norm, 0.5, 48)
    assert distance(x, x, norm).shape == (0,)
    assert project(x, x, threat).shape == x.shape
    assert random_start(x, threat).shape == x.shape
    if norm != "l0":
        assert steepest(x, norm, x).shape == x.shape


@pytest.mark.parametrize("norm", NORMS)
@given(shape=SHAPES, dtype=DTYPES, seed=SEEDS, share=st.floats(0, 1))
@settings(deadline=None, max_examples=40)
def test_random_start_is_in_ball_and_box(
    norm: Norm, shape: tuple[int, ...], dtype: torch.dtype, seed: int, share: float
) -> None:
    x = images(shape, dtype, torch.Generator().manual_seed(seed))
    threat = threat_for(norm, share, math.prod(shape[1:]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        start = random_start(x, threat)
        torch.manual_seed(seed)
        again = random_start(x, threat)
    assert torch.equal(start, again)
    assert start.dtype == dtype
    assert bool((measured(start, x, norm) <= threat.allowance).all())
    assert 0 <= float(start.min()) <= float(start.max()) <= 1


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_random_start_is_uniform_in_the_ball(norm: Norm) -> None:
    """In D dimensions the share of the ball's volume within r·eps is r^D, and directions cancel out."""
    x = torch.full((40_000, 1, 1, 4), 0.5)
    threat = Threat(norm, 0.4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        start = random_start(x, threat)
    radius = distance(start, x, norm) / threat.eps
    for r in (0.5, 0.7, 0.9):
        expected = r**4
        error = 4 * math.sqrt(expected * (1 - expected) / len(x))
        assert abs(float((radius <= r).double().mean()) - expected) <= error
    assert float((start - x).mean(dim=0).abs().max()) <= 4 * 0.4 / math.sqrt(len(x))
    # within the l1 ball of 4 dimensions |δ_i| / eps has the density 4 (1 − u)³: its mean is 1/5
    if norm == "l1":
        assert float((start - x).abs().mean()) / threat.eps == pytest.approx(1 / 5, rel=0.01)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@given(shape=SHAPES, dtype=DTYPES, seed=SEEDS, scale=st.sampled_from([1e-25, 1e-12, 1.0, 1e12]))
@settings(deadline=None, max_examples=40)
def test_a_steepest_step_has_unit_length_and_gains(
    norm: Norm, shape: tuple[int, ...], dtype: torch.dtype, seed: int, scale: float
) -> None:
    """Also for the tiny gradients of a confident network, whose squares are 0 in float32."""
    generator = torch.Generator().manual_seed(seed)
    gradient = scale * torch.randn(shape, generator=generator, dtype=dtype)
    step = steepest(gradient, norm)
    assert torch.allclose(distance(step, torch.zeros_like(step), norm), torch.ones(shape[0], dtype=dtype), atol=1e-5)
    assert bool((flat(step * gradient).sum(dim=1) > 0).all())


def test_the_l2_step_is_the_best_of_unit_length() -> None:
    generator = torch.Generator().manual_seed(8)
    gradient = torch.randn((4, 2, 3, 3), generator=generator, dtype=torch.float64)
    gain = flat(steepest(gradient, "l2") * gradient).sum(dim=1)
    assert torch.allclose(gain, flat(gradient).norm(dim=1))  # Cauchy–Schwarz holds with equality


@pytest.mark.parametrize("norm", ["linf", "l1"])
@given(seed=SEEDS, size=st.integers(1, 12), edge=st.booleans())
@settings(deadline=None, max_examples=40)
def test_a_step_gains_what_a_linear_program_gains(norm: Norm, seed: int, size: int, edge: bool) -> None:
    """max ⟨g, d⟩ over the unit ball; for l1 also where values at the edge of the box cannot leave it."""
    generator = torch.Generator().manual_seed(seed)
    gradient = torch.randn((1, size), generator=generator, dtype=torch.float64)
    x = images((1, size), torch.float64, generator)
    stuck = edge and norm == "l1"
    step = steepest(gradient, norm, x if stuck else None, share=1e-9)  # for l1: a single value
    g = gradient[0].numpy()
    free = [not stuck or bool(0 < x[0, i] < 1) or g[i] * (1 if x[0, i] <= 0 else -1) > 0 for i in range(size)]
    limit = [(-1.0 if may else 0.0, 1.0 if may else 0.0) for may in free]
    if norm == "linf":
        found = linprog(-g, bounds=limit)
    else:  # d = p − q
        found = linprog(
            np.concatenate([-g, g]),
            A_ub=np.ones((1, 2 * size)),
            b_ub=[1.0],
            bounds=[(0, high) for _, high in limit] + [(0, -low) for low, _ in limit],
        )
    assert found.status == 0, found.message
    assert float((step * gradient).sum()) == pytest.approx(-found.fun, abs=1e-9)


def test_the_l1_step_takes_the_largest_coordinates_that_can_move() -> None:
    gradient = torch.tensor([[5.0, -4.0, 3.0, -2.0, 1.0, 0.0, 0.5, 0.1, 0.2, 0.3]])
    assert torch.equal(steepest(gradient, "l1"), torch.eye(10)[:1])
    at_the_edge = torch.tensor([[1.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]])
    assert torch.equal(steepest(gradient, "l1", at_the_edge), torch.eye(10)[2:3])
    spread = steepest(gradient, "l1", share=0.2)
    assert spread.tolist()[0][:3] == [0.5, -0.5, 0.0]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_without_a_gradient_there_is_no_step(norm: Norm) -> None:
    assert torch.equal(steepest(torch.zeros(2, 1, 3, 3), norm), torch.zeros(2, 1, 3, 3))


def test_l0_has_no_steepest_step() -> None:
    with pytest.raises(UsageError, match=r"norm=l0.*linf, l2 and l1"):
        steepest(torch.ones(1, 1, 2, 2), "l0")
