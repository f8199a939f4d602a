from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robustkit.data.imagenet import ImageNet, class_names
from robustkit.data.load import load_data
from robustkit.host import Host
from robustkit.imagenet import CLASSES, RESTRICTED, group_of, wordnet_ids
from robustkit.params import UsageError

RNG = np.random.default_rng(5)
TENCH, BULLFROG, GOOSE, JEEP = "n01440764", "n01641577", "n01855672", "n03594945"


def write(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for k in range(count):
        Image.fromarray(RNG.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{k}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, count in ((TENCH, 5), (BULLFROG, 5), (GOOSE, 6), (JEEP, 4)):
        write(tmp_path / name, count)
    return tmp_path


def test_ids_stand_in_the_order_of_the_names() -> None:
    """torchvision's names and the ids have two sources; a shift of either would part these."""
    ids, names = wordnet_ids(), class_names()
    assert len(ids) == len(names) == CLASSES
    assert list(ids) == sorted(ids)
    known = {TENCH: "tench", GOOSE: "goose", JEEP: "jeep", "n02123045": "tabby", "n15075141": "toilet tissue"}
    assert {name: names[ids[name]] for name in known} == known


def test_groups_are_the_kinds_of_animals_they_are_called() -> None:
    names = class_names()
    ends = {group: (names[first], names[last]) for group, (first, last) in RESTRICTED.items()}
    assert ends == {
        "dog": ("Chihuahua", "Mexican hairless"),
        "cat": ("tabby", "Egyptian cat"),
        "frog": ("bullfrog", "tailed frog"),
        "turtle": ("loggerhead", "box turtle"),
        "bird": ("black grouse", "black swan"),
        "primate": ("orangutan", "squirrel monkey"),
        "fish": ("barracouta", "puffer"),
        "crab": ("Dungeness crab", "king crab"),
        "insect": ("tiger beetle", "dragonfly"),
    }
    sizes = [last - first + 1 for first, last in RESTRICTED.values()]
    assert sizes == [118, 5, 3, 5, 21, 18, 9, 4, 20]
    assert [group_of(k) for k in (0, 151, 268, 269, 319, 999)] == [None, 0, 0, None, 8, None]


def test_a_part_of_imagenet_keeps_the_numbers_of_the_whole(root: Path) -> None:
    data = ImageNet(path=str(root), size=16, tested=0.5)()
    assert data.classes == class_names()
    assert (len(data.train), len(data.val), len(data.test)) == (8, 2, 10)
    labels = torch.cat([data.train.labels, data.val.labels, data.test.labels])
    assert labels.bincount(minlength=CLASSES).nonzero().flatten().tolist() == [0, 30, 99, 609]
    x, y = data.test.batch(torch.arange(10))
    assert x.shape == (10, 3, 16, 16)
    assert y.tolist() != sorted(y.tolist())  # so that the first images are not of one class
    again = ImageNet(path=str(root), size=16, tested=0.5)()
    assert torch.equal(again.test.batch(torch.arange(10))[0], x)
    assert again.fingerprint == data.fingerprint


def test_restricted_imagenet_has_nine_classes_and_leaves_the_others_out(root: Path) -> None:
    data = load_data(f"imagenet:{root}:restricted=true:size=16", host=Host(discover=False))
    assert data.classes == tuple(RESTRICTED)
    labels = torch.cat([data.train.labels, data.val.labels, data.test.labels])
    assert labels.bincount(minlength=9).tolist() == [0, 0, 5, 0, 6, 0, 0, 0, 0]  # frogs and birds
    assert data.fingerprint != ImageNet(path=str(root), size=16)().fingerprint


def test_train_and_val_as_published(tmp_path: Path) -> None:
    for name in (TENCH, GOOSE):
        write(tmp_path / "train" / name, 10)
        write(tmp_path / "val" / name, 3)
    data = ImageNet(path=str(tmp_path), size=16)()
    assert (len(data.train), len(data.val), len(data.test)) == (16, 4, 6)


def test_what_is_no_class_is_named(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    write(root / "birds", 1)
    with pytest.raises(UsageError, match=r"birds is no class of ImageNet.*take imagefolder:"):
        ImageNet(path=str(root))()
    other = tmp_path_factory.mktemp("other")
    with pytest.raises(UsageError, match="has no folders of classes"):
        ImageNet(path=str(other))()
    write(other / JEEP, 2)
    with pytest.raises(UsageError, match="none of Restricted ImageNet's classes"):
        ImageNet(path=str(other), restricted=True)()
