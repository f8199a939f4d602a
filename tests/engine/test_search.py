from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.attacks.bim import BIM
from robustkit.attacks.fgsm import FGSM
from robustkit.attacks.pgd import PGD
from robustkit.contracts import Threat
from robustkit.data.mnist_10k import MNIST10k
from robustkit.engine.evaluate import Arena, CellError, attack_block
from robustkit.host import Component
from robustkit.models.cnn import CNN

Make = Callable[..., Component]
Samples = tuple[Tensor, Tensor]
BALL = Threat("linf", 0.2)


def _in_bf16(network: nn.Module, x: Tensor) -> bool:
    with torch.no_grad():
        logits = network(x)
    return torch.equal(logits, logits.bfloat16().float())


def _step(network: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    point = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(network(point), y), point)
    return (x + eps * gradient.sign()).clamp(0, 1)


class Blind:
    """Sees nothing in low precision. Its calls: whether in low precision, and of how many samples."""

    def __init__(self) -> None:
        self.calls: list[tuple[bool, int]] = []

    def __call__(self, network: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        low = _in_bf16(network, x)
        self.calls.append((low, len(x)))
        return x if low else _step(network, x, y, threat.eps)


class Polishes(Blind):
    """Blind, but its polish is not."""

    def polish(self, network: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Threat) -> Tensor:
        assert not _in_bf16(network, x)
        assert torch.equal(x, x_adv)
        return _step(network, x, y, threat.eps)


def test_what_an_attack_without_polish_missed_in_low_precision_is_attacked_again(
    network: nn.Module, samples: Samples, component: Make
) -> None:
    attack = Blind()
    low = attack_block(network, component(attack), *samples, BALL, precision="bf16")
    assert attack.calls == [(True, 24), (False, 24)]
    exact = attack_block(network, component(Blind()), *samples, BALL, precision="fp32")
    assert torch.equal(low.success, exact.success)
    assert exact.success.any()
    assert (low.precision, exact.precision) == ("bf16", "fp32")
    assert low.backwards == 24


def test_polish_has_the_last_word_and_only_the_nearest_are_attacked_again(
    network: nn.Module, samples: Samples, component: Make
) -> None:
    ball = Threat("linf", 0.01)  # most stand
    attack = Polishes()
    low = attack_block(network, component(attack), *samples, ball, precision="bf16")
    exact = attack_block(network, component(Blind()), *samples, ball, precision="fp32")
    assert torch.equal(low.success, exact.success)
    assert 12 < int((~exact.success).sum()) < 24
    assert attack.calls[0] == (True, 24)
    assert attack.calls[1:] == [(False, math.ceil(int((~exact.success).sum()) / 8))]


class _Tie(nn.Module):
    """Logits whose lead is lost in bf16, where class 0 then wins the tie: (N, 1, 1, 2) → (N, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor([[1.0, 0.0], [1.0005, 0.0]]))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        return logits


def test_what_falls_in_low_precision_alone_is_attacked_again_and_judged_in_float32(component: Make) -> None:
    calls: list[bool] = []

    class GivesUp:
        def __call__(self, network: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
            calls.append(low := _in_bf16(network, x))
            assert bool((network(x).argmax(dim=1) != y).all()) is low
            return x

        def polish(self, *_: Any) -> Tensor:
            raise AssertionError("nothing stands in low precision")

    x, y = torch.ones(3, 1, 1, 2), torch.ones(3, dtype=torch.int64)
    result = attack_block(_Tie().eval(), component(GivesUp()), x, y, BALL, precision="bf16")
    assert calls == [True, False]
    assert result.attacked.all()
    assert not result.success.any()
    assert result.adv_pred.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "entry", [{"goal": "minimal"}, {"knowledge": "score"}, {"knowledge": "decision"}, {"norms": frozenset()}]
)
def test_searches_that_rounding_misleads_stay_in_float32(
    network: nn.Module, samples: Samples, component: Make, entry: dict[str, Any]
) -> None:
    attack = Blind()
    result = attack_block(network, component(attack, **entry), *samples, BALL, precision="bf16")
    assert attack.calls == [(False, 24)]
    assert result.precision == "fp32"


def test_a_failing_last_word_loses_nothing(network: nn.Module, samples: Samples, component: Make) -> None:
    class Worse:
        def __call__(self, network: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
            sign = 1 if _in_bf16(network, x) else -1  # uphill first, and downhill when asked again
            return _step(network, x, y, sign * threat.eps)

    ball = Threat("linf", 0.01)
    low = attack_block(network, component(Worse()), *samples, ball, precision="bf16")
    reference = attack_block(network, component(FGSM()), *samples, ball)
    assert low.success.any()
    assert torch.equal(low.success, reference.success)


def test_memory_that_runs_out_anywhere_costs_time_only(samples: Samples, component: Make) -> None:
    class Tight(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(192, 5)

        def forward(self, x: Tensor) -> Tensor:
            if len(x) > 4:
                raise torch.OutOfMemoryError("CUDA out of memory")
            logits: Tensor = self.linear(x.flatten(1))
            return logits

    class RunsOutOnce:
        failures = 1

        def __call__(self, network: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
            start = x + 0.01 * torch.randn_like(x)
            result = _step(network, start.clamp(0, 1), y, threat.eps / 2)
            if self.failures:
                self.failures -= 1
                raise torch.OutOfMemoryError("CUDA out of memory, in the backward pass")
            return result

    model = Tight().eval()
    x = samples[0]
    arena = Arena(model, "fp32", None, x)
    y = arena.logits(x).argmax(dim=1)
    tight = arena.attack(component(RunsOutOnce()), x, y, BALL, seed=3)
    attack = RunsOutOnce()
    attack.failures = 0
    roomy = Arena(model.linear, "fp32", None, x.flatten(1)).attack(component(attack), x.flatten(1), y, BALL, seed=3)
    assert torch.equal(tight.success, roomy.success)
    torch.testing.assert_close(tight.x_adv.flatten(1), roomy.x_adv, rtol=0, atol=1e-6)
    assert (tight.forwards, tight.backwards) == (roomy.forwards, roomy.backwards) == (24, 24)


def test_an_attack_that_exits_ends_its_cell_alone(network: nn.Module, samples: Samples, component: Make) -> None:
    def leaves(*_: Any) -> Tensor:
        raise SystemExit("missing data set")

    with pytest.raises(CellError, match="wanted to exit: missing data set"):
        attack_block(network, component(leaves), *samples, BALL)


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, Tensor, Tensor]:
    """A CNN after a few seconds of single-step adversarial training at eps 0.1, and 1,000 test images."""
    data = MNIST10k()()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CNN()((1, 28, 28), 10)
        optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
        for step in range(90):
            x, y = data.train.batch(torch.arange(step * 100, step * 100 + 100))
            noise = torch.empty_like(x).uniform_(-0.1, 0.1)
            x_adv = _step(model, (x + noise).clamp(0, 1), y, 0.1)
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(model(x_adv), y))
            optimizer.step()
    x, y = data.test.batch(torch.arange(1000))
    return model.eval(), x, y


@pytest.mark.parametrize(("attack", "precision"), [(PGD(steps=10), "bf16"), (FGSM(), "bf16"), (FGSM(), "fp16")])
def test_low_precision_never_makes_a_model_look_more_robust(
    trained: tuple[nn.Module, Tensor, Tensor], component: Make, attack: Any, precision: Any
) -> None:
    model, x, y = trained
    robust = {}
    for chosen in ("fp32", precision):
        arena = Arena(model, chosen, None, x)
        results = [
            arena.attack(component(attack), x[rows], y[rows], Threat("linf", 0.1), seed=number)
            for number, rows in enumerate(torch.arange(1000).split(200))
        ]
        right = torch.cat([result.clean_pred for result in results]) == y
        robust[chosen] = float((right & ~torch.cat([result.success for result in results])).float().mean())
    assert 0.3 < robust["fp32"] < 0.95  # near enough to the boundary for the question to matter
    assert robust[precision] <= robust["fp32"] + 0.002


class Counts:
    """Knows that even rows fall, after as many queries as their number; `answer` replaces the count."""

    def __init__(self, answer: object = None) -> None:
        self.answer = answer

    def counted(self, network: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> tuple[Tensor, object]:
        found = _step(network, x, y, threat.eps)
        return found, torch.arange(len(x)) + 1 if self.answer is None else self.answer


def test_queries_are_kept_by_sample(network: nn.Module, samples: Samples, component: Make) -> None:
    x, y = samples
    active = torch.arange(len(x)) % 3 == 0
    attack = component(Counts(), knowledge="score")
    result = attack_block(network, attack, x, y, BALL, active=active)
    assert result.queries is not None
    assert result.queries[active].tolist() == list(range(1, int(active.sum()) + 1))
    assert not result.queries[~active].any()
    none = attack_block(network, attack, x, y, BALL, active=torch.zeros_like(active))
    assert none.queries is not None  # so that all blocks of a cell have the same columns
    assert not none.queries.any()
    assert attack_block(network, component(_called), x, y, BALL).queries is None


def _called(network: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    return _step(network, x, y, threat.eps)


@pytest.mark.parametrize("answer", [3, torch.ones(5, dtype=torch.int64), torch.ones(24)], ids=str)
def test_a_count_of_another_kind_is_an_error(
    network: nn.Module, samples: Samples, component: Make, answer: object
) -> None:
    with pytest.raises(CellError, match=r"queries for 24 samples, not int64 \(24,\)"):
        attack_block(network, component(Counts(answer), knowledge="score"), *samples, BALL)


class Squares(nn.Module):
    """Logits Σ a_i (x_i + s ξ_i)² + b with ξ ~ N(0, 1); their expectation is Σ a_i (x_i² + s²) + b."""

    def __init__(self, spread: float, *, expected: bool = False) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        self.a = 0.02 * torch.randn(50, 2, generator=draw)
        self.b = torch.tensor([2.0, 0.0])  # far enough that nothing falls, and the search goes on to its end
        self.spread, self.expected = spread, expected

    def forward(self, x: Tensor) -> Tensor:
        z = x.flatten(1)
        moments = z.square() + self.spread**2 if self.expected else (z + self.spread * torch.randn_like(z)).square()
        return moments @ self.a + self.b


def _averaged(model: nn.Module, attack: Component, eot: int) -> Any:
    x = 0.3 + 0.4 * torch.rand(40, 2, 5, 5, generator=torch.Generator().manual_seed(4))
    arena = Arena(model, "fp32", None, x, eot=eot)
    return x, arena.attack(attack, x, torch.zeros(40, dtype=torch.int64), Threat("linf", 0.1), seed=0)


def _lead(x_adv: Tensor, x: Tensor) -> Tensor:
    """(N,) by how much the expected margin shrank."""
    network = Squares(0.5, expected=True)
    before, after = (network(z)[:, 1] - network(z)[:, 0] for z in (x, x_adv))
    return after - before


def test_many_draws_are_the_attack_on_the_expectation(component: Make) -> None:
    fgsm, bim = component(FGSM()), component(BIM(steps=10, loss="margin"))
    x, exact = _averaged(Squares(0.5, expected=True), fgsm, 1)
    _, many = _averaged(Squares(0.5), fgsm, 300)
    _, one = _averaged(Squares(0.5), fgsm, 1)
    assert int(exact.attacked.sum()) == len(x)
    # the sign of x_i + 0.5 · mean ξ_i, x_i ≥ 0.3: wrong for one draw in 6, for the mean of 300 beyond ten deviations;
    # what differs else are values whose two classes pull almost alike
    same, single = (((found.x_adv - exact.x_adv).abs() <= 1e-6).double().mean() for found in (many, one))
    assert float(same) >= 0.97
    assert float(single) <= 0.95
    _, exact = _averaged(Squares(0.5, expected=True), bim, 1)
    _, many = _averaged(Squares(0.5), bim, 100)
    assert float((_lead(many.x_adv, x) / _lead(exact.x_adv, x)).min()) >= 0.97
    assert float(_lead(one.x_adv, x).mean()) <= 0.9 * float(_lead(many.x_adv, x).mean())


def test_draws_are_for_gradients_of_random_networks(network: nn.Module, samples: Samples, component: Make) -> None:
    _, one = _averaged(Squares(0.5), component(FGSM()), 1)
    _, many = _averaged(Squares(0.5), component(FGSM()), 7)
    assert (many.forwards, many.backwards) == (7 * one.forwards, 7 * one.backwards)
    _, blind = _averaged(Squares(0.5), component(FGSM(), knowledge="score"), 7)
    assert blind.forwards == one.forwards
    passes = [
        Arena(network, "fp32", None, samples[0], eot=eot).attack(component(FGSM()), *samples, BALL, seed=0).forwards
        for eot in (1, 7)
    ]
    assert passes[0] == passes[1]  # it answers the same each time
