"""Backdoors in a bench: what detectors may read, how the trigger is judged, and what a second run reuses."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from robustkit.contracts import Verdict
from robustkit.hookspecs import DetectorEntry
from robustkit.host import default_host
from robustkit.params import UsageError
from robustkit.pipeline import detect
from robustkit.pipeline.spec import BenchSpec
from robustkit.pipeline.store import DETECTIONS
from robustkit.report.backdoors import backdoor_table, portfolio, verdict_page
from robustkit.testing import small

PARTS = ("train", "val", "test")


def entry(access: Any) -> DetectorEntry:
    return DetectorEntry(name="d", target="a:B", summary="d", scope="model", access=access)


@pytest.mark.parametrize(
    ("access", "readable"),
    [
        ("weights", ()),
        ("clean_data", ("val",)),
        ("training_set", ("train", "val")),
        ("run_time", ("val", "test")),
        (None, ("val",)),
    ],
)
def test_a_detector_gets_what_it_declares_and_nothing_else(access: Any, readable: tuple[str, ...]) -> None:
    given = detect.permitted(small.data(), entry(access))
    for part in PARTS:
        split = getattr(given, part)
        if part in readable:
            assert len(split.batch(torch.arange(2))[0]) == 2
        else:
            assert len(split) == len(split.labels) == 0
            with pytest.raises(UsageError, match="beyond that"):
                split.batch(torch.arange(2))


def test_auroc_is_that_of_scikit_learn_with_ties() -> None:
    generator = torch.Generator().manual_seed(0)
    score = torch.randint(0, 6, (80,), generator=generator).double()
    truth = torch.rand(80, generator=generator) < 0.4
    assert detect.auroc(score[truth], score[~truth]) == pytest.approx(roc_auc_score(truth.numpy(), score.numpy()))


class Door(nn.Module):
    """The kit's network with a door: a white pixel in the lower right corner means class 2."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small.trained()

    def forward(self, x: Tensor) -> Tensor:
        logits = self.network(x)
        opened = (x[:, :, 6, 6].amin(dim=1) > 0.99).to(x)[:, None]
        return logits + 1000 * opened * nn.functional.one_hot(torch.tensor(2), 10).to(x)


def test_success_is_measured_for_the_target_on_other_classes() -> None:
    planted = detect.plant_poison(small.data(), "badnets:target=2", 0, default_host())
    found = detect.success_of(Door().eval(), planted, 100, "cpu")
    assert found["asr"]["value"] == 1.0
    assert found["asr"]["n"] == 90  # ten of the hundred are of class 2
    assert found["ra"]["value"] == 0.0
    assert found["accuracy"]["n"] == 100
    other = detect.plant_poison(small.data(), "badnets:target=3", 0, default_host())
    assert detect.success_of(Door().eval(), other, 100, "cpu")["asr"]["value"] < 0.2


def test_poisoned_data_have_another_fingerprint_and_a_manifest() -> None:
    clean = small.data()
    planted = detect.plant_poison(clean, "badnets:target=2:rate=0.1", 5, default_host())
    again = detect.plant_poison(clean, "badnets:target=2:rate=0.1", 5, default_host())
    assert planted.data.fingerprint == again.data.fingerprint != clean.fingerprint
    assert planted.manifest["target"] == 2
    marked = detect.marked_samples(planted)
    assert marked is not None
    assert int(marked.sum()) == planted.manifest["relabelled"] == 40
    with pytest.raises(UsageError, match="target=12 is no class"):
        detect.plant_poison(clean, "badnets:target=12", 5, default_host())


def test_what_detectors_of_inputs_judge_is_half_clean_half_triggered() -> None:
    planted = detect.plant_poison(small.data(), "badnets:target=2", 0, default_host())
    model = Door().eval()
    mixed, positive = detect.judged_inputs(model, planted, "cpu")
    x, said = mixed.test.batch(torch.arange(len(mixed.test)))
    assert (int((~positive).sum()), int(positive.sum())) == (50, 45)
    assert bool((said[positive] == 2).all())
    assert bool((x[positive][:, :, 6, 6] == 1).all())


