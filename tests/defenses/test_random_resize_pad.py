from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.attacks.pgd import PGD
from robustkit.contracts import Threat
from robustkit.defenses.random_resize_pad import RandomResizePad, resize_pad
from robustkit.params import ParamError
from robustkit.testing import small


@pytest.mark.parametrize("shape", [(3, 10, 10), (1, 10, 15)])
def test_each_image_is_torchs_nearest_resize_somewhere_on_zeros(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    x = torch.rand(120, *shape) + 0.1
    _, height, width = shape
    kinds = set()
    for image, original in zip(resize_pad(x, 0.7), x, strict=True):
        seen = image.sum(dim=0) > 0
        rows, columns = seen.any(dim=1).nonzero().flatten(), seen.any(dim=0).nonzero().flatten()
        top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        size = (bottom - top, right - left)
        assert 7 <= size[0] <= 10
        assert size[1] == round(size[0] * width / height)
        expected = F.pad(
            F.interpolate(original[None], size=size, mode="nearest")[0], (left, width - right, top, height - bottom)
        )
        assert torch.equal(image, expected)
        kinds.add((*size, top, left))
    heights = {kind[0] for kind in kinds}
    assert heights == {7, 8, 9, 10}
    assert {kind[2] for kind in kinds} == {0, 1, 2, 3}
    assert len(kinds) > 20


def test_at_full_size_nothing_changes() -> None:
    x = torch.rand(4, 3, 8, 8)
    assert torch.equal(resize_pad(x, 1.0), x)


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.calls = small.trained(), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        logits: Tensor = self.inner(x)
        return logits


def test_draws_are_averaged_where_a_gradient_is_asked_for_and_only_there() -> None:
    network = Counting()
    wrapped = RandomResizePad(eot=7)(network, small.data(), small.training())
    x, _ = small.data().test.batch(torch.arange(4))
    with torch.no_grad():
        wrapped(x)
    wrapped(x)
    assert network.calls == 2
    point = x.clone().requires_grad_()
    torch.manual_seed(3)
    logits = wrapped(point)
    assert network.calls == 9
    torch.manual_seed(3)
    expected = torch.stack([network.inner(resize_pad(x, 0.9)) for _ in range(7)]).mean(dim=0)
    assert torch.allclose(logits, expected, atol=1e-5)
    (gradient,) = torch.autograd.grad(logits.square().sum(), point)
    assert float(gradient.abs().max()) > 0


def test_the_average_over_draws_brings_down_more() -> None:
    x, y = small.whole(small.data().test)
    network, threat, shares = small.trained(), Threat("linf", 0.1), []
    for eot in (1, 20):
        wrapped = RandomResizePad(smallest=0.6, eot=eot)(network, small.data(), small.training())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            x_adv = PGD(steps=5)(wrapped, x, y, threat)
            with torch.no_grad():
                right = [(wrapped(x_adv).argmax(dim=1) == y).float().mean() for _ in range(20)]
        shares.append(float(torch.stack(right).mean()))
    assert shares[1] < shares[0] - 0.03


@pytest.mark.parametrize("given", [{"smallest": 0.0}, {"smallest": 1.1}, {"eot": 0}])
def test_parameters_are_checked(given: dict[str, float]) -> None:
    with pytest.raises(ParamError, match=next(iter(given))):
        RandomResizePad(**given)  # type: ignore[arg-type]
