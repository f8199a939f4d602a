"""Detectors of inputs against attacks: whose scores set the threshold, what is judged, what is kept and reused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from robustkit import api
from robustkit.contracts import Data, Verdict
from robustkit.detectors.feature_squeezing import FeatureSqueezing
from robustkit.detectors.features import passed, shared_passes
from robustkit.detectors.mahalanobis import Mahalanobis
from robustkit.pipeline import inputs
from robustkit.pipeline.detect import RECORDS
from robustkit.report.inputs import input_markdown, input_numbers
from robustkit.testing import small

SETTINGS: dict[str, Any] = {
    "dataset": "robustkit.testing.small:data",
    "model": "mlp",
    "attacks": ["fgsm", "pgd:steps=5"],
    "detectors": ["feature_squeezing", "mahalanobis"],
    "eps": [0.2],
    "limit": 60,
    "device": "cpu",
    "precision": "fp32",
    "recipe": {"epochs": 4},
}


def test_the_threshold_comes_from_held_out_validation_images_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    held, clean = torch.rand(400, generator=generator), torch.rand(200, generator=generator)
    adversarial = torch.rand(150, generator=generator) + 0.5
    found = inputs.separation(adversarial, clean, held)
    limit = np.quantile(held.numpy(), 0.95)
    assert found["tpr"]["value"] == pytest.approx((adversarial.numpy() > limit).mean())
    assert found["fpr"]["value"] == pytest.approx((clean.numpy() > limit).mean())
    truth = np.r_[np.ones(150), np.zeros(200)]
    area = roc_auc_score(truth, torch.cat([adversarial, clean]).numpy())
    assert found["auroc"]["value"] == pytest.approx(area)
    assert found["auroc"]["low"] < area < found["auroc"]["high"]
    assert found["limit"] == pytest.approx(limit)
    np.testing.assert_allclose(
        list(found["spread"]["adversarial"].values()),
        np.quantile(adversarial.numpy(), [0.05, 0.25, 0.5, 0.75, 0.95]),
        rtol=1e-6,
    )
    nothing = inputs.separation(adversarial[:0], clean, held)
    assert nothing["auroc"]["value"] is nothing["tpr"]["value"] is None


def test_no_image_is_both_given_and_judged() -> None:
    data = small.data()
    adversarial = torch.rand(7, 3, 8, 8)
    given, held, clean = inputs.judged(data, 30, [adversarial], small.trained(), "cpu")
    assert (held, clean, len(given.test)) == (50, 30, 87)
    known, _ = small.whole(given.val)
    judged, said = small.whole(given.test)
    same = (known[:, None] == judged[None, :held]).flatten(2).all(dim=2)
    assert len(known) == 50
    assert not bool(same.any())
    assert torch.equal(judged[held : held + clean], data.test.batch(torch.arange(30))[0])
    assert torch.equal(judged[held + clean :], adversarial)
    with torch.no_grad():
        assert torch.equal(said, small.trained()(judged).argmax(1))


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network, self.images = small.trained(), 0

    def forward(self, x: Tensor) -> Tensor:
        self.images += len(x)
        return self.network(x)  # type: ignore[no-any-return]


def test_detectors_share_one_pass_over_each_image() -> None:
    model, data = Counting().eval(), small.data()
    with shared_passes():
        first = Mahalanobis()(model, data)
        assert model.images == 200
        FeatureSqueezing()(model, data)
        assert model.images == 200 + 2 * 200  # the squeezed copies alone
    assert passed(model, data.val) is not passed(model, data.val)  # nothing is remembered outside
    assert torch.equal(torch.as_tensor(first.score), torch.as_tensor(Mahalanobis()(model, data).score))


def test_a_bench_judges_what_its_attacks_found_and_keeps_it(tmp_path: Path) -> None:
    first = api.bench(directory=tmp_path, **SETTINGS)
    records = list(first.inspections)
    assert [(r["attack"], r["detector"]) for r in records] == [
        (attack, detector) for attack in ("fgsm", "pgd:steps=5") for detector in SETTINGS["detectors"]
    ]
    for record in records:
        cell = next(r for r in first.records if r["kind"] == "attack" and r["component"]["label"] == record["attack"])
        assert record["error"] is None
        assert record["adversarial"] == int(first.samples[cell["key"]]["success"].sum()) > 0
        assert (record["clean"], record["held"]) == (60, 50)
        assert 0 <= record["auroc"]["low"] <= record["auroc"]["value"] <= record["auroc"]["high"] <= 1
    lines = (tmp_path / RECORDS).read_text()
    again = api.bench(directory=tmp_path, **SETTINGS)
    assert list(again.inspections) == records == list(api.load(tmp_path).inspections)
    assert (tmp_path / RECORDS).read_text() == lines
    page = first.report().read_text()
    assert "Adversarial inputs and their detectors" in page
    assert f"{records[0]['auroc']['value']:.3f}" in page
    drawn = pd.read_csv(tmp_path / "figures" / "detections.csv")
    fgsm = drawn[(drawn["detector"] == "feature_squeezing") & (drawn["group"] == "fgsm")].set_index("quantile")
    assert fgsm["score"].to_dict() == {float(q): s for q, s in records[0]["spread"]["adversarial"].items()}
    assert fgsm["limit"].unique().tolist() == [records[0]["limit"]]
    assert (fgsm.loc[0.5, "score"] > records[0]["limit"]) == (records[0]["tpr"]["value"] > 0.5)


def test_a_run_that_kept_no_inputs_attacks_again_when_a_detector_is_asked(tmp_path: Path) -> None:
    plain = SETTINGS | {"attacks": ["fgsm"], "detectors": []}
    before = api.bench(directory=tmp_path, **plain)
    assert not (tmp_path / "adversarial").exists()
    asked = api.bench(directory=tmp_path, **plain | {"detectors": ["mahalanobis"]})
    assert asked.inspections[0]["error"] is None
    key = next(r["key"] for r in before.records if r["kind"] == "attack")
    kept = np.load(tmp_path / "adversarial" / key / "00000.npz")["x_adv"]
    assert len(kept) == int(before.samples[key]["success"].sum())


def test_what_a_detector_or_an_attack_raises_is_an_error_in_the_table(tmp_path: Path) -> None:
    found = api.bench(directory=tmp_path, **SETTINGS | {"attacks": ["fgsm"], "detectors": ["ibd_psc", "mahalanobis"]})
    refused, judged = found.inspections
    assert "has none" in refused["error"]
    table = input_markdown(found.inspections)
    assert "error in" in table
    assert f"{judged['auroc']['value']:.3f} [" in table
    numbers = input_numbers(found.inspections)
    assert numbers["auroc"].isna().tolist() == [True, False]
    assert numbers["tpr"].iloc[1] == judged["tpr"]["value"]
    json.dumps(list(found.inspections), allow_nan=False)


def test_scores_of_another_length_are_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(self: Mahalanobis, model: nn.Module, data: Data) -> Verdict:
        return Verdict(score=torch.zeros(3), flagged=torch.zeros(3, dtype=torch.bool))

    monkeypatch.setattr(Mahalanobis, "__call__", short)
    found = api.bench(directory=tmp_path, **SETTINGS | {"attacks": ["fgsm"], "detectors": ["mahalanobis"]})
    assert "scores for" in found.inspections[0]["error"]


def test_dataclasses_of_data_are_left_as_they_are() -> None:
    data = small.data()
    given, _, _ = inputs.judged(data, 10, [], small.trained(), "cpu")
    assert dataclasses.replace(given, val=data.val, test=data.test) == data
