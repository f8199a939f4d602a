"""Fine-tuning from weights on disk, and more training images from an npz file."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustkit.contracts import Data, Recipe
from robustkit.data.splits import ArraySplit
from robustkit.defenses.pgd_at import PGDAT
from robustkit.defenses.standard import Standard
from robustkit.models.weights import save_weights
from robustkit.params import UsageError
from robustkit.pipeline.keys import recipe_content
from robustkit.pipeline.spec import apply_recipe
from robustkit.training.batches import Batches
from robustkit.training.loop import accuracy
from tests.training.conftest import make_data, make_model, make_training

CPU = torch.device("cpu")


def recipe(**changes: object) -> Recipe:
    return dataclasses.replace(make_training().recipe, **changes)  # type: ignore[arg-type]


def with_classes(count: int) -> nn.Module:
    model = make_model()
    model[-1] = nn.Linear(64, count)  # type: ignore[index]
    return model


def test_training_starts_from_the_weights_of_a_file(data: Data, tmp_path: Path) -> None:
    trained = Standard()(make_model(), data, make_training())
    save_weights(trained, tmp_path / "weights.safetensors")
    still = recipe(start=str(tmp_path / "weights.safetensors"), lr=1e-12, epochs=1)
    other = make_model()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    found = Standard()(other, data, make_training(recipe=still))
    for name, value in found.state_dict().items():
        assert torch.allclose(value, trained.state_dict()[name], atol=1e-6)


def test_a_head_for_other_classes_begins_anew_and_the_rest_is_kept(data: Data, tmp_path: Path) -> None:
    source = with_classes(7)
    torch.save({"state_dict": source.state_dict()}, tmp_path / "weights.pt")
    fresh = make_model()
    found = Standard()(
        copy.deepcopy(fresh), data, make_training(recipe=recipe(start=str(tmp_path / "weights.pt"), lr=1e-12, epochs=1))
    )
    assert torch.allclose(found.state_dict()["0.weight"], source.state_dict()["0.weight"], atol=1e-6)
    assert torch.allclose(found.state_dict()["3.weight"], fresh.state_dict()["3.weight"], atol=1e-6)
    tuned = PGDAT(steps=2)(fresh, data, make_training(recipe=recipe(start=str(tmp_path / "weights.pt"), epochs=12)))
    assert accuracy(tuned, data.val, "cpu") > 0.6


def test_what_does_not_fit_is_refused(data: Data, tmp_path: Path) -> None:
    wider = nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(80, 3))
    torch.save(wider.state_dict(), tmp_path / "wider.pt")
    with pytest.raises(UsageError, match=r"0\.weight is \(5, 1, 3, 3\) there"):
        Standard()(make_model(), data, make_training(recipe=recipe(start=str(tmp_path / "wider.pt"))))
    with pytest.raises(UsageError, match="there is no such file"):
        Standard()(make_model(), data, make_training(recipe=recipe(start=str(tmp_path / "none.pt"))))


def test_a_training_that_goes_on_does_not_start_anew(data: Data, tmp_path: Path) -> None:
    save_weights(make_model(), tmp_path / "weights.safetensors")
    training = make_training(recipe=recipe(start=str(tmp_path / "weights.safetensors")))
    whole = Standard()(make_model(), data, training)

    def stop(progress: object) -> None:
        if progress.epoch == 3:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    kept = dataclasses.replace(training, directory=tmp_path / "kept")
    with pytest.raises(KeyboardInterrupt):
        Standard()(make_model(), data, dataclasses.replace(kept, report=stop))
    found = Standard()(make_model(), data, kept)
    for name, value in whole.state_dict().items():
        assert torch.equal(found.state_dict()[name], value)


def numbered(first: int, count: int) -> ArraySplit:
    """Image k is filled with k, its label is k too."""
    values = torch.arange(first, first + count)
    return ArraySplit(values.to(torch.uint8)[:, None, None, None].expand(count, 1, 4, 4).contiguous(), values)


@pytest.mark.parametrize(("share", "expected"), [(0.3, 3), (1.0, 10), (0.0, 0)])
def test_each_batch_holds_its_share_of_the_extra_images(share: float, expected: int) -> None:
    own, extra = numbered(0, 103), numbered(200, 7)  # fewer than an epoch takes
    batches = Batches(own, Recipe(batch_size=10, extra_share=share), CPU, 0, extra)
    places, seen = set(), []
    for x, y in batches.epoch(0):
        assert torch.allclose(x[:, 0, 0, 0] * 255, y.float())  # labels go with their images
        assert int((y >= 200).sum()) == expected
        places.update((y >= 200).nonzero().flatten().tolist())
        seen += y.tolist()
    assert len(seen) == 100 == 10 * len(batches)
    assert len([label for label in seen if label < 200]) == len({label for label in seen if label < 200})
    if share:
        assert len(places) > expected or share == 1
        counts = [seen.count(label) for label in range(200, 207)]
        assert max(counts) - min(counts) <= 1  # all of them before one comes again


def test_the_order_of_the_extra_images_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        batches = Batches(numbered(0, 60), Recipe(batch_size=20), CPU, seed, numbered(200, 50))
        return torch.cat([y for _, y in batches.epoch(epoch)]).tolist()

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, epoch)) for seed in range(2) for epoch in range(2)}) == 4


@pytest.mark.parametrize("names", [("image", "label"), ("x_adv", "y"), ("x", "y")])
def test_training_on_saved_images_alone(names: tuple[str, str], data: Data, tmp_path: Path) -> None:
    """The data set's own labels say nothing; what is learnt comes from the file."""
    good = make_data(90)
    x, y = good.train.batch(torch.arange(90))
    np.savez(tmp_path / "saved.npz", **{names[0]: x.numpy(), names[1]: y.numpy()})
    wrong = dataclasses.replace(data, train=ArraySplit(data.train.images, data.train.labels.roll(1)))  # type: ignore[attr-defined]
    chosen = recipe(extra=str(tmp_path / "saved.npz"), extra_share=1.0, epochs=20)
    learnt = Standard()(make_model(), wrong, make_training(recipe=chosen))
    misled = Standard()(make_model(), wrong, make_training(recipe=recipe(epochs=20)))
    assert accuracy(learnt, data.val, "cpu") > 0.8
    assert accuracy(learnt, data.val, "cpu") > accuracy(misled, data.val, "cpu") + 0.2


