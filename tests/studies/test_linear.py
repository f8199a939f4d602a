from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from robustkit.studies import linear
from robustkit.studies.linear_models import Ball, Loss, fit, losses, margins, objective, worst_margins, worst_points
from robustkit.studies.linear_study import fgsm_gap, points

PENALTY = 1e-3


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_no_point_of_the_ball_is_worse_than_the_closed_form(norm: Ball) -> None:
    rng = np.random.default_rng(1)
    w, b, eps = np.array([3.0, -1.5]), 0.2, 0.1
    x, y = points(6, 0)
    worst = worst_margins(w, b, x, y, norm, eps)
    moved = worst_points(w, x, y, norm, eps)
    np.testing.assert_allclose(margins(w, b, moved, y), worst, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(moved - x, 2 if norm == "l2" else np.inf, axis=1), eps)
    draws = rng.uniform(-eps, eps, (20_000, 2))
    if norm == "l2":
        draws = draws[np.linalg.norm(draws, axis=1) <= eps]
    for i in range(len(x)):
        tried = margins(w, b, x[i] + draws, np.full(len(draws), y[i]))
        assert worst[i] <= tried.min() <= worst[i] + 0.02


def test_without_an_adversary_the_hinge_loss_is_the_soft_margin_svm() -> None:
    x, y = points(60, 3)
    w, b = fit(x, y, loss="hinge", penalty=PENALTY)
    peer = SVC(kernel="linear", C=1 / (len(x) * PENALTY), tol=1e-8).fit(x, y)
    given = {"loss": "hinge", "norm": "l2", "eps": 0.0, "penalty": PENALTY}
    ours = objective(w, b, x, y, **given)
    theirs = objective(peer.coef_[0], float(peer.intercept_[0]), x, y, **given)
    assert ours == pytest.approx(theirs, rel=1e-4)
    np.testing.assert_allclose(w, peer.coef_[0], rtol=0.02)


def test_without_an_adversary_the_logistic_loss_is_logistic_regression() -> None:
    x, y = points(60, 3)
    w, b = fit(x, y, loss="logistic", penalty=PENALTY)
    peer = LogisticRegression(C=1 / (len(x) * PENALTY), tol=1e-10, max_iter=10_000).fit(x, y)
    np.testing.assert_allclose(w, peer.coef_[0], rtol=1e-3)
    assert b == pytest.approx(float(peer.intercept_[0]), rel=1e-3)


@pytest.mark.parametrize("loss", ["hinge", "logistic"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_adversarial_training_ends_in_the_minimum(loss: Loss, norm: Ball) -> None:
    """The objective is convex, so a point that is best around is best."""
    x, y = points(40, 5)
    w, b = fit(x, y, loss=loss, norm=norm, eps=0.05, penalty=PENALTY)
    given = {"loss": loss, "norm": norm, "eps": 0.05, "penalty": PENALTY}
    best = objective(w, b, x, y, **given)
    rng = np.random.default_rng(0)
    for size in (1e-2, 0.1, 1.0, 10.0):
        for step in rng.normal(size=(200, 3)) * size:
            assert objective(w + step[:2], b + step[2], x, y, **given) >= best - 1e-6
    plain = fit(x, y, loss=loss, penalty=PENALTY)
    assert objective(*plain, x, y, **given) >= best - 1e-6


def test_fgsm_is_the_exact_maximiser() -> None:
    x, y = points(50, 2)
    gap, tried = fgsm_gap(np.array([4.0, -2.0]), 0.3, x, y, 0.08)
    assert tried > 10
    assert gap < 1e-5
    assert losses(np.array([0.0]), "logistic")[0] == pytest.approx(np.log(2))


def test_the_study_is_written(tmp_path: Path) -> None:
    study = linear(count=40, seed=1)
    page = study.write(tmp_path)
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        f"linear.{suffix}" for suffix in ("svg", "pdf", "png", "csv")
    }
    table = pd.read_csv(tmp_path / "tables" / "models.csv")
    assert len(table) == 6
    by = table.set_index(["loss", "trained against"])
    for loss in ("hinge", "logistic"):
        for norm in ("l2", "linf"):
            name = f"objective {norm.capitalize()}"
            assert by.loc[(loss, norm), name] <= by.loc[(loss, "none"), name] + 1e-6
    text = page.read_text(encoding="utf-8")
    assert "FGSM is exact here" in text
    assert "figures/linear.png" in text
    assert str(linear(count=40, seed=1)) == str(study)
