from __future__ import annotations

import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import robustkit
from robustkit import UsageError
from robustkit.api import load_model
from robustkit.hookspecs import AttackEntry, hookimpl
from robustkit.host import Host
from robustkit.models.weights import weights_hash
from robustkit.pipeline.events import CellDone

HOST = Host(discover=False)


def _tiny(path: Path) -> str:
    rng = np.random.default_rng(4)
    patterns = rng.integers(60, 196, (3, 6, 6))
    y = np.arange(500) % 3
    x = np.clip(patterns[y] + rng.normal(0, 40, (500, 6, 6)), 0, 255).astype(np.uint8)
    np.savez(path, x_train=x[:300], y_train=y[:300], x_test=x[300:], y_test=y[300:])
    return f"npz:{path}"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _tiny(tmp_path_factory.mktemp("data") / "tiny.npz")


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 3))


def _samples(count: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 1, 6, 6, generator=generator), torch.arange(count) % 3


def test_a_bench_in_one_call(tiny: str, tmp_path: Path) -> None:
    settings = {"dataset": tiny, "model": "linear", "eps": 0.1, "epochs": 2, "precision": "fp32"}
    result = robustkit.bench(
        "fgsm_at", ["fgsm", {"name": "pgd", "steps": 3}], directory=tmp_path / "run", host=HOST, **settings
    )
    assert result.ok
    assert list(result.table["defense"]) == ["standard", "fgsm_at"]
    assert result.attack_columns == ["fgsm", "pgd:steps=3", "worst case"]
    assert (result.table["pgd:steps=3"] <= result.table["clean"]).all()
    assert len(result.tidy) == len(result.records) == 6
    text = str(result)
    assert text.startswith("| defense ")
    assert "upper bound on robustness" in text

    events: list[object] = []
    again = robustkit.bench(
        "fgsm_at",
        "fgsm,pgd:steps=3",
        directory=tmp_path / "run",
        host=HOST,
        listen=events.append,
        **settings,
    )
    assert all(isinstance(event, CellDone) and event.reused for event in events)
    assert again.table.equals(result.table)
    loaded = robustkit.load(tmp_path / "run")
    assert loaded.records == result.records
    assert loaded.table.equals(result.table)
    model = loaded.model("fgsm_at")
    assert weights_hash(model) == result.records[3]["subject"]["weights"]
    assert not model.training
    with pytest.raises(UsageError, match=r"'pgd_at-seed0'.*fgsm_at-seed0"):
        loaded.model("pgd_at")


def test_without_a_directory_the_same_call_has_the_same_one(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {"dataset": tiny, "model": "linear", "eps": 0.1, "epochs": 1, "limit": 20}
    one = robustkit.bench([], ["fgsm"], host=HOST, **settings).directory
    two = robustkit.bench([], ["fgsm"], host=HOST, **settings).directory
    other = robustkit.bench([], ["bim"], host=HOST, **settings).directory
    assert one == two != other
    assert one is not None
    assert one.parent == Path("runs")
    assert one.name.startswith("tiny.npz-linear-")


def test_load_says_where_runs_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="runs/"):
        robustkit.load(tmp_path)
    (tmp_path / "w.safetensors").touch()
    with pytest.raises(UsageError, match="--checkpoint"):
        load_model(tmp_path / "w.safetensors")


def test_a_model_of_your_own_in_three_lines() -> None:
    model, (x, y) = _net().eval(), _samples()
    result = robustkit.evaluate(model, (x, y), "fgsm,pgd:steps=3", ("linf", 0.2), host=HOST, precision="fp32")
    assert result.directory is None
    row = result.table.iloc[0]
    with torch.no_grad():
        assert row["clean"] == pytest.approx((model(x).argmax(1) == y).float().mean().item())
    assert row["worst case"] <= min(row["fgsm"], row["pgd:steps=3"]) <= row["clean"]
    assert row["defense"] == "Sequential"
    assert len(result.samples[result.records[1]["key"]]["index"]) == 50


def test_numpy_arrays_and_grey_levels_are_data_too() -> None:
    model, (x, y) = _net().eval(), _samples()
    grey = (x * 255).round().to(torch.uint8)
    one = robustkit.evaluate(model, (grey, y), "fgsm", ("linf", 0.1), host=HOST, precision="fp32")
    arrays = ((grey.float() / 255).numpy(), y.numpy().astype(np.int32))
    other = robustkit.evaluate(model, arrays, "fgsm", ("linf", 0.1), host=HOST, precision="fp32")
    assert one.table["fgsm"].equals(other.table["fgsm"])