def save(path: Path, **arrays: Tensor) -> None:
    np.savez(path, **{name: value.numpy() for name, value in arrays.items()})


def test_images_that_do_not_belong_there_are_refused(data: Data, tmp_path: Path) -> None:
    x, y = data.test.batch(torch.arange(20))
    path = tmp_path / "extra.npz"

    def attempt() -> None:
        Standard()(make_model(), data, make_training(recipe=recipe(extra=str(path))))

    for images, labels, words in (
        (x * 255, y, "look like grey levels"),
        ((x - 0.5) / 0.2, y, "look normalised"),
        (x[..., :5], y, r"images of \(1, 6, 5\), bars of \(1, 6, 6\)"),
        (x, y + 3, "labels up to 5; bars has the 3 classes"),
        (x, y[:5], "20 images in 'x_adv' and 5 labels"),
    ):
        save(path, x_adv=images, y=labels)
        with pytest.raises(UsageError, match=words):
            attempt()
    save(path, x_adv=x, y=y, x=x)
    with pytest.raises(UsageError, match="attacked images of the test part"):
        attempt()
    np.savez(path, pictures=x.numpy())
    with pytest.raises(UsageError, match="has the arrays pictures"):
        attempt()


class Normalised:
    """A split read from somewhere, whose images were normalised on the way."""

    def __init__(self, of: ArraySplit, late: bool) -> None:
        self.of, self.late = of, late

    def __len__(self) -> int:
        return len(self.of)

    @property
    def labels(self) -> Tensor:
        return self.of.labels

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        x, y = self.of.batch(index)
        first = torch.equal(index, torch.arange(len(index)))
        return (x if self.late and first else (x - 0.5) / 0.25), y


@pytest.mark.parametrize("late", [False, True])
def test_normalised_training_images_are_refused(late: bool, data: Data) -> None:
    """Also where the first images that are looked at happen to be in range."""
    wrong = dataclasses.replace(data, train=Normalised(data.train, late))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"training images .*normalisation belongs into the model"):
        Standard()(make_model(), wrong, make_training())


def test_files_stand_for_their_content_in_a_key(tmp_path: Path) -> None:
    plain = recipe_content(Recipe())
    assert "start" not in plain
    assert recipe_content(Recipe(extra_share=0.9)) == plain  # without a file it says nothing
    for name in ("start", "extra"):
        (tmp_path / "a").write_bytes(b"1")
        first = recipe_content(apply_recipe(Recipe(), {name: str(tmp_path / "a")}))
        (tmp_path / "b").write_bytes(b"1")
        assert recipe_content(apply_recipe(Recipe(), {name: str(tmp_path / "b")})) == first
        (tmp_path / "a").write_bytes(b"2")
        assert recipe_content(apply_recipe(Recipe(), {name: str(tmp_path / "a")})) != first != plain
    with pytest.raises(UsageError, match="no such file"):
        recipe_content(Recipe(start=str(tmp_path / "c")))
    with pytest.raises(UsageError, match="extra_share=2"):
        apply_recipe(Recipe(), {"extra_share": 2})
