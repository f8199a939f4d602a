from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.attacks.pgd import PGD
from robustkit.contracts import Threat
from robustkit.engine.evaluate import Arena, BlockResult, CellError, attack_block, choose_targets, predict
from robustkit.host import Component
from robustkit.norms import distance
from robustkit.params import UsageError

Changed = Callable[..., list[str]]
Make = Callable[..., Component]
Samples = tuple[Tensor, Tensor]
BALL = Threat("linf", 0.2)


def step(network: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    """A signed gradient step from a random point near the input, with a backward pass into everything."""
    point = (x + 0.01 * torch.randn_like(x)).requires_grad_()
    torch.autograd.backward(F.cross_entropy(network(point), y))
    assert point.grad is not None
    return torch.minimum(torch.maximum(point + threat.eps * point.grad.sign(), x - threat.eps), x + threat.eps).clamp(
        0, 1
    )


def same(a: BlockResult, b: BlockResult, *but: str) -> bool:
    names = {field.name for field in fields(a)} - {"seconds", *but}
    return all(
        torch.equal(getattr(a, name), getattr(b, name))
        if isinstance(getattr(a, name), Tensor)
        else getattr(a, name) == getattr(b, name)
        for name in names
    )


def test_verdicts_are_measured_on_what_came_back(network: nn.Module, samples: Samples, component: Make) -> None:
    x, y = samples
    result = attack_block(network, component(step), x, y, BALL, seed=1)
    with torch.no_grad():
        adv_pred = network(result.x_adv).argmax(dim=1)
    assert torch.equal(result.clean_pred, y)
    assert torch.equal(result.adv_pred, adv_pred)
    assert torch.equal(result.success, adv_pred != y)
    assert result.success.any()
    assert result.attacked.all()
    for norm in ("linf", "l2", "l1", "l0"):
        measured = distance(result.x_adv.double(), x.double(), norm).float()
        torch.testing.assert_close(getattr(result, f"dist_{norm}"), measured, rtol=2e-7, atol=0)
    assert not result.violation.any()
    assert (result.forwards, result.backwards) == (24, 24)
    assert result.target.tolist() == [-1] * 24
    assert result.x_adv.dtype == torch.float32
    assert not result.x_adv.requires_grad


def test_only_what_is_right_and_active_is_attacked_and_the_rest_keeps_its_input(
    network: nn.Module, samples: Samples, component: Make
) -> None:
    x, y = samples[0], samples[1].clone()
    y[:5] = (y[:5] + 1) % 5  # wrong on the clean input
    active = torch.ones(24, dtype=torch.bool)
    active[5:9] = False
    seen: list[Tensor] = []

    def attack(network: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        seen.append(x.clone())
        return step(network, x, y, threat)

    result = attack_block(network, component(attack), x, y, BALL, active=active)
    assert len(seen) == 1
    assert torch.equal(seen[0], x[9:])
    assert torch.equal(result.x_adv[:9], x[:9])
    assert result.attacked.tolist() == [False] * 9 + [True] * 15
    assert not result.success[:9].any()
    assert torch.equal(result.adv_pred[:9], result.clean_pred[:9])
    assert torch.equal(result.dist_linf[:9], torch.zeros(9))
    assert active[9:].all()


@pytest.mark.parametrize("empty", ["block", "right", "active"])
def test_an_attack_never_gets_an_empty_batch(network: nn.Module, samples: Samples, component: Make, empty: str) -> None:
    def attack(*_: Any) -> Tensor:
        raise AssertionError("called")

    x, y = samples
    x, y = (x[:0], y[:0]) if empty == "block" else (x, y)
    y = (y + 1) % 5 if empty == "right" else y
    active = torch.zeros(24, dtype=torch.bool) if empty == "active" else None
    result = attack_block(network, component(attack), x, y, BALL, active=active)
    assert torch.equal(result.x_adv, x)
    assert not result.success.any()
    assert result.forwards == 0
    assert result.dist_l2.shape == y.shape


def test_a_budget_attack_beyond_its_ball_is_projected_scored_and_counted(
    network: nn.Module, samples: Samples, component: Make
) -> None:
    x, y = samples
    small = Threat("linf", 0.02)

    def greedy(network: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return step(network, x, y, Threat("linf", 0.5))

    result = attack_block(network, component(greedy), x, y, small)
    honest = attack_block(network, component(step), x, y, small)
    assert result.violation.all()
    assert not honest.violation.any()
    assert float(result.dist_linf.max()) <= small.allowance
    assert int(result.success.sum()) < 24
    minimal = attack_block(network, component(greedy, goal="minimal"), x, y, small)
    assert not minimal.violation.any()
    assert float(minimal.dist_linf.min()) > 0.1  # the distance is kept
    assert bool((minimal.adv_pred != y).any())
    assert not minimal.success.any()  # misclassified, but not at this eps


def test_beyond_the_box_is_clipped_and_counted(network: nn.Module, samples: Samples, component: Make) -> None:
    for goal in ("budget", "minimal"):
        result = attack_block(network, component(lambda _, x, *__: x + 3, goal=goal), *samples, Threat("linf", 1.0))
        assert result.violation.all()
        assert float(result.x_adv.max()) == 1


def _nan(network: nn.Module, x: Tensor, *_: Any) -> Tensor:
    return x * torch.nan


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (_nan, "not finite in 24 of 24"),
        (lambda _, x, *__: x[:-1], r"\(23, 3, 8, 8\)"),
        (lambda _, x, *__: x.double(), "float64"),
        (lambda _, x, *__: x.numpy(), "ndarray"),
        (lambda _, x, *__: (x, True), "tuple"),
    ],
)
def test_what_cannot_be_scored_is_an_error_never_robust(
    network: nn.Module, samples: Samples, component: Make, attack: Any, message: str
) -> None:
    with pytest.raises(CellError, match=f"tests.tested returned .*{message}"):
        attack_block(network, component(attack), *samples, BALL)


def test_an_attack_that_raises_leaves_everything_as_it_was(
    network: nn.Module, samples: Samples, component: Make, changed: Changed, uncopyable: type[nn.Module]
) -> None:
    def breaks(network: nn.Module, *_: Any) -> Tensor:
        network.train()
        torch.manual_seed(0)
        raise KeyError("lost")

    model = uncopyable(network).train()

    def call() -> None:
        with pytest.raises(KeyError, match="lost"):
            attack_block(model, component(breaks), *samples, BALL)

    assert changed(model, call) == []


@dataclass(frozen=True)
class Vandal:
    """Changes all it can reach."""

    def __call__(self, network: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        for parameter in network.parameters():
            parameter.requires_grad_(True)
        result = step(network, x, y, threat)
        network.train()
        network(x)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.zero_()
        x.fill_(0.25)
        y.zero_()
        x.requires_grad_()
        return result.requires_grad_()


@pytest.mark.parametrize("copied", [True, False], ids=["copied", "itself"])
def test_a_vandal_changes_nothing(
    network: nn.Module,
    samples: Samples,
    component: Make,
    changed: Changed,
    uncopyable: type[nn.Module],
    copied: bool,
) -> None:
    model = nn.Sequential(network) if copied else uncopyable(network)
    model.train()
    network[1].eval()  # type: ignore[index]  # a frozen BatchNorm
    network[0].weight.grad = torch.ones_like(network[0].weight)  # type: ignore[index, arg-type]
    x, y = samples[0].clone(), samples[1].clone()
    arena = Arena(model, "fp32", None, x)
    results: list[BlockResult] = []

    def call() -> None:
        results.extend(arena.attack(component(Vandal()), x, y, BALL, seed=1) for _ in range(2))

    assert changed(model, call) == []
    assert torch.equal(x, samples[0])
    assert torch.equal(y, samples[1])
    first, second = results
    assert same(first, second)  # nor does the first call change what the second finds
    assert {"training flags", "weights", "parameter gradients", "requires_grad"} >= set(first.restored)
    assert {"training flags", "weights", "parameter gradients"} <= set(first.restored)
    assert first.success.any()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_results_do_not_depend_on_the_callers_mode(
    network: nn.Module, samples: Samples, component: Make, mode: Callable[[], Any]
) -> None:
    expected = attack_block(network, component(step), *samples, BALL, seed=5)
    with mode():
        x, y = samples[0].clone(), samples[1].clone()
        network.train()  # dropout would show
        result = attack_block(network, component(step), x, y, BALL, seed=5)
        made_inside = predict(network, x)
    assert same(result, expected)
    assert torch.equal(made_inside, expected.clean_pred)


def test_the_same_seed_gives_the_same_result_whatever_ran_before(
    network: nn.Module, samples: Samples, component: Make
) -> None:
    first = attack_block(network, component(step), *samples, BALL, seed=5)
    torch.rand(17)
    again = attack_block(network, component(step), *samples, BALL, seed=5)
    other = attack_block(network, component(step), *samples, BALL, seed=6)
    assert same(first, again)
    assert not torch.equal(first.x_adv, other.x_adv)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 24, 100])
