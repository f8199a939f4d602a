from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from robustkit.data.load import load_data
from robustkit.host import Host
from robustkit.pipeline.pictures import chosen_rows, picture_path, read_pictures
from robustkit.pipeline.spec import BenchSpec
from tests.pipeline.conftest import Ran


def test_one_image_a_class_is_chosen_in_order_of_appearance() -> None:
    labels = torch.tensor([2, 2, 0, 1, 0, 1])
    assert chosen_rows(labels, 36).tolist() == [0, 2, 3]


def test_no_more_than_ten_and_fewer_large_ones() -> None:
    labels = torch.arange(40)
    assert len(chosen_rows(labels, 3 * 32 * 32)) == 10
    assert len(chosen_rows(labels, 3 * 224 * 224)) == 3
    assert len(chosen_rows(labels, 10**8)) == 1


def test_a_run_keeps_what_its_samples_say(
    spec: Callable[..., BenchSpec], bench: Callable[..., Ran], tiny: str, host: Host
) -> None:
    ran = bench(spec(limit=250))
    x_test, y_test = load_data(tiny, host=host).test.batch(torch.arange(250))
    attacks = [record for record in ran.records if record["kind"] == "attack"]
    assert len(attacks) == 4
    for record in attacks:
        pictures = read_pictures(ran.store.directory, record["key"])
        assert pictures is not None
        rows = pictures["row"]
        samples = ran.store.samples(record["key"])
        np.testing.assert_array_equal(pictures["x"], x_test[rows].numpy())
        np.testing.assert_array_equal(pictures["label"], y_test[rows].numpy())
        for name in ("clean_pred", "adv_pred", "attacked", "success"):
            np.testing.assert_array_equal(pictures[name], samples[name][rows])
        delta = np.abs(pictures["x_adv"] - pictures["x"]).reshape(len(rows), -1).max(axis=1)
        np.testing.assert_allclose(delta, samples["dist_linf"][rows], atol=1e-6)
        for name in ("clean_confidence", "adv_confidence"):  # of the class with the largest share of three
            assert (pictures[name] >= 1 / 3 - 1e-6).all()
            assert (pictures[name] <= 1 + 1e-6).all()
        assert list(pictures["classes"]) == ["0", "1", "2"]


@pytest.mark.parametrize("kind", ["clean", "error"])
def test_where_there_is_nothing_to_see_nothing_is_kept(
    kind: str, spec: Callable[..., BenchSpec], bench: Callable[..., Ran]
) -> None:
    ran = bench(spec(attacks=("broken",), defenses=()))
    (record,) = [r for r in ran.records if (r["kind"] == "clean") == (kind == "clean")]
    assert read_pictures(ran.store.directory, record["key"]) is None
    assert not picture_path(ran.store.directory, record["key"]).exists()
