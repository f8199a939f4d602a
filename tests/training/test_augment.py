from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from robustkit.training.augment import augment


@pytest.mark.parametrize(("kind", "reach", "mirrors"), [("shift", 2, False), ("crop_flip", 4, True)])
def test_each_image_is_a_shift_of_itself_with_zeros_coming_in(kind: str, reach: int, mirrors: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(40, 2, 9, 11, generator=generator)
    out = augment(x, kind, generator)  # type: ignore[arg-type]
    moved = set()
    for image, original in zip(out, x, strict=True):
        found = None
        for flip in (False, True) if mirrors else (False,):
            padded = F.pad(original, (reach,) * 4)
            for top in range(2 * reach + 1):
                for left in range(2 * reach + 1):
                    crop = padded[:, top : top + 9, left : left + 11]
                    if torch.equal(image, crop.flip(2) if flip else crop):
                        found = (flip, top, left)
        assert found is not None
        moved.add(found)
    assert len(moved) > 10
    assert any(flip for flip, _, _ in moved) == mirrors


def test_none_changes_nothing_and_a_seed_repeats_itself() -> None:
    x = torch.rand(5, 1, 6, 6)
    assert augment(x, "none", torch.Generator()) is x
    a = augment(x, "shift", torch.Generator().manual_seed(1))
    assert torch.equal(a, augment(x, "shift", torch.Generator().manual_seed(1)))
