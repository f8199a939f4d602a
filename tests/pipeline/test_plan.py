from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustkit.contracts import Threat
from robustkit.host import Host
from robustkit.models.build import build_model
from robustkit.models.weights import save_weights
from robustkit.params import UsageError
from robustkit.pipeline.plan import Plan, make_plan
from robustkit.pipeline.spec import BenchSpec

Spec = Callable[..., BenchSpec]


def _keys(plan: Plan) -> list[str]:
    return [cell.key for cell in plan.cells]


def test_every_subject_meets_every_attack_at_every_eps(spec: Spec, host: Host) -> None:
    plan = make_plan(spec(eps=(0.1, 0.05), seeds=(0, 1), attacks=("fgsm", "tiny.nearest")), host)
    assert [(s.label, s.role, s.seed) for s in plan.subjects] == [
        ("standard", "baseline", 0),
        ("fgsm_at", "defense", 0),
        ("standard", "baseline", 1),
        ("fgsm_at", "defense", 1),
    ]
    first = [(c.label, c.threat.eps) for c in plan.cells if c.subject is plan.subjects[0] and c.attack is not None]
    # an attack without a budget runs once
    assert first == [("fgsm", 0.05), ("fgsm", 0.1), ("tiny.nearest", 0.1)]
    assert len(set(_keys(plan))) == len(plan.cells) == 4 * 4


def test_the_same_spec_gives_the_same_keys(spec: Spec, host: Host) -> None:
    assert _keys(make_plan(spec(), host)) == _keys(make_plan(spec(), host))


def test_an_attack_written_in_another_way_is_the_same(spec: Spec, host: Host) -> None:
    first = make_plan(spec(attacks=("pgd:steps=40",)), host)
    assert _keys(first) == _keys(make_plan(spec(attacks=("robustkit.pgd",)), host))


@pytest.mark.parametrize(
    "change", [{"device": "cpu"}, {"batch_size": 3}, {"data_dir": "/tmp"}], ids=lambda change: next(iter(change))
)
def test_what_changes_no_number_changes_no_key(spec: Spec, host: Host, change: dict[str, Any]) -> None:
    assert _keys(make_plan(spec(), host)) == _keys(make_plan(spec(**change), host))


@pytest.mark.parametrize(
    "change",
    [
        {"attacks": ("fgsm", "pgd:steps=6")},
        {"eps": (0.11,)},
        {"limit": 300},
        {"targets": "next"},
        {"eot": 3},
        {"precision": "bf16"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_changes_a_number_changes_the_key_of_its_cell(spec: Spec, host: Host, change: dict[str, Any]) -> None:
    before, after = make_plan(spec(), host), make_plan(spec(**change), host)
    assert before.cells[-1].key != after.cells[-1].key
    assert before.key != after.key


@pytest.mark.parametrize(
    "change",
    [{"recipe": {"epochs": 3}}, {"model": "mlp"}, {"seeds": (7,)}, {"defenses": ("fgsm_at:clean_share=0.5",)}],
    ids=lambda change: next(iter(change)),
)
def test_what_changes_a_model_changes_all_its_cells(spec: Spec, host: Host, change: dict[str, Any]) -> None:
    before, after = make_plan(spec(), host), make_plan(spec(**change), host)
    assert before.subjects[-1].key != after.subjects[-1].key
    mine = [c.key for c in after.cells if c.subject is after.subjects[-1]]
    assert not set(mine) & set(_keys(before))


def test_other_images_are_other_cells(spec: Spec, host: Host, tmp_path: Path, tiny: str) -> None:
    with np.load(tiny.removeprefix("npz:")) as arrays:
        changed = dict(arrays)
    changed["x_test"] = changed["x_test"].copy()
    changed["x_test"][-1, 0, 0] ^= 1
    np.savez(tmp_path / "other.npz", **changed)
    other = make_plan(spec(dataset=f"npz:{tmp_path / 'other.npz'}"), host)
    assert not set(_keys(other)) & set(_keys(make_plan(spec(), host)))


def test_ordinary_training_does_not_depend_on_the_threat(spec: Spec, host: Host) -> None:
    one, other = make_plan(spec(), host), make_plan(spec(eps=(0.2,)), host)
    assert one.subjects[0].key == other.subjects[0].key
    assert one.subjects[1].key != other.subjects[1].key


def test_a_loss_of_one_s_own_stands_for_its_file(
    spec: Spec, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    keys = []
    for sign in ("", "-"):
        text = f"def mine(logits, y):\n    return {sign}logits.sum(dim=1)\n"
        (tmp_path / "losses_of_a_user.py").write_text(text)
        keys.append(make_plan(spec(attacks=("pgd:loss=losses_of_a_user:mine",)), host).cells[-1].key)
    assert keys[0] != keys[1]
    assert make_plan(spec(attacks=("pgd:loss=losses_of_a_user:mine",)), host).cells[-1].key == keys[1]


def test_random_draws_do_not_depend_on_the_number_of_samples_or_the_model(spec: Spec, host: Host) -> None:
    one, other = make_plan(spec(), host), make_plan(spec(limit=250, defenses=("pgd_at:steps=2",)), host)
    assert [c.stream for c in one.cells] == [c.stream for c in other.cells]
    assert make_plan(spec(eps=(0.2,)), host).cells[-1].stream != one.cells[-1].stream


def test_attacks_of_another_norm_are_refused_with_those_that_fit(spec: Spec, host: Host) -> None:
    with pytest.raises(UsageError) as caught:
        make_plan(spec(attacks=("fgsm", "tiny.sparse")), host)
    message = str(caught.value)
    assert "tiny.sparse" in message
    assert "l0" in message
    assert "linf" in message
    for fitting in ("pgd", "tiny.nearest"):
        assert fitting in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"norm": "l2", "eps": ()}, ("norm=l2", "eps", "linf")),
        ({"eps": (0.1, 0.1)}, ("twice",)),
        ({"eps": (8.0,)}, ("8/255",)),
        ({"train_eps": -1.0}, ("-1",)),
        ({"eps": (0.1, 0.2), "cascade": True}, ("cascade",)),
        ({"attacks": ("pdg",)}, ("'pdg'", "pgd")),
        ({"defenses": ("pgd_et",)}, ("'pgd_et'", "pgd_at")),
        ({"model": "cmm"}, ("'cmm'", "cnn")),
        ({"model": "linear:width=3"}, ("width",)),
        ({"device": "quantum"}, ("quantum",)),
        ({"checkpoint": "none.safetensors", "defenses": ()}, ("none.safetensors",)),
    ],
)
def test_what_would_fail_later_is_refused_at_once(
    spec: Spec, host: Host, change: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError) as caught:
        make_plan(spec(**change), host)
    for word in words:
        assert word in str(caught.value)


