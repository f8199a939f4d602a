"""The built-in poisons against the kit that plugin authors use, and against their definitions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import map_coordinates
from scipy.stats import binomtest

from robustkit import testing
from robustkit.data.splits import ArraySplit, Subset
from robustkit.engine.backdoor import backdoor_success
from robustkit.params import UsageError
from robustkit.poisons.badnets import BadNets
from robustkit.poisons.blended import Blended
from robustkit.poisons.manifest import manifest
from robustkit.poisons.planting import MarkedSplit, goal
from robustkit.poisons.sig import SIG
from robustkit.poisons.wanet import WaNet


@testing.parametrize("robustkit", kinds=["poison"])
def test_poison(check: testing.Check) -> None:
    check()


def clean(count: int = 200, classes: int = 5) -> ArraySplit:
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (count, 3, 12, 10), generator=generator, dtype=torch.uint8)
    return ArraySplit(images, torch.arange(count) % classes)


def poisoned(poison: Any, split: Any = None, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    split = clean() if split is None else split
    x, y = poison(split, torch.Generator().manual_seed(seed)).batch(torch.arange(len(split)))
    return x, y


def test_a_patch_changes_just_its_pixels() -> None:
    x = torch.rand(4, 3, 12, 10)
    marked = BadNets(size=2, margin=3, place="top_right", color=(0.1, 0.2, 0.3)).trigger(x)
    expected = x.clone()
    expected[:, :, 3:5, 5:7] = torch.tensor([0.1, 0.2, 0.3]).reshape(3, 1, 1)
    assert torch.equal(marked, expected)


def test_an_image_as_patch_and_as_pattern(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "p.png")
    patch = torch.from_numpy(levels).permute(2, 0, 1) / 255
    x = torch.rand(2, 3, 4, 4)
    shown = BadNets(size=4, margin=0, image=str(tmp_path / "p.png")).trigger(x)
    torch.testing.assert_close(shown, patch.expand(2, 3, 4, 4))
    blended = Blended(alpha=0.25, image=str(tmp_path / "p.png")).trigger(x)
    torch.testing.assert_close(blended, 0.75 * x + 0.25 * patch)


def test_stripes_are_the_sinusoid_of_the_paper() -> None:
    x = torch.full((1, 1, 5, 24), 0.5)
    stripes = SIG(delta=0.1, frequency=6).trigger(x)
    for column in range(24):
        wave = 0.5 + 0.1 * math.sin(2 * math.pi * column * 6 / 24)
        torch.testing.assert_close(stripes[0, 0, :, column], torch.full((5,), wave))


def test_a_warp_samples_at_the_shifted_places_like_scipy() -> None:
    x = torch.rand(1, 1, 14, 11)
    poison = WaNet(strength=1.2)
    shifts = poison.field(14, 11).numpy()
    rows, columns = np.meshgrid(np.arange(14), np.arange(11), indexing="ij")
    places = [np.clip(rows + shifts[..., 1], 0, 13), np.clip(columns + shifts[..., 0], 0, 10)]
    expected = map_coordinates(x[0, 0].numpy().astype(np.float64), places, order=1)
    np.testing.assert_allclose(poison.trigger(x)[0, 0].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("poison", [BadNets(target=2, rate=0.1), Blended(target=2, rate=0.1)], ids=["patch", "blend"])
def test_a_share_of_the_other_classes_is_marked_and_relabelled(poison: Any) -> None:
    before, labels = clean().batch(torch.arange(200))
    x, y = poisoned(poison)
    changed = (x != before).flatten(1).any(dim=1)
    assert int(changed.sum()) == 20
    assert bool((labels[changed] != 2).all())
    assert bool((y[changed] == 2).all())
    assert torch.equal(y[~changed], labels[~changed])
    torch.testing.assert_close(x[changed], poison.trigger(before[changed]), atol=0.5 / 255 + 1e-6, rtol=0)


def test_all_to_all_moves_every_class_to_the_next() -> None:
    _, labels = clean().batch(torch.arange(200))
    _, y = poisoned(BadNets(mode="all_to_all", rate=0.3))
    moved = y != labels
    assert int(moved.sum()) == 60
    assert torch.equal(y[moved], (labels[moved] + 1) % 5)


def test_clean_labels_are_kept_and_only_the_target_class_is_marked() -> None:
    before, labels = clean().batch(torch.arange(200))
    x, y = poisoned(SIG(target=1, rate=0.5))
    changed = (x != before).flatten(1).any(dim=1)
    assert torch.equal(y, labels)
    assert bool((labels[changed] == 1).all())
    assert int(changed.sum()) == 20  # half of the 40 images of the class


def test_warped_images_without_the_trigger_keep_their_labels() -> None:
    before, labels = clean().batch(torch.arange(200))
    x, y = poisoned(WaNet(target=0, rate=0.1, noise_rate=0.2))
    changed = (x != before).flatten(1).any(dim=1)
    assert int(changed.sum()) == 60
    assert int((y != labels).sum()) == 20


def test_data_on_disk_is_marked_as_it_is_read() -> None:
    whole = clean()

    class Reader:
        labels = whole.labels
        batch = staticmethod(whole.batch)

        def __len__(self) -> int:
            return len(whole)

    poison = BadNets(target=3)
    lazy = poison(Reader(), torch.Generator().manual_seed(4))  # type: ignore[arg-type]
    assert isinstance(lazy, MarkedSplit)
    at_once = poison(Subset(whole, torch.arange(200)), torch.Generator().manual_seed(4))
    for one, other in zip(lazy.batch(torch.arange(200)), at_once.batch(torch.arange(200)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_the_manifest_stands_for_the_content() -> None:
    split = clean()
    poison = BadNets(target=2, rate=0.1)
    made = [
        manifest("badnets", poison, split, poison(split, torch.Generator().manual_seed(s)), seed=s) for s in (0, 0, 1)
    ]
    assert made[0] == made[1]
    assert made[0]["hash"] != made[2]["hash"]
    assert made[0]["trigger"] == made[2]["trigger"]
    assert (made[0]["target"], made[0]["relabelled"], made[0]["samples"]) == (2, 20, 200)
    assert BadNets(**{**made[0]["params"], "color": tuple(made[0]["params"]["color"])}) == poison


def test_success_leaves_out_images_of_the_wanted_class() -> None:
    y = torch.tensor([0, 1, 2, 2, 1, 0])
    pred = torch.tensor([0, 0, 0, 2, 1, 0])
    wanted, judged = goal(BadNets(target=0), y, 3)
    assert judged.tolist() == [False, True, True, True, True, False]
    found = backdoor_success(pred, y, wanted)
    assert (found.asr.hits, found.asr.count, found.ra.hits) == (2, 4, 2)
    peer = binomtest(2, 4).proportion_ci(0.95, method="wilson")
    assert found.asr.interval == pytest.approx((peer.low, peer.high), abs=1e-9)


def test_success_of_all_to_all_is_the_next_class() -> None:
    y = torch.tensor([0, 1, 2])
    wanted, judged = goal(BadNets(mode="all_to_all"), y, 3)
    assert wanted.tolist() == [1, 2, 0]
    assert bool(judged.all())
    found = backdoor_success(torch.tensor([1, 2, 2]), y, wanted)
    assert found.asr.value == pytest.approx(2 / 3)
    assert found.ra.value == pytest.approx(1 / 3)
    assert backdoor_success(y[:0], y[:0], y[:0]).asr.value is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: BadNets(mode="all_to_all", clean_label=True), "clean_label=true keeps the labels"),
        (lambda: BadNets(mode="all_to_all", target=3), "target=3 means nothing"),
        (lambda: BadNets(size=12).trigger(torch.zeros(1, 1, 12, 12)), "does not fit 12 x 12"),
        (lambda: BadNets(color=(0.0, 1.0)).trigger(torch.zeros(1, 3, 12, 12)), "2 values for images of 3 channels"),
        (lambda: BadNets(image="missing.png").trigger(torch.zeros(1, 3, 12, 12)), "no such file"),
        (lambda: BadNets(target=9)(clean(), torch.Generator()), "target=9 is no class"),
        (lambda: goal(BadNets(target=9), torch.tensor([0]), 5), "target=9 is no class"),
    ],
    ids=["labels", "aimless", "size", "colours", "file", "target", "goal"],
)
def test_mistakes_are_named(make: Any, words: str) -> None:
    with pytest.raises((ValueError, UsageError), match=words):
        make()