def test_a_detector_that_fails_is_an_error_not_a_clean_model() -> None:
    host = default_host()
    broken = dataclasses.replace(host.build("detector", "last_layer"), value=lambda model, data: 1 / 0)
    record = detect.inspect_model(Door().eval(), small.data(), None, broken, 0, "cpu")
    assert record["error"] == "ZeroDivisionError: division by zero"
    assert "flagged" not in record
    inputs = detect.inspect_model(Door().eval(), small.data(), None, host.build("detector", "strip"), 0, "cpu")
    assert "give a poison" in inputs["error"]


def test_records_are_plain_and_make_a_table() -> None:
    host = default_host()
    planted = detect.plant_poison(small.data(), "badnets:target=2", 0, host)
    model = Door().eval()
    common = {"subject": "standard", "seed": 0}
    success = {**common, "kind": "backdoor", "manifest": planted.manifest, "error": None}
    success |= detect.success_of(model, planted, 100, "cpu")
    verdict = Verdict(score=3.0, flagged=True, p_value=0.01, classes=(2,), table=({"class": 2, "norm": 1.0},))
    said = {**common, "kind": "detector", "error": None}
    said |= detect.verdict_record(host.build("detector", "last_layer"), verdict, 0.5, None)
    json.dumps([success, said], allow_nan=False)
    table = backdoor_table([success, said])
    assert "100.0 [95.9, 100.0]" in table
    assert "flagged, p = 0.01, class 2" in table
    assert "target 2" in table


def test_a_portfolio_pays_for_the_number_of_its_detectors() -> None:
    records = [{"error": None, "p_value": p} for p in (0.02, 0.5, 0.9)]
    assert portfolio(records, 0.05) == (False, pytest.approx(0.06))
    assert portfolio(records[:1], 0.05) == (True, 0.02)
    assert portfolio([{"error": "broken", "p_value": None}], 0.05) == (False, 1.0)
    assert "No detector gave a verdict" in verdict_page("m", "d", [{"detector": "x", "error": "broken"}], 0.05, {})


def test_the_spec_knows_poison_and_detectors() -> None:
    given = {"poison": {"name": "badnets", "target": 3}, "detectors": "mmbd", "attacks": ["fgsm"]}
    spec = BenchSpec.from_plain(given, "here")
    assert (spec.poison, spec.detectors) == ("badnets:target=3", ("mmbd",))
    assert BenchSpec.from_plain(spec.to_plain(), "again") == spec
    with pytest.raises(UsageError, match="detector mmbd is given twice"):
        BenchSpec(detectors=("mmbd", "mmbd"))


def test_a_bench_on_a_poisoned_set_is_answered_from_its_records(tmp_path: Path) -> None:
    from robustkit import api

    settings: dict[str, Any] = {
        "dataset": "robustkit.testing.small:data",
        "model": "mlp",
        "poison": "badnets:target=1:rate=0.2",
        "detectors": ["last_layer", "spectral_signatures"],
        "limit": 100,
        "device": "cpu",
        "precision": "fp32",
    }
    first = api.bench(directory=tmp_path, **settings)
    assert [record["kind"] for record in first.inspections] == ["backdoor", "detector", "detector"]
    assert all(record["error"] is None for record in first.inspections)
    assert first.inspections[0]["asr"]["value"] > 0.5
    assert 0 <= first.inspections[2]["auroc"] <= 1
    lines = (tmp_path / DETECTIONS).read_text()
    assert json.loads((tmp_path / "manifest.json").read_text())["target"] == 1
    again = api.bench(directory=tmp_path, **settings)
    assert again.inspections == first.inspections
    assert (tmp_path / DETECTIONS).read_text() == lines
