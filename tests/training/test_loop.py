"""The loop, and what is easy to get wrong in adversarial training; each test fails on the wrong variant."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from robustkit.contracts import Data, Recipe, Threat, Training, TrainingProgress
from robustkit.defenses.free_at import FreeAT, _Replayed
from robustkit.defenses.noise import NoiseTraining
from robustkit.defenses.pgd_at import PGDAT
from robustkit.defenses.standard import Standard
from robustkit.params import UsageError
from robustkit.training.batches import Batches
from robustkit.training.checkpoint import load
from robustkit.training.loop import train
from robustkit.training.method import OnExamples
from robustkit.training.perturbation import Perturbation

_spec = importlib.util.spec_from_file_location("training_conftest", Path(__file__).parent / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
_made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_made)
make_data, make_model, make_training = _made.make_data, _made.make_model, _made.make_training

LINF = Threat("linf", 0.1)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([value.detach().reshape(-1).float() for value in model.state_dict().values()])


@pytest.mark.parametrize("defense", [Standard(), PGDAT(steps=2), FreeAT(replays=2), NoiseTraining(sigma=0.05)])
def test_training_learns_and_equal_seeds_give_equal_weights(defense: object, data: Data) -> None:
    training = make_training(recipe=Recipe(epochs=20, batch_size=16, lr=0.1, schedule="onecycle", weight_decay=0.0))
    first = defense(make_model(), data, training)  # type: ignore[operator]
    second = defense(make_model(), data, training)  # type: ignore[operator]
    other = defense(make_model(), data, dataclasses.replace(training, seed=1))  # type: ignore[operator]
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(other))
    x, y = data.test.batch(torch.arange(len(data.test)))
    assert float((first(x).argmax(dim=1) == y).float().mean()) > 0.9
    assert not first.training
    assert all(parameter.grad is None for parameter in first.parameters())


def test_the_callers_generator_and_grad_mode_are_left_alone(data: Data) -> None:
    model = make_model()  # seeds and draws
    before = torch.get_rng_state()
    with torch.no_grad():
        train(model, data, make_training(), OnExamples(), "x")
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before)


def test_free_training_divides_epochs_by_m_and_counts_the_schedule_by_replay(data: Data) -> None:
    seen: list[TrainingProgress] = []
    rates: list[float] = []
    training = make_training(recipe=Recipe(epochs=10, batch_size=16, schedule="cyclic"), report=seen.append)

    class Spy(_Replayed):
        def observe(self, examples, x, threat, memory):  # type: ignore[no-untyped-def]
            rates.append(threat.eps)
            super().observe(examples, x, threat, memory)

    recipe = dataclasses.replace(training.recipe, ramp=0.5)
    train(make_model(), data, dataclasses.replace(training, recipe=recipe), Spy(4, 1.0), "free")
    assert seen[-1].epochs == 3  # ceil(10 / 4)
    assert seen[-1].steps == 3 * 4 * 4  # epochs x batches x replays
    assert len(rates) == 48
    # the ramp moves with every replay, not with every batch
    assert rates[0] < rates[1] < rates[2] < rates[3]
    assert rates[23] == pytest.approx(0.1)


@pytest.mark.parametrize("per", ["batch", "epoch"])
def test_radii_are_drawn_for_each_batch_or_epoch_and_never_beyond_eps(per: str, data: Data) -> None:
    seen: list[float] = []

    class Spy(_Replayed):
        def observe(self, examples, x, threat, memory):  # type: ignore[no-untyped-def]
            seen.append(threat.eps)
            super().observe(examples, x, threat, memory)

    recipe = Recipe(epochs=6, batch_size=16, lr=0.01, eps_draw="uniform", eps_per=per)  # type: ignore[arg-type]
    train(make_model(), data, make_training(recipe=recipe), Spy(2, 1.0), "free")
    assert len(seen) == 3 * 4 * 2  # epochs x batches x replays
    assert 0 <= min(seen) <= max(seen) <= 0.1
    assert all(first == second for first, second in zip(seen[::2], seen[1::2], strict=True))  # replays share one
    assert len(set(seen)) == (12 if per == "batch" else 3)
    again = seen.copy()
    seen.clear()
    train(make_model(), data, make_training(recipe=recipe), Spy(2, 1.0), "free")
    assert seen == again


def test_a_radius_is_drawn_for_each_image(data: Data) -> None:
    seen: list[torch.Tensor] = []

    class Spy(_Replayed):
        def observe(self, examples, x, threat, memory):  # type: ignore[no-untyped-def]
            seen.append(threat.eps * threat.shares)
            super().observe(examples, x, threat, memory)

    recipe = Recipe(epochs=2, batch_size=16, lr=0.01, ramp=1.0, eps_draw="uniform", eps_per="image")
    train(make_model(), data, make_training(recipe=recipe), Spy(1, 1.0), "free")
    radii = torch.stack(seen)  # (8, 16)
    assert len(radii.unique()) == 8 * 16
    grown = 0.1 * torch.arange(1, 9) / 8  # the ramp goes on under the draws
    assert bool((radii <= grown[:, None]).all())
    assert bool((radii.amax(dim=1) > 0.6 * grown).all())


def test_free_training_moves_delta_by_the_gradient_of_before_the_weight_step(tmp_path: Path) -> None:
    data = make_data(16)
    recipe = Recipe(epochs=1, batch_size=16, lr=50.0, schedule="constant", momentum=0.0, weight_decay=0.0)
    training = make_training(recipe=recipe, directory=tmp_path)
    untrained = make_model()
    trained = train(make_model(), data, training, _Replayed(1, 1.0), "free")
    about = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["about"]
    found = load(tmp_path / "checkpoint.pt", about, "cpu")
    assert found is not None
    ((x, y),) = Batches(data.train, recipe, torch.device("cpu"), seed=0).epoch(0)

    def step(model: nn.Module) -> torch.Tensor:
        point = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(point), y), point)
        return (x + 0.1 * gradient.sign()).clamp(0, 1) - x

    assert torch.allclose(found.memory["delta"], step(untrained), atol=1e-6)
    assert not torch.allclose(found.memory["delta"], step(trained), atol=1e-2)  # what the wrong order would give


def test_free_training_keeps_delta_between_batches_inside_ball_and_box() -> None:
    method = _Replayed(1, 1.0)
    memory: dict[str, torch.Tensor] = {}
    model = make_model()
    first, second = torch.rand(8, 1, 6, 6), torch.rand(8, 1, 6, 6)
    y = torch.zeros(8, dtype=torch.int64)
    examples = method.examples(model, first, y, LINF, memory)
    method.loss(model, examples, first, y).backward()
    method.observe(examples, first, LINF, memory)
    assert memory["delta"].abs().max() > 0.05
    carried = method.examples(model, second, y, LINF, memory)
    assert torch.allclose(carried, (second + memory["delta"]).clamp(0, 1))
    assert not torch.equal(carried, second)
    # what the box cut off is cut off delta as well
    assert float((first + memory["delta"]).min()) >= -1e-6
    assert float((first + memory["delta"]).max()) <= 1 + 1e-6


@pytest.mark.parametrize("start", ["clean", "uniform", "sign", "normal"])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_inner_attack_stays_in_the_ball_and_leaves_model_and_gradients_alone(start: str, norm: str) -> None:
    threat = Threat(norm, {"linf": 0.1, "l2": 0.5, "l1": 2.0}[norm])  # type: ignore[arg-type]
    model = make_model(normalise=True).train()
    before = weights(model)
    x, y = torch.rand(8, 1, 6, 6), torch.arange(8) % 3
    inner = Perturbation(start=start, steps=3, step_size=0.5)  # type: ignore[arg-type]
    x_adv = inner(model, x, y, threat)
    from robustkit.norms import distance

    assert float(distance(x_adv, x, threat.norm).max()) <= threat.allowance
    assert float(x_adv.min()) >= 0
    assert float(x_adv.max()) <= 1
    assert F.cross_entropy(model.eval()(x_adv), y) > F.cross_entropy(model(x), y)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(weights(model), before), "running statistics of BatchNorm moved"


def test_inputs_stay_float32_when_the_layers_run_in_bf16(data: Data) -> None:
    seen: list[tuple[torch.dtype, torch.dtype]] = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = make_model()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.inner(x)
            seen.append((x.dtype, logits.dtype))
            return logits

    recipe = Recipe(epochs=1, batch_size=16)
    train(Spy(), data, make_training(recipe=recipe, precision="bf16"), OnExamples(), "x")
    assert {kind for kind, _ in seen} == {torch.float32}
    assert torch.bfloat16 in {kind for _, kind in seen}


def test_the_share_of_clean_loss_mixes_both_losses_in_one_pass() -> None:
    model = make_model()
    x, y = torch.rand(4, 1, 6, 6), torch.tensor([0, 1, 2, 0])
    x_adv = (x + 0.1).clamp(0, 1)
    mixed = OnExamples(perturbation=None, clean_share=0.25).loss(model, x_adv, x, y)
    expected = 0.75 * F.cross_entropy(model(x_adv), y) + 0.25 * F.cross_entropy(model(x), y)
    assert float(mixed.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_the_moving_average_replaces_the_weights_at_the_end(data: Data) -> None:
    recipe = Recipe(epochs=2, batch_size=16, lr=0.1, schedule="constant", weight_decay=0.0, ema=0.5)
    averaged = train(make_model(), data, make_training(recipe=recipe), OnExamples(), "x")
    last = train(make_model(), data, make_training(recipe=dataclasses.replace(recipe, ema=0.0)), OnExamples(), "x")
    start = weights(make_model())
    assert not torch.equal(weights(averaged), weights(last))
    assert (weights(averaged) - start).norm() < (weights(last) - start).norm()


def test_an_interrupted_training_ends_in_the_same_weights(data: Data, tmp_path: Path) -> None:
    method = _Replayed(2, 1.0)
    whole = train(make_model(), data, make_training(), method, "free")

    def stop(progress: TrainingProgress) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    training = make_training(directory=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(make_model(), data, dataclasses.replace(training, report=stop), method, "free")
    assert torch.equal(weights(train(make_model(), data, training, method, "free")), weights(whole))
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents*"))


def test_a_checkpoint_of_another_training_is_refused(data: Data, tmp_path: Path) -> None:
    train(make_model(), data, make_training(directory=tmp_path), OnExamples(), "one")
    with pytest.raises(UsageError, match="another training"):
        train(make_model(), data, make_training(directory=tmp_path), OnExamples(), "two")
    (tmp_path / "checkpoint.pt").write_bytes(b"torn")
    with pytest.raises(UsageError, match="cannot be read"):
        train(make_model(), data, make_training(directory=tmp_path), OnExamples(), "one")


def test_a_killed_training_ends_in_the_same_weights(tmp_path: Path) -> None:
    """SIGKILL at random moments, then the same call again, in real processes."""
    script = textwrap.dedent(
        f"""
        import importlib.util, os, random, signal, sys, time
        from pathlib import Path
        import torch
        torch.set_num_threads(1)
        spec = importlib.util.spec_from_file_location("made", {str(Path(__file__).parent / "conftest.py")!r})
        made = importlib.util.module_from_spec(spec); spec.loader.exec_module(made)
        from robustkit.contracts import Recipe
        from robustkit.defenses.free_at import FreeAT
        recipe = Recipe(epochs=120, batch_size=16, lr=0.1, schedule="onecycle", ema=0.99, augment="shift")
        root = Path(sys.argv[1])

        def work(name, recipe=recipe):
            training = made.make_training(recipe=recipe, directory=root / name)
            model = FreeAT(replays=2)(made.make_model(), made.make_data(), training)
            torch.save(model.state_dict(), root / f"{{name}}.pt")

        def begin(name):
            pid = os.fork()
            if pid == 0:
                work(name)
                os._exit(0)
            return pid

        work("warm", Recipe(epochs=1, batch_size=16))  # imports everything, so that a fork begins at once
        began = time.monotonic()
        os.waitpid(begin("whole"), 0)
        usual = time.monotonic() - began
        generator = random.Random(0)
        epochs = []
        for _ in range(5):
            pid = begin("killed")
            time.sleep(generator.uniform(0.1, 0.4) * usual)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            if (root / "killed" / "checkpoint.pt").exists():
                epochs.append(torch.load(root / "killed" / "checkpoint.pt", weights_only=True)["epoch"])
        os.waitpid(begin("killed"), 0)
        print(epochs)
        """
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], check=True, env=environment, capture_output=True, text=True
    )
    epochs = ast.literal_eval(done.stdout)
    assert any(0 < epoch < 60 for epoch in epochs), f"no kill struck in the middle, but at {epochs}; nothing shown"
    first = torch.load(tmp_path / "whole.pt", weights_only=True)
    second = torch.load(tmp_path / "killed.pt", weights_only=True)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not list((tmp_path / "killed").glob("*.part"))


def test_training_data_is_read_by_index_where_it_is_not_in_memory(data: Data) -> None:
    class Streamed:
        def __init__(self) -> None:
            self.read = 0

        def __len__(self) -> int:
            return len(data.train)

        @property
        def labels(self) -> torch.Tensor:
            return data.train.labels

        def batch(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            self.read = max(self.read, len(index))
            return data.train.batch(index)

    streamed = Streamed()
    training: Training = make_training()
    one = train(make_model(), dataclasses.replace(data, train=streamed), training, OnExamples(), "x")
    two = train(make_model(), data, training, OnExamples(), "x")
    assert torch.equal(weights(one), weights(two))
    assert streamed.read <= 64
