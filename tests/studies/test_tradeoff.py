from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from robustkit.params import UsageError
from robustkit.studies import tradeoff
from robustkit.studies.tradeoff_study import synthetic_table
from robustkit.studies.tsipras import Distribution, trained


def test_the_closed_form_is_what_samples_say() -> None:
    distribution = Distribution(p=0.9, d=20, eta=0.4)
    x, y = distribution.draw(100_000, 0)
    rng = np.random.default_rng(1)
    for eps in (0.0, 0.1, 0.8):
        w = rng.normal(size=21)
        share = float((y * (x @ w) - eps * np.abs(w).sum() > 0).mean())
        assert share == pytest.approx(distribution.accuracy(w, eps), abs=0.01)  # six standard errors


def test_the_papers_corner_cases() -> None:
    distribution = Distribution()
    assert distribution.accuracy(distribution.alike(0.0), 0.0) == pytest.approx(norm.cdf(0.3 * 10))
    assert distribution.accuracy(distribution.alike(1.0), 0.6) == distribution.p
    # with eps = 2 eta the mean of the weak features is -eta y in the worst case
    assert distribution.accuracy(distribution.alike(0.0), 0.6) == pytest.approx(norm.cdf(-0.3 * 10))


def test_against_twice_eta_the_robust_feature_alone_is_best() -> None:
    """The paper's theorem: whoever beats p on clean inputs has little left under attack."""
    distribution = Distribution()
    share, accuracy = distribution.best(0.6)
    assert accuracy == pytest.approx(distribution.p, abs=1e-3)
    assert share > 0.6  # a plateau: any larger share is as good up to rounding
    clean_share, clean = distribution.best(0.0)
    assert clean >= distribution.accuracy(distribution.alike(0.0), 0.0)
    assert distribution.accuracy(distribution.alike(clean_share), 0.6) < 0.1


def test_without_an_adversary_training_is_logistic_regression() -> None:
    x, y = Distribution(d=10).draw(500, 0)
    peer = LogisticRegression(C=1 / (500 * 1e-3), fit_intercept=False, tol=1e-8, max_iter=10_000).fit(x, y)
    np.testing.assert_allclose(trained(x, y, 0.0), peer.coef_[0], atol=0.01)


def test_trained_models_come_near_the_optimum() -> None:
    distribution = Distribution()
    table = synthetic_table(distribution, seed=0, samples=2000)
    first, last = table.iloc[0], table.iloc[-1]
    assert first["standard"] > 0.98
    assert first["robust"] < 0.2
    assert last["robust"] == pytest.approx(distribution.p, abs=0.02)
    for name in ("standard", "robust"):
        assert (table[name] <= table[f"{name}, high"] + 0.03).all()
        assert (table[name] >= table[f"{name}, low"] - 0.03).all()
    assert (table["standard"] <= distribution.best(0.0)[1] + 1e-3).all()


def test_networks_are_measured_over_eps_and_size(thirds: str, tmp_path: Path) -> None:
    study = tradeoff(dataset=thirds, model="linear", epochs=1, limit=30, sizes=(60, 0))
    table = study.tables["networks"]
    assert len(table) == 2 * 2 * 3
    assert set(table["norm"]) == {"linf", "l2"}
    assert (table["robust"] <= table["clean"]).all()
    assert sorted(set(table["training images"]))[0] == 60
    study.write(tmp_path)
    assert (tmp_path / "figures" / "tradeoff_synthetic.pdf").is_file()


def test_a_distribution_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match=r"0\.5 ≤ p"):
        Distribution(p=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("images", ["MNIST", "CIFAR-10"])
def test_digits_and_objects(images: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Of the size of a minute: three networks a norm, on 200 images and judged on 20."""
    dataset = "mnist_10k"
    if images == "CIFAR-10":
        dataset = f"npz:{request.getfixturevalue('real_data') / 'cifar10' / 'test.npz'}"
    study = tradeoff(dataset=dataset, epochs=1, limit=20, sizes=(200,))
    table = study.tables["networks"]
    attacks = table.set_index("norm")["attack ε"].to_dict()
    assert attacks == ({"linf": 0.3, "l2": 2.1} if images == "MNIST" else {"linf": 8 / 255, "l2": 0.43})
    assert table["training ε"].tolist() == [share * attacks[norm] for norm in ("linf", "l2") for share in (0, 0.5, 1)]
    assert (table["robust"] <= table["clean"]).all()
    study.write(tmp_path)
    assert len(pd.read_csv(tmp_path / "figures" / "tradeoff.csv")) == 6
