"""Surrogates of transfer attacks: trained once, on the training part, kept by content; wrong wishes told at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import robustkit
from robustkit.host import Host
from robustkit.params import UsageError
from robustkit.pipeline.events import TrainingStep
from robustkit.pipeline.plan import make_plan
from robustkit.pipeline.spec import BenchSpec
from robustkit.pipeline.store import ModelCache
from tests.pipeline.conftest import Ran

Spec = Callable[..., BenchSpec]
Bench = Callable[..., Ran]


def trainings(ran: Ran) -> list[tuple[str, int]]:
    """Label and seed of every model that was trained, once for each of its trainings."""
    steps = [event for event in ran.events if isinstance(event, TrainingStep) and event.progress.step == 1]
    return [(event.subject.label, event.subject.seed) for event in steps]


def test_it_is_trained_once_and_kept(spec: Spec, bench: Bench, host: Host) -> None:
    wanted = spec(attacks=("transfer", "transfer:attack=fgsm", "fgsm"), eps=(0.05, 0.1))
    ran = bench(wanted)
    assert sorted(trainings(ran)) == [("fgsm_at", 0), ("standard", 0), ("standard", 1000)]
    assert {record["status"] for record in ran.records} == {"ok"}
    for subject in ("standard", "fgsm_at"):
        assert ran.record(subject, "transfer", 0.1)["metrics"]["attacked"] > 100
        assert ran.record(subject, "transfer", 0.1)["metrics"]["forwards"] == 0
    assert bench(wanted, folder="other").events  # measured anew, from the cache
    again = bench(wanted, folder="third")
    assert not trainings(again)
    # the same weights as those of a model that is trained with that seed, on the training part as every model
    (cell,) = [c for c in ran.plan.cells if c.attack and c.label == "transfer" and c.subject.label == "fgsm_at"][:1]
    assert cell.surrogate is not None
    plan = make_plan(spec(seeds=(1000,), defenses=()), host)
    assert plan.subjects[0].key == cell.surrogate.key
    assert ModelCache().provenance(cell.surrogate.key) is not None


def test_what_it_is_trained_with_is_part_of_the_key(spec: Spec, bench: Bench, tmp_path: Path, host: Host) -> None:
    bench(spec(attacks=("fgsm",), defenses=()))
    weights = tmp_path / "run" / "models" / "standard-seed0.safetensors"
    given = {"checkpoint": str(weights), "defenses": (), "attacks": ("transfer",)}
    keys = {
        make_plan(spec(**given, **more), host).cells[-1].key
        for more in ({}, {"recipe": {"epochs": 3}}, {"train_eps": 0.05})
    }
    assert len(keys) == 2  # the baseline does not depend on the radius
    given["attacks"] = ("transfer:surrogate=fgsm_at",)
    assert len({make_plan(spec(**given, **m), host).cells[-1].key for m in ({}, {"train_eps": 0.05})}) == 2


def test_weights_of_one_s_own(spec: Spec, bench: Bench, tmp_path: Path) -> None:
    bench(spec(attacks=("fgsm",), defenses=(), model="mlp"), folder="first")
    weights = tmp_path / "first" / "models" / "standard-seed0.safetensors"
    attack = f"transfer:surrogate={weights}"
    ran = bench(spec(attacks=(attack,), defenses=()), folder="second")  # on another architecture
    record = ran.record("standard", attack)
    assert record["status"] == "ok", record["error"]
    assert trainings(ran) == [("standard", 0)]
    columns = ran.store.samples(record["key"])
    assert columns["dist_linf"][columns["attacked"]].min() == pytest.approx(0.1, rel=1e-4)
    weights.with_suffix(".json").unlink()  # nothing says any more that they are of an mlp
    failed = bench(spec(attacks=(attack,), defenses=()), folder="third").record("standard", attack)
    assert failed["status"] == "error"
    assert "does not fit the model" in failed["error"]


def test_a_surrogate_that_cannot_be_trained_is_an_error_of_its_cells(spec: Spec, bench: Bench) -> None:
    ran = bench(spec(attacks=("transfer:surrogate=tiny.untrainable", "fgsm"), defenses=()))
    record = ran.record("standard", "transfer:surrogate=tiny.untrainable")
    assert record["status"] == "error"
    assert "the surrogate tiny.untrainable could not be trained: no gradient here" in record["error"]
    assert ran.record("standard", "fgsm")["status"] == "ok"


@pytest.mark.parametrize(
    ("attack", "more", "message"),
    [
        ("transfer:surrogate=standrad", {}, "no defense is called 'standrad'; did you mean standard"),
        ("transfer:surrogate=quantise", {}, "surrogate=quantise wraps a model and trains none"),
        ("transfer:surrogate=gone.safetensors", {}, "gone.safetensors: there is no such file"),
        ("transfer:seed=0", {}, "surrogate=standard is standard itself, which is attacked; give another seed"),
        ("transfer:attack=cw", {}, "attack='cw' is not one of pgd, mifgsm, fgsm"),
    ],
)
def test_wrong_wishes_are_told_before_anything_runs(
    spec: Spec, bench: Bench, attack: str, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        bench(spec(attacks=(attack,), **more))


def test_a_model_that_is_held_has_no_data_to_train_on() -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    with pytest.raises(UsageError, match="there are no training images for surrogate=standard; name a file"):
        robustkit.evaluate(model, (torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])), "transfer", ("linf", 0.1))
