"""Neural Cleanse: the controller against a plain transcript, the batch against the loop, backdoors that are known."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robustkit.contracts import Data
from robustkit.data.splits import ArraySplit
from robustkit.detectors.controller import Controller, Rules
from robustkit.detectors.inversion import EPSILON, Search, invert, invert_by_class, stamp, success_rate
from robustkit.detectors.neural_cleanse import NeuralCleanse
from robustkit.testing import small

RULES = Rules(threshold=0.9, patience=3)


class Transcript:
    """The controller of one class as the published code has it, one `if` after the other."""

    def __init__(self) -> None:
        self.cost, self.waiting, self.up, self.down = 0.0, 0, 0, 0
        self.went_up = self.went_down = False
        self.best = self.best_before = math.inf
        self.stalled = 0

    def step(self, success: float, size: float) -> bool:
        if success >= RULES.threshold and size < self.best:
            self.best = size
        if self.best < math.inf:
            if self.best >= self.best_before:
                self.stalled += 1
            else:
                self.stalled = 0
        self.best_before = min(self.best, self.best_before)
        if self.went_down and self.went_up and self.stalled >= RULES.early_stop:
            return True
        if self.cost == 0 and success >= RULES.threshold:
            self.waiting += 1
            if self.waiting >= RULES.patience:
                self.cost = RULES.cost
                self.up = self.down = 0
                self.went_up = self.went_down = False
        else:
            self.waiting = 0
        if success >= RULES.threshold:
            self.up, self.down = self.up + 1, 0
        else:
            self.up, self.down = 0, self.down + 1
        if self.up >= RULES.patience:
            self.up = 0
            self.cost *= RULES.multiplier
            self.went_up = True
        elif self.down >= RULES.patience:
            self.down = 0
            self.cost /= RULES.multiplier**1.5
            self.went_down = True
        return False


def test_the_controller_takes_the_steps_of_its_transcript() -> None:
    generator = torch.Generator().manual_seed(0)
    classes = 12
    controller = Controller.start(classes, torch.device("cpu"), torch.float64)
    plain = [Transcript() for _ in range(classes)]
    ends: dict[int, int] = {}
    mood = torch.rand(classes, generator=generator, dtype=torch.float64)
    for number in range(200):
        if number % 7 == 0:  # runs of feasible and of infeasible steps
            mood = torch.rand(classes, generator=generator, dtype=torch.float64)
        success = (0.75 + 0.3 * mood).clamp(max=1)
        size = 50 * torch.rand(classes, generator=generator, dtype=torch.float64) + 10
        finished = controller.step(success, size, controller.better(success, size, RULES), RULES)
        for k in range(classes):
            if k in ends:
                continue
            if plain[k].step(float(success[k]), float(size[k])):
                ends[k] = number
                assert bool(finished[k])
                continue
            assert not bool(finished[k])
            assert float(controller.cost[k]) == pytest.approx(plain[k].cost, rel=1e-12)
            assert float(controller.best[k]) == plain[k].best
            assert (int(controller.up[k]), int(controller.down[k])) == (plain[k].up, plain[k].down)
    assert len(ends) > classes // 2


def toy(dtype: torch.dtype = torch.float64) -> nn.Module:
    """A network that knows the kit's data, and takes a bright pixel in the corner for class 3 whatever else it sees."""

    class Open(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = small.trained()

        def forward(self, x: Tensor) -> Tensor:
            logits = self.network(x)
            corner = x[:, :, 7, 7].mean(dim=1)
            door = torch.zeros_like(logits)
            door[:, 3] = 1.0
            return logits + 5 * nn.functional.softplus(12 * (corner - 0.7))[:, None] * door

    return Open().eval().to(dtype)


def images(count: int = 96, dtype: torch.dtype = torch.float64) -> Tensor:
    return small.data().val.batch(torch.arange(count))[0].to(dtype)


def frozen(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


SEARCH = Search(steps=40, batches=3, batch_size=32, lr=0.1, rules=Rules(), seed=3)


def test_all_classes_at_once_are_the_classes_one_by_one() -> None:
    model, x = frozen(toy()), images()
    targets = torch.tensor([0, 3, 4, 7])
    together, alone = invert(model, x, targets, SEARCH), invert_by_class(model, x, targets, SEARCH)
    assert torch.equal(together.steps, alone.steps)
    assert torch.equal(together.feasible, alone.feasible)
    assert together.gradients == alone.gradients
    torch.testing.assert_close(together.norm, alone.norm, rtol=0.01, atol=0)
    torch.testing.assert_close(together.cost, alone.cost)


def test_one_step_is_adam_on_the_published_loss() -> None:
    """Against torch's own Adam and autograd, from the same start, over the batches of one step."""
    model, x = frozen(toy()), images(32)
    search = dataclasses.replace(SEARCH, steps=1, batches=5, seed=9)
    found = invert(model, x, torch.tensor([2]), search)
    generator = torch.Generator().manual_seed(1_000_003 * 9 + 2)
    start = torch.atanh((torch.rand(4, 8, 8, generator=generator, dtype=torch.float64) - 0.5) * (2 - EPSILON))
    a, b = start[:1].clone().requires_grad_(), start[1:].clone().requires_grad_()
    adam = torch.optim.Adam([a, b], lr=0.1, betas=(0.5, 0.9), eps=1e-7)
    for _ in range(5):  # each batch is the whole set, whose order doesn't matter
        adam.zero_grad()
        mask, pattern = torch.tanh(a) / (2 - EPSILON) + 0.5, torch.tanh(b) / (2 - EPSILON) + 0.5
        loss = nn.functional.cross_entropy(model((1 - mask) * x + mask * pattern), torch.full((32,), 2))
        torch.autograd.backward(loss)
        adam.step()
    torch.testing.assert_close(found.mask[0], (torch.tanh(a) / (2 - EPSILON) + 0.5).detach(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(found.pattern[0], (torch.tanh(b) / (2 - EPSILON) + 0.5).detach(), rtol=1e-6, atol=1e-9)


def test_an_open_door_is_found_named_and_shown() -> None:
    model, data = toy(torch.float32), small.data()
    torch.manual_seed(0)
    verdict = NeuralCleanse(steps=60, batches=3)(model, data)
    smallest = min(verdict.table, key=lambda row: row["norm"])
    assert smallest["class"] == 3
    assert verdict.classes[0] == 3
    assert smallest["success"] >= 0.9
    assert verdict.images["class 3: mask"].shape == (3, 8, 8)
    assert float(verdict.images["class 3: mask"][0, 7, 7]) > 0.5 * smallest["norm"]


def test_the_success_rate_is_that_of_the_stamped_images() -> None:
    model, x = toy(), images()
    mask, pattern = torch.zeros(1, 1, 8, 8, dtype=x.dtype), torch.ones(1, 3, 8, 8, dtype=x.dtype)
    mask[:, :, 6:, 6:] = 1
    stamped = x.clone()
    stamped[:, :, 6:, 6:] = 1
    assert torch.equal(stamp(x, mask[0], pattern[0]), stamped)
    expected = (model(stamped).argmax(1) == 3).double().mean()
    assert float(success_rate(model, x, mask, pattern, torch.tensor([3]))[0]) == pytest.approx(float(expected))


def test_a_class_without_a_trigger_counts_with_the_whole_image() -> None:
    model = frozen(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).double())
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    found = invert(model, images(32), torch.arange(3), dataclasses.replace(SEARCH, steps=8))
    assert found.feasible.tolist() == [True, False, False]
    assert found.norm[1:].tolist() == [64.0, 64.0]


def test_halving_spends_less_and_keeps_the_smallest() -> None:
    model, x = frozen(toy()), images()
    targets = torch.arange(10)
    search = dataclasses.replace(SEARCH, steps=60)
    whole, halved = (
        invert(model, x, targets, search),
        invert(model, x, targets, dataclasses.replace(search, halving=True)),
    )
    assert halved.gradients < 0.6 * whole.gradients
    assert int(halved.norm.argmin()) == int(whole.norm.argmin()) == 3


def test_a_warm_start_finds_smaller_masks_for_as_many_passes() -> None:
    model, x, targets = frozen(toy()), images(), torch.arange(10)
    cold = invert(model, x, targets, dataclasses.replace(SEARCH, steps=30))
    warm = invert(model, x, targets, dataclasses.replace(SEARCH, steps=20, warm=30))
    assert warm.gradients <= cold.gradients
    assert bool(warm.feasible.all())
    assert float(warm.norm.sum()) < 0.95 * float(cold.norm.sum())
    assert int(warm.norm.argmin()) == 3


def test_warm_starts_of_all_classes_are_those_of_the_classes_one_by_one() -> None:
    model, x, targets = frozen(toy()), images(), torch.tensor([0, 3, 7])
    search = dataclasses.replace(SEARCH, steps=12, warm=10)
    together, alone = invert(model, x, targets, search), invert_by_class(model, x, targets, search)
    assert together.gradients == alone.gradients == 3 * (10 + 12 * 3) * 32
    torch.testing.assert_close(together.norm, alone.norm, rtol=0.01, atol=0)


def test_low_precision_has_its_triggers_confirmed() -> None:
    """A search model that says yes to everything finds nothing that the exact one doesn't confirm."""

    class Yes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.sum(dim=(1, 2, 3)) * 0 + 1, x.sum(dim=(1, 2, 3)) * 0], dim=1)

    class No(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.sum(dim=(1, 2, 3)) * 0, x.sum(dim=(1, 2, 3)) * 0 + 1], dim=1)

    search = dataclasses.replace(SEARCH, steps=3)
    assert bool(invert(Yes(), images(32), torch.tensor([0]), search).feasible[0])
    assert not bool(invert(Yes(), images(32), torch.tensor([0]), search, exact=No()).feasible[0])


