from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustkit.curves import query_curve
from robustkit.params import UsageError
from robustkit.pipeline.events import BlockDone, CellDone, CellStarted, SubjectReady, TrainingStep
from robustkit.pipeline.spec import BenchSpec
from robustkit.pipeline.store import ModelCache
from tests.pipeline.conftest import CALLS, Ran

Spec = Callable[..., BenchSpec]
Bench = Callable[..., Ran]
TIMES = ("seconds", "started")


def _without_times(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = [{key: value for key, value in record.items() if key not in TIMES} for record in records]
    for record in kept:
        record["subject"] = {k: v for k, v in record["subject"].items() if k != "training_seconds"}
    return kept


def _same_samples(one: Ran, other: Ran) -> bool:
    for record in one.records:
        mine, theirs = one.store.samples(record["key"]), other.store.samples(record["key"])
        assert set(mine) == set(theirs)
        if not all(np.array_equal(mine[name], theirs[name]) for name in mine):
            return False
    return True


def test_a_bench_fills_its_directory(spec: Spec, bench: Bench) -> None:
    ran = bench(spec())
    assert [record["status"] for record in ran.records] == ["ok"] * 6
    assert [record["key"] for record in ran.records] == [cell.key for cell in ran.plan.cells]
    folder = ran.store.directory
    assert {path.name for path in folder.iterdir()} >= {
        "spec.toml",
        "records.jsonl",
        "samples",
        "models",
        "environment.json",
    }
    lines = (folder / "records.jsonl").read_text().splitlines()
    assert len(lines) == 6
    assert {json.loads(line)["schema"] for line in lines} == {1}
    assert {path.name for path in (folder / "models").iterdir()} == {
        f"{name}-seed0.{suffix}"
        for name in ("standard", "fgsm_at")
        for suffix in ("safetensors", "json", "training.csv")
    }
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["versions"]["torch"]
    assert environment["threads"] >= 1
    assert BenchSpec.from_toml(folder / "spec.toml") == ran.plan.spec
    assert not list(folder.rglob("*.part"))
    assert not list((folder / "blocks").glob("*"))


def test_numbers_follow_from_the_samples(spec: Spec, bench: Bench) -> None:
    ran = bench(spec())
    record = ran.record("standard", "pgd:steps=5")
    columns = ran.store.samples(record["key"])
    assert columns["index"].tolist() == list(range(450))
    assert columns["label"].tolist() == [i % 3 for i in range(450)]
    right = columns["clean_pred"] == columns["label"]
    fell = columns["success"]
    metrics = record["metrics"]
    assert metrics["clean_right"] == right.sum() == ran.record("standard", "clean")["metrics"]["clean_right"]
    assert metrics["robust_right"] == (right & ~fell).sum()
    assert metrics["success_rate"] == pytest.approx(fell.sum() / right.sum())
    assert np.array_equal(columns["attacked"], right)
    assert np.array_equal(fell, columns["attacked"] & (columns["adv_pred"] != columns["label"]))
    assert columns["dist_linf"].max() <= 0.1 * (1 + 1e-5) + 1e-6
    assert not columns["dist_linf"][~right].any()
    # an untargeted search of 5 steps, in float32: at most 5 backward passes a sample
    assert 1 <= metrics["backwards"] <= 5
    assert metrics["backwards"] == pytest.approx(columns["backwards"].sum() / right.sum())
    assert metrics["robust_right"] < metrics["clean_right"]


def test_black_boxes_tell_the_queries_of_each_sample(spec: Spec, bench: Bench) -> None:
    attacks = ("square:queries=60", "nes:queries=60:directions=4", "hopskipjump:queries=120:directions=10", "fgsm")
    ran = bench(spec(attacks=attacks, defenses=(), limit=240))
    for label in attacks:
        record = ran.record("standard", label)
        columns = ran.store.samples(record["key"])
        if label == "fgsm":
            assert "queries" not in columns
            continue
        queries, fell, attacked = (columns[name] for name in ("queries", "success", "attacked"))
        most = record["component"]["params"]["queries"]
        assert fell.any()
        assert (queries[fell] >= 1).all()
        assert queries[fell].min() < most
        assert (queries[attacked] <= most).all()
        assert (queries[attacked & ~fell] > 0.6 * most).all()
        assert not queries[~attacked].any()
        assert record["metrics"]["median_queries"] == np.median(queries[fell])
        if label.startswith(("square", "nes")):  # all passes of the search are queries, and none is lost
            assert queries.sum() == pytest.approx(columns["forwards"].sum(), rel=1e-5)
    curve = query_curve(ran.records, ran.store.samples)
    for label in attacks[:3]:
        mine = curve[curve["attack"] == label]["robust"]
        record = ran.record("standard", label)
        assert mine.is_monotonic_decreasing
        assert mine.iloc[0] == record["metrics"]["clean_accuracy"]
        assert mine.iloc[-1] == record["metrics"]["robust_accuracy"]


def test_a_second_run_measures_and_trains_nothing(spec: Spec, bench: Bench) -> None:
    wanted = spec(attacks=("fgsm", "tiny.draws"))
    first = bench(wanted)
    CALLS.clear()
    second = bench(wanted)
    assert CALLS == []
    assert second.records == first.records
    assert all(isinstance(event, CellDone) and event.reused for event in second.events)
    assert len((first.store.directory / "records.jsonl").read_text().splitlines()) == 6


def test_progress_is_told_in_order(spec: Spec, bench: Bench) -> None:
    events = bench(spec(defenses=())).events
    kinds = [type(event) for event in events]
    training = [event for event in events if isinstance(event, TrainingStep)]
    assert kinds[: len(training)] == [TrainingStep] * len(training)
    assert training[-1].progress.epoch == training[-1].progress.epochs == 2
    rest = kinds[len(training) :]
    assert rest == [SubjectReady] + 3 * [CellStarted, BlockDone, BlockDone, BlockDone, CellDone]


def test_models_are_trained_once_for_all_runs(spec: Spec, bench: Bench) -> None:
    bench(spec(), "one")
    events = bench(spec(eps=(0.1,), attacks=("bim",)), "two").events
    assert [event.cached for event in events if isinstance(event, SubjectReady)] == [True, True]
    assert not any(isinstance(event, TrainingStep) for event in events)


def test_a_collapse_in_training_is_told_even_years_later(
    spec: Spec, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from robustkit.report.footer import footer
    from robustkit.training import keep

    monkeypatch.setattr(keep, "_FALL", -1.0)  # anything short of perfect is a collapse
    recipe = {"epochs": 5, "schedule": "constant", "lr": 0.01}
    easy = {"recipe": recipe, "eps": (0.01,)}
    with pytest.warns(RuntimeWarning, match="catastrophic overfitting in epoch"):
        first = bench(spec(**easy), "one")
    second = bench(spec(**easy, attacks=("bim",)), "two")  # from the cache
    epochs = first.record("fgsm_at", "clean")["subject"]["collapsed"]
    assert set(epochs) < {2, 3, 4, 5}
    line = f"fgsm_at (seed 0): catastrophic overfitting in training, epoch {', '.join(map(str, epochs))}"
    for ran in (first, second):
        assert ran.record("fgsm_at", "clean")["subject"]["collapsed"] == epochs
        assert ran.record("standard", "clean")["subject"]["collapsed"] == []
        assert line in footer(ran.records, {})


def test_a_run_directory_needs_no_cache(spec: Spec, bench: Bench) -> None:
    first = bench(spec())
    shutil.rmtree(ModelCache().directory)
    second = bench(spec(attacks=("fgsm", "pgd:steps=5", "bim")))
    assert not any(isinstance(event, TrainingStep) for event in second.events)
    assert second.record("fgsm_at", "fgsm") == first.record("fgsm_at", "fgsm")


def test_records_of_other_weights_are_measured_again(spec: Spec, bench: Bench) -> None:
    first = bench(spec())
    shutil.rmtree(ModelCache().directory)
    shutil.rmtree(first.store.directory / "models")
    records = first.store.directory / "records.jsonl"
    weights = first.record("standard", "clean")["subject"]["weights"]
    records.write_text(records.read_text().replace(weights, "0" * 64))  # as if trained elsewhere
    second = bench(spec(attacks=("fgsm", "pgd:steps=5", "bim")))
    reused = {event.cell.key: event.reused for event in second.events if isinstance(event, CellDone)}
    assert not reused[second.record("standard", "fgsm")["key"]]
    assert reused[second.record("fgsm_at", "fgsm")["key"]]
    assert second.record("standard", "fgsm")["subject"]["weights"] == weights


def test_a_crash_is_a_record_and_the_others_go_on(spec: Spec, bench: Bench) -> None:
    ran = bench(spec(attacks=("tiny.broken", "tiny.quits", "fgsm"), defenses=("untrainable", "fgsm_at")))
    broken = ran.record("standard", "tiny.broken")
    assert broken["status"] == "error"
    assert broken["error"] == "RuntimeError: boom"
    assert broken["metrics"] == {}
    assert any("raise RuntimeError(self.message)" in line for line in broken["traceback"])
    assert ran.record("fgsm_at", "tiny.quits")["status"] == "error"
    assert "no licence" in ran.record("fgsm_at", "tiny.quits")["error"]
    assert ran.record("fgsm_at", "fgsm")["status"] == "ok"
    for label in ("clean", "fgsm"):
        record = ran.record("tiny.untrainable", label)
        assert (record["status"], record["error"]) == ("error", "ZeroDivisionError: no gradient here")


def test_failed_cells_are_tried_again(spec: Spec, bench: Bench) -> None:
    bench(spec(defenses=(), attacks=("tiny.broken", "fgsm")))
    CALLS.clear()
    second = bench(spec(defenses=(), attacks=("tiny.broken", "fgsm")))
    assert CALLS == ["broken"]
    reused = [event.reused for event in second.events if isinstance(event, CellDone)]
    assert sorted(reused) == [False, True, True]


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("at", [1, 2, 4, 7])
def test_an_interrupted_run_goes_on_where_it_stopped(spec: Spec, bench: Bench, at: int) -> None:
    wanted = spec(defenses=(), attacks=("tiny.draws", "pgd:steps=3"))
    whole = bench(wanted, "whole")
    CALLS.clear()
    blocks = 0

    def stop(event: Any) -> None:
        nonlocal blocks
        if isinstance(event, BlockDone):
            blocks += 1
            if blocks == at:
                raise Interrupted

    with pytest.raises(Interrupted):
        bench(wanted, "torn", listen=stop)
    again = bench(wanted, "torn")
    assert _without_times(again.records) == _without_times(whole.records)
    assert _same_samples(again, whole)
    # three blocks of noise in all: none was drawn twice
    assert CALLS == ["draws"] * 3


@pytest.mark.parametrize("size", [1, 17, 64, 1000])
def test_memory_does_not_change_the_numbers(spec: Spec, bench: Bench, size: int) -> None:
    wanted = spec(defenses=(), attacks=("tiny.draws", "pgd:steps=3"), limit=230)
    whole = bench(wanted, "whole")
    chunked = bench(spec(**{**vars(wanted), "batch_size": size}), "chunked")
    for one, other in zip(whole.records, chunked.records, strict=True):
        mine, theirs = one["metrics"], other["metrics"]
        assert mine.get("robust_right", mine["clean_right"]) == theirs.get("robust_right", theirs["clean_right"])


def test_fewer_samples_are_a_part_of_the_full_run(spec: Spec, bench: Bench) -> None:
    wanted = {"defenses": (), "attacks": ("tiny.draws",)}
    full, part = bench(spec(**wanted), "full"), bench(spec(**wanted, limit=250), "part")
    mine = part.store.samples(part.record("standard", "tiny.draws")["key"])
    theirs = full.store.samples(full.record("standard", "tiny.draws")["key"])
    for name in ("adv_pred", "dist_linf"):
        # the second block is cut off, so its draws have another shape; the first is whole in both
        assert np.array_equal(mine[name][:200], theirs[name][:200])
    assert len(mine["index"]) == 250


def test_seeds_are_models_of_their_own(spec: Spec, bench: Bench) -> None:
    ran = bench(spec(seeds=(0, 1), attacks=("tiny.draws",)))
    weights = {record["subject"]["weights"] for record in ran.records}
    assert len(weights) == 4
    draws = [ran.store.samples(r["key"])["dist_linf"] for r in ran.records if r["kind"] == "attack"]
    assert not np.array_equal(draws[0], draws[2])


def test_a_wrapper_is_judged_around_the_baseline(spec: Spec, bench: Bench) -> None:
    ran = bench(spec(defenses=("greyer",), attacks=("fgsm",)))
    wrapped, bare = ran.record("tiny.greyer", "clean"), ran.record("standard", "clean")
    assert wrapped["subject"]["weights"] == bare["subject"]["weights"]
    assert ran.record("tiny.greyer", "fgsm")["status"] == "ok"
    assert CALLS == ["greyer"]


def test_a_minimal_attack_tells_every_radius_at_once(spec: Spec, bench: Bench) -> None:
    ran = bench(spec(defenses=(), attacks=("tiny.nearest",), eps=(0.02, 0.05, 0.4)))
    assert CALLS == ["nearest"] * 3
    record = ran.record("standard", "tiny.nearest")
    assert record["threat"] == {"norm": "linf", "eps": 0.4, "radii": [0.02, 0.05, 0.4]}
    assert record["component"]["goal"] == "minimal"
    assert 0 < record["metrics"]["median_distance"] < 0.4
    # other radii below the same largest one: the same measurement, scored anew
    again = bench(spec(defenses=(), attacks=("tiny.nearest",), eps=(0.1, 0.4)))
    assert CALLS == ["nearest"] * 3
    assert again.record("standard", "tiny.nearest")["threat"]["radii"] == [0.1, 0.4]


def test_a_cascade_attacks_what_still_stands(spec: Spec, bench: Bench) -> None:
    ran = bench(spec(defenses=(), attacks=("fgsm", "pgd:steps=5"), cascade=True))
    first = ran.store.samples(ran.record("standard", "fgsm")["key"])
    second = ran.store.samples(ran.record("standard", "pgd:steps=5")["key"])
    standing = first["attacked"] & ~first["success"]
    assert 0 < standing.sum() < first["attacked"].sum()
    assert np.array_equal(second["attacked"], standing)


def test_a_cascade_is_measured_again_when_an_attack_before_works_at_last(spec: Spec, bench: Bench) -> None:
    wanted = spec(defenses=(), attacks=("tiny.broken", "fgsm", "bim"), cascade=True)
    first = bench(wanted)
    assert first.record("standard", "bim")["after"] == [first.record("standard", "fgsm")["key"]]
    # as if fgsm had failed: what came after it no longer counts
    path = first.store.directory / "records.jsonl"
    failed = {**first.record("standard", "fgsm"), "status": "error", "metrics": {}}
    path.write_text(path.read_text() + json.dumps(failed) + "\n")
    second = bench(wanted)
    reused = {e.cell.label: e.reused for e in second.events if isinstance(e, CellDone)}
    assert reused == {"clean": True, "tiny.broken": False, "fgsm": False, "bim": False}
    assert _without_times(second.records)[2:] == _without_times(first.records)[2:]


def test_a_model_that_cannot_be_built_is_the_users_to_mend(spec: Spec, bench: Bench) -> None:
    with pytest.raises(UsageError, match="lenet5"):
        bench(spec(model="lenet5"))


def test_precision_is_settled_once_for_a_run(spec: Spec, bench: Bench) -> None:
    wanted = spec(defenses=(), attacks=("pgd:steps=3",), precision="auto")
    first = bench(wanted)
    path = first.store.directory / "environment.json"
    environment = json.loads(path.read_text())
    chosen = environment["search_precision"]["auto"]
    assert first.record("standard", "pgd:steps=3")["precision"] == chosen
    other = "fp32" if chosen == "bf16" else "bf16"
    path.write_text(json.dumps(environment | {"search_precision": {"auto": other}}))
    more = bench(spec(defenses=(), attacks=("pgd:steps=3", "bim"), precision="auto"))
    assert more.record("standard", "bim")["precision"] == other
    strict = bench(spec(defenses=(), attacks=("pgd:steps=3",), precision="fp32"))
    assert strict.record("standard", "pgd:steps=3")["precision"] == "fp32"


def test_a_pretrained_model_is_judged_as_it_is(
    spec: Spec, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mymodels.py").write_text(
        "import torch\nfrom torch import nn\n\ndef net():\n"
        "    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))\n"
        "    nn.init.constant_(model[1].weight, 0.1)\n    return model\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    ran = bench(spec(model="mymodels:net", pretrained=True, defenses=(), attacks=("fgsm",)))
    assert [s.label for s in ran.plan.subjects] == ["mymodels:net"]
    assert not any(isinstance(event, TrainingStep) for event in ran.events)
    # equal logits but for the bias: one class for all
    assert ran.record("mymodels:net", "clean")["metrics"]["clean_accuracy"] == pytest.approx(1 / 3, abs=0.01)