def test_batch_size_does_not_change_the_numbers(
    network: nn.Module, samples: Samples, component: Make, batch_size: int
) -> None:
    attack = component(PGD(steps=5, restarts=2))
    ball = Threat("linf", 0.02)
    whole = attack_block(network, attack, *samples, ball, seed=2)
    parts = attack_block(network, attack, *samples, ball, seed=2, batch_size=batch_size)
    assert whole.success.any()
    assert not whole.success.all()
    assert same(whole, parts, "x_adv", "dist_linf", "dist_l2", "dist_l1", "dist_l0")


def test_targets() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 5, generator=generator)
    y = logits.argmax(dim=1)
    for how in ("least_likely", "random", "next"):
        targets = choose_targets(logits, y, how, seed=4)  # type: ignore[arg-type]
        assert not (targets == y).any()
        assert torch.equal(targets, choose_targets(logits, y, how, seed=4))  # type: ignore[arg-type]
    assert torch.equal(choose_targets(logits, y, "least_likely", 0), logits.argmin(dim=1))
    assert torch.equal(choose_targets(logits, y, "next", 0), (y + 1) % 5)
    drawn = choose_targets(logits, y, "random", 4)
    assert set(((drawn - y) % 5).tolist()) == {1, 2, 3, 4}
    assert not torch.equal(drawn, choose_targets(logits, y, "random", 5))


