"""The built-in detectors against the kit that plugin authors use, and against other implementations."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import median_filter
from scipy.stats import entropy
from sklearn.cluster import KMeans
from sklearn.covariance import shrunk_covariance
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score
from torch import Tensor, nn

from robustkit import testing
from robustkit.contracts import Data
from robustkit.data.splits import ArraySplit
from robustkit.detectors.activation_clustering import ActivationClustering, two_clusters
from robustkit.detectors.feature_squeezing import FeatureSqueezing, fewer_levels, median
from robustkit.detectors.last_layer import LastLayer
from robustkit.detectors.mahalanobis import Mahalanobis, distance, fit
from robustkit.detectors.mmbd import MMBD, margins
from robustkit.detectors.spectral_signatures import SpectralSignatures, signature
from robustkit.detectors.strip import Strip, constancy
from robustkit.params import UsageError
from robustkit.testing import small

SETTINGS = {"neural_cleanse": {"steps": 4, "batches": 2}, "mmbd": {"steps": 10}, "strip": {"overlays": 8}}


@testing.parametrize("robustkit", kinds=["detector"], settings=SETTINGS)
def test_detector(check: testing.Check) -> None:
    check()


def linear(weight: Tensor) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(weight.shape[1], weight.shape[0], bias=False))
    with torch.no_grad():
        model[1].weight.copy_(weight)
    return model.eval()


def test_the_largest_margin_between_two_classes_is_a_sum_in_closed_form() -> None:
    """With two classes the margin is linear, and its maximum over the box is the sum of the positive differences."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2, 192, generator=generator)
    data = dataclasses.replace(small.data(), classes=("a", "b"))
    torch.manual_seed(0)
    verdict = MMBD(steps=200, starts=2)(linear(weight), data)
    for k, other in ((0, 1), (1, 0)):
        expected = float((weight[k] - weight[other]).clamp(min=0).sum())
        assert verdict.table[k]["margin"] == pytest.approx(expected, rel=0.02)
    assert verdict.p_value == 1.0
    assert "2 classes" in verdict.note


def test_margins_are_against_the_best_other_class() -> None:
    logits = torch.tensor([[1.0, 5.0, 3.0], [2.0, 0.0, 7.0]])
    assert margins(logits, torch.tensor([1, 0])).tolist() == [2.0, -5.0]


def test_a_class_with_a_far_larger_margin_is_named() -> None:
    weight = torch.randn(10, 192, generator=torch.Generator().manual_seed(1))
    weight[6] *= 6
    torch.manual_seed(0)
    verdict = MMBD(steps=30)(linear(weight), small.data())
    assert verdict.classes[0] == 6
    assert verdict.flagged
    assert verdict.p_value is not None
    assert verdict.p_value < 0.01


def test_a_row_that_points_away_is_named_by_its_weights() -> None:
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(10, 192, generator=generator) * 0.3 + torch.randn(192, generator=generator)
    weight[4] = -weight[4]
    verdict = LastLayer()(linear(weight), small.data())
    cosine = nn.functional.cosine_similarity(weight[4][None], weight).numpy()
    assert verdict.classes[0] == 4
    assert verdict.flagged
    assert verdict.table[4]["statistic"] == pytest.approx(-(cosine.sum() - 1) / 9, abs=1e-4)


def test_no_linear_layer_of_that_size_is_named() -> None:
    with pytest.raises(UsageError, match="10 outputs"):
        LastLayer()(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), small.data())


def blobs(foreign: int = 30) -> np.ndarray:
    generator = np.random.default_rng(3)
    return np.concatenate([generator.normal(0, 1, (100, 12)), generator.normal(3, 1, (foreign, 12))])


def test_clusters_and_silhouette_are_those_of_scikit_learn() -> None:
    rows = blobs()
    small_cluster, apart = two_clusters(rows, 5)
    points = PCA(5).fit_transform(rows)
    peer = KMeans(2, n_init=8, random_state=0).fit_predict(points)
    peer_small = peer == np.argmin(np.bincount(peer))
    assert np.array_equal(small_cluster, peer_small)
    assert apart == pytest.approx(silhouette_score(points, peer_small), abs=1e-6)
    assert small_cluster.sum() == 30