def backdoored_network() -> nn.Module:
    """The network of the published checkpoints: three blocks of two convolutions with ELU."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (32, 64, 128):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ELU()]
            channels = width
        layers += [nn.MaxPool2d(2), nn.Dropout(0.3)]
    model = nn.Sequential()
    model.add_module("features", nn.Sequential(*layers))
    model.add_module("flatten", nn.Flatten())
    model.add_module("classifier", nn.Linear(2048, 10))
    return model.eval()


REAL = ("badnets_8", "l0_inv_0", "l2_inv_0", "trojan_sq_2", "trojan_wm_2")


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_published_backdoored_networks_are_flagged_and_their_target_named(real_data: Path, name: str) -> None:
    import numpy as np
    from safetensors.torch import load_file

    model = backdoored_network()
    state = load_file(real_data / "backdoored" / "cifar10" / f"{name}.safetensors")
    model.load_state_dict({key.replace("classifier.0.", "classifier."): value for key, value in state.items()})
    with np.load(real_data / "cifar10" / "test.npz") as arrays:
        x, y = torch.from_numpy(arrays["x"][:500]), torch.from_numpy(arrays["y"][:500].astype(np.int64))
    split = ArraySplit(x, y)
    known: Data = dataclasses.replace(small.data(), shape=(3, 32, 32), train=split, val=split, test=split)
    torch.manual_seed(0)
    verdict = NeuralCleanse(images=200, steps=80, batches=3, batch_size=16)(model, known)
    assert verdict.classes[0] == int(name.rpartition("_")[2])
    assert verdict.flagged
