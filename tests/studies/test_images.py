"""The studies that look at images, at sizes of seconds."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from robustkit.contracts import Threat
from robustkit.norms import distance
from robustkit.params import UsageError
from robustkit.studies import epochs, gradients, interpolate, large_eps
from robustkit.studies.gradients_study import alignment, as_picture, loss_gradient
from robustkit.studies.interpolate_study import animation, mixtures
from robustkit.studies.networks import data_of, far_point, usual_l2


class Linear(nn.Module):
    """Logits (0, w·x)."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x: Tensor) -> Tensor:
        score = x.flatten(1) @ self.w
        return torch.stack([torch.zeros_like(score), score], dim=1)


@pytest.fixture
def linear() -> Linear:
    return Linear(torch.linspace(-1, 1, 12))


def test_of_a_linear_model_the_alignment_is_the_angle_to_its_weights(linear: Linear) -> None:
    x = torch.rand(5, 1, 3, 4, generator=torch.Generator().manual_seed(0))
    found = alignment(loss_gradient(linear, x, torch.tensor([0, 1, 0, 1, 1]), batch=2), x)
    flat = x.flatten(1)
    expected = (flat @ linear.w).abs() / flat.norm(dim=1) / linear.w.norm()
    torch.testing.assert_close(found.float(), expected.detach(), atol=1e-5, rtol=1e-4)


def test_a_gradient_is_clipped_at_three_standard_deviations() -> None:
    gradient = torch.zeros(1, 1, 10, 10)
    gradient[0, 0, 0, 0], gradient[0, 0, 5, 5] = 100.0, -1.0
    picture = as_picture(gradient)
    assert picture[0, 0, 0, 0] == 1
    assert picture[0, 0, 9, 9] == 0.5
    three = 3 * gradient.double().std()
    assert picture[0, 0, 5, 5] == pytest.approx(float(0.5 - 0.5 / three), abs=1e-6)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_far_point_of_a_linear_model_is_the_far_end_of_the_ball(linear: Linear, norm: str) -> None:
    x = torch.full((2, 1, 3, 4), 0.5)
    threat = Threat(norm, 0.3)  # type: ignore[arg-type]
    point = far_point(linear, x, torch.tensor([1, 0]), threat)
    w = linear.w.detach()
    step = 0.3 * (w / w.norm() if norm == "l2" else w.sign())
    expected = x + torch.stack([step, -step]).view_as(x)
    torch.testing.assert_close(point, expected, atol=1e-4, rtol=0)
    assert (distance(point, x, threat.norm) <= threat.allowance).all()


def test_mixtures_are_a_straight_line() -> None:
    x, end = torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2)
    way = mixtures(x, end, 5)
    assert way.shape == (5, 2, 1, 2, 2)
    assert way[:, 0, 0, 0, 0].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_the_animation_goes_there_and_back() -> None:
    content = animation(torch.zeros(2, 1, 4, 4), [torch.ones(2, 1, 4, 4)], side=8)
    picture = Image.open(io.BytesIO(content))
    assert picture.size == (16, 8)
    levels = []
    for place in range(picture.n_frames):
        picture.seek(place)
        levels.append(int(np.asarray(picture.convert("L"))[0, 0]))
    assert len(levels) == 32
    assert levels[0] == 0
    assert max(levels) == levels[16] == 255
    assert levels[1:16] == sorted(levels[1:16])


def test_gradients(thirds: str, tmp_path: Path) -> None:
    study = gradients(dataset=thirds, model="linear", epochs=1, limit=20)
    table = study.tables["alignment"]
    assert len(table) == 3
    assert table["alignment"].between(0, 1).all()
    study.write(tmp_path)
    assert len(pd.read_csv(tmp_path / "figures" / "gradients.csv")) == 3 * 20


def test_large_eps(thirds: str, tmp_path: Path) -> None:
    study = large_eps(dataset=thirds, model="linear", epochs=1, limit=20)
    table = study.tables["judged"]
    assert len(table) == 9
    for _, mine in table.groupby("made for"):
        assert mine["own network"].is_monotonic_increasing
    assert (tmp_path / "a").exists() is False
    assert study.write(tmp_path / "a").is_file()
    assert "asked of the other networks" in study.text[0]
    alone = large_eps(dataset=thirds, model="linear", limit=5, pretrained=True)
    assert "no other network is asked" in alone.text[0]
    assert "other networks agree" not in alone.tables["judged"]


def test_interpolate(thirds: str, tmp_path: Path) -> None:
    study = interpolate(dataset=thirds, model="linear", epochs=1)
    shares = study.drawings[0].data
    assert shares["t"].between(0, 1).all()
    study.write(tmp_path)
    assert (tmp_path / "figures" / "interpolate.gif").read_bytes().startswith(b"GIF89a")
    assert "interpolate.gif" in (tmp_path / "study.md").read_text(encoding="utf-8")


def test_epochs(thirds: str) -> None:
    study = epochs(dataset=thirds, model="linear", epochs=3, limit=60)
    table = study.tables["epochs"]
    assert list(table["epoch"]) == [0, 1, 2, 3]
    assert table["accuracy"].iloc[-1] > table["accuracy"].iloc[0]  # three easy classes
    assert (table["robust accuracy"] <= table["accuracy"]).all()


def test_a_model_that_is_given_is_not_trained(thirds: str) -> None:
    study = gradients(dataset=thirds, model="linear", limit=10, pretrained=True)
    assert list(study.tables["alignment"]["network"]) == ["linear"]


def test_radii_beside_the_usual_ones() -> None:
    assert usual_l2(data_of("mnist_10k", None)) == 2.1


def test_an_unknown_data_set_is_the_users_to_mend() -> None:
    with pytest.raises(UsageError, match="mnist"):
        gradients(dataset="mnist_10")


def test_colour_images_and_a_model_that_brings_its_weights(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    np.savez(tmp_path / "colour.npz", x=rng.integers(0, 255, (60, 3, 12, 12)).astype(np.uint8), y=y)
    given = {"dataset": f"npz:{tmp_path / 'colour.npz'}", "model": "linear", "pretrained": True}
    for study in (gradients(limit=5, **given), interpolate(**given)):
        study.write(tmp_path / study.name)
    with Image.open(tmp_path / "interpolate" / "figures" / "interpolate.gif") as opened:
        picture = opened.convert("RGB")
    assert picture.size == (3 * 112, 112)
    assert len({pixel for _, pixel in picture.getcolors(1 << 16) or []}) > 8
    with Image.open(tmp_path / "gradients" / "figures" / "gradients.png") as opened:
        strip = np.asarray(opened.convert("RGB")).astype(int)
    assert np.abs(strip[..., 0] - strip[..., 2]).max() > 50  # in colour