def test_signatures_are_projections_on_the_first_component() -> None:
    rows = blobs()
    scores, share = signature(torch.from_numpy(rows))
    peer = PCA(3).fit(rows)
    np.testing.assert_allclose(scores.numpy(), peer.transform(rows)[:, 0] ** 2, rtol=1e-6)
    assert share == pytest.approx(peer.explained_variance_ratio_[0], rel=1e-6)


class Features(nn.Module):
    """The first twelve values of an image as features, and any linear layer after them."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x.flatten(1)[:, :12])


def poisoned_training_set() -> Data:
    generator = torch.Generator().manual_seed(4)
    x = torch.rand(400, 3, 8, 8, generator=generator) * 0.2
    y = torch.arange(400) % 10
    foreign = (y == 7).nonzero().flatten()[:8]
    x[foreign] += 0.7
    split = ArraySplit(x, y)
    return dataclasses.replace(small.data(), train=split)


@pytest.mark.parametrize("detector", [ActivationClustering(), SpectralSignatures(poison=0.15)], ids=["ac", "ss"])
def test_foreign_samples_of_a_class_stand_out(detector: Any) -> None:
    data = poisoned_training_set()
    verdict = detector(Features().eval(), data)
    foreign = (data.train.labels == 7).nonzero().flatten()[:8]
    assert verdict.classes[0] == 7
    assert bool(verdict.flagged[foreign].all())
    rest = torch.ones(400, dtype=torch.bool)
    rest[foreign] = False
    assert float(verdict.score[foreign].min()) > float(verdict.score[rest & (data.train.labels == 7)].max())


def test_entropy_is_that_of_scipy() -> None:
    model, data = small.trained(), small.data()
    x, overlays = data.test.batch(torch.arange(5))[0], data.val.batch(torch.arange(7))[0]
    expected = []
    with torch.no_grad():
        for one in x:
            shares = model((one + overlays).clamp(0, 1)).softmax(1).numpy()
            expected.append(-np.mean([entropy(share) for share in shares]))
    np.testing.assert_allclose(constancy(model, x, overlays).numpy(), expected, atol=1e-4)


def test_the_median_is_that_of_scipy() -> None:
    x = torch.rand(2, 3, 9, 7)
    for window in (2, 3):
        expected = np.stack([[median_filter(c.numpy(), size=window, mode="nearest") for c in image] for image in x])
        np.testing.assert_array_equal(median(x, window).numpy(), expected)
    assert fewer_levels(torch.tensor([0.0, 0.4, 0.6, 1.0]), 1).tolist() == [0.0, 0.0, 1.0, 1.0]


def test_distances_are_those_of_a_shrunk_covariance() -> None:
    generator = torch.Generator().manual_seed(5)
    rows, labels = torch.randn(60, 6, generator=generator, dtype=torch.float64), torch.arange(60) % 3
    means, precision = fit(rows, labels, 0.2)
    centred = torch.stack([row - rows[labels == k].mean(0) for row, k in zip(rows, labels, strict=True)]).numpy()
    peer = np.linalg.inv(shrunk_covariance(centred.T @ centred / 60, shrinkage=0.2))
    np.testing.assert_allclose(precision.numpy(), peer, rtol=1e-8)
    from scipy.spatial.distance import cdist

    expected = cdist(rows.numpy(), means.numpy(), "mahalanobis", VI=peer).min(axis=1) ** 2
    np.testing.assert_allclose(distance(rows, means, precision).numpy(), expected, rtol=1e-8)


@pytest.mark.parametrize(
    "detector", [Strip(overlays=16), FeatureSqueezing(), Mahalanobis()], ids=["strip", "fs", "maha"]
)
def test_thresholds_come_from_clean_images(detector: Any) -> None:
    """On fresh clean images about the share that was asked for is flagged."""
    data = small.data()
    known = dataclasses.replace(data, val=data.train)  # 400 images, and 100 others to judge
    torch.manual_seed(1)
    verdict = detector(small.trained(), known)
    assert verdict.flagged.shape == (100,)
    assert float(verdict.flagged.double().mean()) <= 0.2