def test_the_callers_model_and_random_state_come_back_as_they_were() -> None:
    model, data = _net(), _samples()
    model.train()
    model[1].eval()  # a frozen BatchNorm in a training model
    model[0].weight.requires_grad_(False)
    model[4].weight.grad = torch.ones_like(model[4].weight)
    before, flags = weights_hash(model), [module.training for module in model.modules()]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with torch.no_grad():
        robustkit.evaluate(model, data, "fgsm,pgd:steps=2", ("l2", 0.5), host=HOST)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.rand(3), expected)
    assert weights_hash(model) == before
    assert [module.training for module in model.modules()] == flags
    assert not model[0].weight.requires_grad
    assert model[4].weight.requires_grad
    assert torch.equal(model[4].weight.grad, torch.ones_like(model[4].weight))
    assert model[4].bias.grad is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": lambda x: x * 255}, "uint8, or divide by 255"),
        ({"x": lambda x: (x - 0.5) / 0.25}, "normalised"),
        ({"x": lambda x: x[:, 0]}, r"\(N, C, H, W\)"),
        ({"x": lambda x: x[:0], "y": lambda y: y[:0]}, "no samples"),
        ({"x": lambda x: x[:, :, :4]}, "cannot take images"),
        ({"y": lambda y: y[:-1]}, "labels"),
        ({"y": lambda y: y + 1}, "from 1 to 3; the model's 3 logits"),
        ({"y": lambda y: nn.functional.one_hot(y)}, "class numbers"),
        ({"y": lambda y: y.float()}, "class numbers"),
        ({"threat": ("linf", 8)}, "8/255"),
        ({"threat": ("l3", 0.1)}, "l3"),
        ({"threat": "linf"}, "threat='linf'"),
        ({"attacks": "pdg"}, "'pdg'"),
        ({"attacks": "pgd:steps=0"}, "steps"),
        ({"model": lambda model: model.double()}, r"model\.float\(\)"),
    ],
)
def test_mistakes_are_named_with_their_remedy(change: dict[str, object], words: str) -> None:
    given = {"model": _net().eval(), "attacks": "fgsm", "threat": ("linf", 0.1)}
    x, y = _samples()
    data = {"x": x, "y": y}
    for name, value in change.items():
        target = data if name in data else given
        target[name] = value(target[name]) if callable(value) else value
    with pytest.raises(UsageError, match=words):
        robustkit.evaluate(
            given["model"], (data["x"], data["y"]), given["attacks"], given["threat"], host=HOST, precision="fp32"
        )


@dataclass(frozen=True, kw_only=True)
class Failing:
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: robustkit.Threat) -> Tensor:
        raise ZeroDivisionError("at once")


def test_a_failing_attack_is_an_error_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    @hookimpl
    def robustkit_attacks() -> list[AttackEntry]:
        norms: frozenset[Any] = frozenset({"linf"})
        return [AttackEntry(name="failing", target="failing_plugin:Failing", summary="test", norms=norms)]

    module = types.ModuleType("failing_plugin")
    vars(module).update(robustkit_attacks=robustkit_attacks, Failing=Failing)
    monkeypatch.setitem(sys.modules, "failing_plugin", module)
    host = Host(plugins={"bad": module}, discover=False)
    result = robustkit.evaluate(_net().eval(), _samples(), "failing,fgsm", ("linf", 0.1), host=host, precision="fp32")
    assert not result.ok
    assert np.isnan(result.table.loc[0, "bad.failing"])
    assert result.table.loc[0, "status"] == "1 of 3 failed"
    assert "error in Sequential / bad.failing: ZeroDivisionError: at once" in str(result)


def test_training_gives_a_module_and_is_done_once(tiny: str) -> None:
    settings = {"dataset": tiny, "model": "linear", "eps": 0.1, "epochs": 2, "host": HOST}
    steps: list[object] = []
    model = robustkit.train("fgsm_at", listen=steps.append, **settings)
    assert steps
    assert not model.training
    steps.clear()
    again = robustkit.train({"name": "fgsm_at"}, listen=steps.append, **settings)
    assert steps == []
    assert weights_hash(again) == weights_hash(model)
    other = robustkit.train("fgsm_at", seed=1, **settings)
    assert weights_hash(other) != weights_hash(model)


def test_a_trained_model_is_kept_where_asked(tiny: str, tmp_path: Path) -> None:
    model = robustkit.train("standard", directory=tmp_path, dataset=tiny, model="linear", epochs=1, host=HOST)
    kept = load_model(tmp_path / "models" / "standard-seed0.safetensors", host=HOST)
    x, _ = _samples()
    with torch.no_grad():
        assert torch.equal(kept(x), model(x))
    assert list((tmp_path / "tensorboard").rglob("events.out.tfevents.*"))


def test_the_package_is_light_until_it_is_used() -> None:
    code = "import robustkit, sys; print(sorted({'torch', 'pandas', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_model_of_your_own_on_a_budget() -> None:
    model, data = _net().eval(), _samples()
    full = robustkit.evaluate(model, data, "fgsm,bim:steps=3", ("linf", 0.1), host=HOST, precision="fp32")
    mine = robustkit.evaluate(model, data, "fgsm,bim:steps=3", ("linf", 0.1), host=HOST, precision="fp32", budget="1m")
    assert mine.table["worst case"].tolist() == full.table["worst case"].tolist()
    assert mine.environment["budget"]["seconds"] == 60
    assert "More time would buy nothing" in str(mine)
    none = robustkit.evaluate(model, data, [], ("linf", 0.1), host=HOST, precision="fp32", budget=1e-6)
    assert none.attack_columns == []
    assert "No attack fitted into this budget." in str(none)
    assert "Not tried yet, and not in this estimate: fgsm, pgd:steps=10" in str(none)