def test_the_least_likely_target_is_not_the_label_even_if_that_is_least_likely() -> None:
    assert choose_targets(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([0]), "least_likely", 0).tolist() == [1]


def test_a_targeted_attack_gets_targets_and_falls_count_whatever_class_they_fall_to(
    network: nn.Module, samples: Samples, component: Make
) -> None:
    got: list[Tensor] = []

    @dataclass(frozen=True)
    class Targeted:
        targeted: bool = True

        def __call__(self, network: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
            got.append(y.clone())
            return step(network, x, y, threat)

    x, y = samples
    result = attack_block(network, component(Targeted()), x, y, BALL, targets="next")
    assert torch.equal(got[0], (y + 1) % 5)
    assert torch.equal(result.target, (y + 1) % 5)
    assert torch.equal(result.success, result.adv_pred != y)
    hit = attack_block(network, component(PGD(targeted=True, steps=10)), x, y, BALL, targets="next")
    assert bool((hit.adv_pred == hit.target).any())
    one = attack_block(network, component(Targeted()), x, y, BALL, active=torch.arange(24) == 3)
    assert (one.target >= 0).tolist() == [number == 3 for number in range(24)]


def test_predictions_known_already_are_not_computed_again(samples: Samples, component: Make) -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(192, 5)
            self.seen: list[int] = []

        def forward(self, x: Tensor) -> Tensor:
            self.seen.append(len(x))
            logits: Tensor = self.linear(x.flatten(1))
            return logits

    model, x = Counts(), samples[0]
    arena = Arena(model, "fp32", None, x)
    pred = arena.logits(x).argmax(dim=1)
    model.seen.clear()
    arena.attack(component(lambda _, x, *__: x), x, pred, BALL, seed=0, clean_pred=pred)
    assert [count for count in model.seen if count > 2] == [24]  # the verdict; the copy is checked on 2


def test_a_model_that_gives_nan_is_an_error(samples: Samples, component: Make) -> None:
    class Poisoned(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits = x.flatten(1)[:, :5]
            return torch.where((x.flatten(1) == 1).any(dim=1, keepdim=True), torch.nan, logits)

    x = samples[0].clamp(0.1, 0.9)
    y = predict(Poisoned(), x)
    with pytest.raises(CellError, match="the model returned NaN for 24 of 24"):
        attack_block(Poisoned(), component(lambda _, x, *__: torch.ones_like(x)), x, y, Threat("linf", 1.0))


def test_images_that_are_not_in_the_unit_box_are_refused(network: nn.Module, samples: Samples, component: Make) -> None:
    with pytest.raises(UsageError, match=r"give images in \[0, 1\]"):
        attack_block(network, component(step), samples[0] * 255, samples[1], BALL)


def test_predict_in_batches(network: nn.Module, samples: Samples) -> None:
    network.train()
    assert torch.equal(predict(network, samples[0], batch_size=5), samples[1])
    assert network.training