def test_a_checkpoint_takes_the_place_of_training(spec: Spec, host: Host, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    plan = make_plan(spec(), host)
    save_weights(build_model("linear", plan.data, host=host, seed=5), path)
    given = make_plan(spec(checkpoint=str(path), defenses=("tiny.greyer",)), host)
    assert [(s.label, s.role, s.wraps) for s in given.subjects] == [
        ("mine", "given", False),
        ("tiny.greyer", "defense", True),
    ]
    save_weights(build_model("linear", plan.data, host=host, seed=6), path)
    again = make_plan(spec(checkpoint=str(path), defenses=("tiny.greyer",)), host)
    assert not set(_keys(given)) & set(_keys(again))
    with pytest.raises(UsageError, match=r"fgsm_at.*mine.safetensors"):
        make_plan(spec(checkpoint=str(path)), host)


def test_the_usual_threat_of_the_data_is_taken_where_none_is_given(spec: Spec, host: Host) -> None:
    plan = make_plan(spec(eps=()), host)
    assert plan.threats == (Threat("linf", 8 / 255),)
    assert plan.training_threat == plan.threats[0]


def test_a_curve_is_measured_on_models_trained_as_usual(spec: Spec, host: Host) -> None:
    assert make_plan(spec(eps=(0.01, 0.1)), host).training_threat == Threat("linf", 8 / 255)
    assert make_plan(spec(eps=(0.5, 1.0), norm="l2"), host).training_threat == Threat("l2", 1.0)
    assert make_plan(spec(eps=(0.01, 0.1), train_eps=0.05), host).training_threat == Threat("linf", 0.05)


def test_everything_that_was_settled_can_be_written_down(spec: Spec, host: Host) -> None:
    resolved = make_plan(spec(), host).resolved()
    assert json.loads(json.dumps(resolved)) == resolved
    assert resolved["recipe"]["epochs"] == 2
    assert resolved["attacks"]["pgd:steps=5"]["restarts"] == 1
    assert resolved["providers"]["robustkit"].startswith("robustkit ")


def test_estimates_are_of_the_canonical_parameters(spec: Spec, host: Host) -> None:
    plan = make_plan(spec(attacks=("pgd:steps=5:restarts=3", "fgsm", "tiny.draws")), host)
    assert [cell.passes for cell in plan.cells[:4]] == [1, 30, None, None]


@pytest.mark.parametrize("chosen", [{"budget": 60.0}, {"precision_points": 5.0}])
def test_what_attacks_some_images_only_leaves_nothing_for_detectors_of_inputs(
    spec: Callable[..., BenchSpec], host: Host, chosen: dict[str, float]
) -> None:
    with pytest.raises(UsageError, match="detectors of inputs judge what every attack makes"):
        make_plan(spec(detectors=("feature_squeezing",), **chosen), host)
