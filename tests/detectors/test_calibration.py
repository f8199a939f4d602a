"""p-values of the anomaly index: uniform under the null, for few and for many classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import median_abs_deviation

from robustkit.detectors import calibration
from robustkit.params import UsageError


@pytest.mark.parametrize("classes", [4, 5, 10, 43])
def test_deviations_are_those_of_scipy(classes: int) -> None:
    values = np.random.default_rng(classes).normal(size=classes)
    spread = median_abs_deviation(values, scale="normal")
    expected = (values - np.median(values)) / spread
    np.testing.assert_allclose(calibration.deviations(values), expected, rtol=1e-3)  # scale: 1.4826 and its true value


def test_equal_values_are_no_outliers() -> None:
    assert calibration.deviations(np.full(7, 3.0)).tolist() == [0.0] * 7


@pytest.mark.parametrize("classes", [4, 10, 43, 100])
def test_nominal_five_percent_are_about_five_percent_of_clean_models(classes: int) -> None:
    values = np.random.default_rng(5).normal(size=(3000, classes))  # other draws than those of the table
    found = [calibration.p_value(index, classes) for index in calibration.deviations(values).max(axis=1)]
    assert 0.03 <= np.mean(np.array(found) <= 0.05) <= 0.08


@pytest.mark.parametrize(("classes", "share"), [(4, 0.207), (10, 0.331), (43, 0.640), (100, 0.875)])
def test_the_published_rule_flags_clean_models_by_chance(classes: int, share: float) -> None:
    """Index above 2, as in the original: what is wrong with it, from an independent simulation of 20,000 draws."""
    assert np.mean(calibration.null_indices(classes) > 2) == pytest.approx(share, abs=0.015)


def test_two_classes_never_fire() -> None:
    for pair in ([1.0, 90.0], [5.0, 5.1]):
        index = float(calibration.deviations(np.array(pair)).max())
        assert index == pytest.approx(0.6745, abs=1e-3)
        assert calibration.p_value(index, 2) == 1.0
    assert "2 classes" in calibration.power_note(2)
    assert calibration.critical_index(2, 0.05) == float("inf")


def test_the_critical_index_is_where_the_p_value_is_alpha() -> None:
    limit = calibration.critical_index(10, 0.05)
    assert calibration.p_value(limit, 10) == pytest.approx(0.05, abs=1e-3)
    assert limit == pytest.approx(3.85, abs=0.1)


def test_a_rank_among_clean_models() -> None:
    clean = [0.1, 0.2, 0.3, 0.4]
    assert calibration.reference_p_value(0.5, clean) == pytest.approx(1 / 5)
    assert calibration.reference_p_value(0.3, clean) == pytest.approx(3 / 5)
    assert "4 clean models allow no p-value below 0.200" in calibration.power_note(10, 4)


def test_reference_files(tmp_path: Path) -> None:
    path = tmp_path / "clean.json"
    path.write_text(json.dumps({"neural_cleanse": [1, 2.5]}))
    assert calibration.read_reference(str(path), "neural_cleanse") == [1.0, 2.5]
    with pytest.raises(UsageError, match="mmbd"):
        calibration.read_reference(str(path), "mmbd")
    with pytest.raises(UsageError, match="no such file"):
        calibration.read_reference(str(tmp_path / "other.json"), "mmbd")
    path.write_text("{")
    with pytest.raises(UsageError, match="not valid JSON"):
        calibration.read_reference(str(path), "mmbd")


def test_a_judgement_names_what_stands_out_by_either_way() -> None:
    scores = np.array([0.1, 9.0, 0.3, -0.2, 0.0, 0.2, 7.5])
    index = calibration.deviations(scores)
    found = calibration.judge(scores, index, [], 0.05)
    assert found.order[:3] == (1, 6, 2)
    assert (found.flagged, found.classes) == (True, (1, 6))
    assert found.p_value == calibration.p_value(float(index.max()), 7)
    ranked = calibration.judge(scores, index, [8.0] * 39, 0.05)  # clean models reach 8: only class 1 stands out
    assert (ranked.flagged, ranked.classes, ranked.p_value) == (True, (1,), pytest.approx(1 / 40))
    quiet = calibration.judge(scores, index, [10.0] * 39, 0.05)
    assert (quiet.flagged, quiet.classes, quiet.score) == (False, (1,), 9.0)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.5])
@pytest.mark.parametrize("count", [5, 19, 40])
def test_a_class_above_the_limit_is_what_flags_a_model(alpha: float, count: int) -> None:
    rng = np.random.default_rng(count)
    clean = rng.normal(size=count).tolist()
    for scores in rng.normal(size=(60, 10)) * rng.uniform(0.5, 3, (60, 1)):
        for given in (clean, []):
            judged = calibration.judge(scores, calibration.deviations(scores), given, alpha)
            above = judged.limit is not None and max(judged.by_class) > judged.limit
            assert above == judged.flagged or abs(judged.p_value - alpha) < 2 / 20_000
