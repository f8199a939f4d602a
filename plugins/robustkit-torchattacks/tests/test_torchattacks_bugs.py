"""What is wrong in torchattacks 3.5.1, asserted: a test that fails here says that a new release mends it."""

from __future__ import annotations

from typing import Any

import pytest
import robustkit_torchattacks
import torch
from torch import nn

from robustkit.contracts import Threat
from robustkit.host import Host
from robustkit.params import ParamError, UsageError
from robustkit.testing.yardstick import images, labels, network, yardstick

torchattacks = pytest.importorskip("torchattacks")

HOST = Host({"torchattacks": robustkit_torchattacks}, discover=False)
LINF, L2 = Threat("linf", 0.05), Threat("l2", 1.0)


def _attack(text: str) -> Any:
    return HOST.build("attack", f"torchattacks.{text}").value


def test_cw_does_nothing_on_negative_logits_and_is_refused() -> None:
    ruler = yardstick("l2")
    negative = nn.Sequential(ruler.model, nn.LogSoftmax(dim=1))
    assert torch.equal(labels(negative, ruler.x), ruler.y)
    fooled = _attack("cw")(ruler.model, ruler.x, ruler.y, L2)
    assert bool((labels(ruler.model, fooled) != ruler.y).all())
    untouched = torchattacks.CW(negative)(ruler.x, ruler.y)
    assert torch.allclose(untouched, ruler.x, atol=1e-6), "mended: drop the refusal in minimal.CW"
    with pytest.raises(UsageError, match="all logits are negative"):
        _attack("cw")(negative, ruler.x, ruler.y, L2)


def test_cw_never_moves_pixels_at_the_box() -> None:
    model, x = network(), images()
    at_box = (x == 0) | (x == 1)
    assert bool(at_box.any())
    moved = torchattacks.CW(model)(x, labels(model, x)) != x
    assert bool(moved.any())
    assert not bool(moved[at_box].any()), "mended: drop the note at cw"


def test_upgd_margin_does_nothing_on_negative_logits_and_is_refused() -> None:
    ruler = yardstick("linf")
    negative = nn.Sequential(ruler.model, nn.LogSoftmax(dim=1))
    direct = torchattacks.UPGD(negative, eps=0.05, alpha=0.0125, loss="margin")(ruler.x, ruler.y)
    assert torch.equal(direct, ruler.x), "mended: drop the refusal in losses.UPGD"
    with pytest.raises(UsageError, match="all logits are negative"):
        _attack("upgd:loss=margin")(negative, ruler.x, ruler.y, LINF)
    fooled = _attack("upgd:loss=margin")(ruler.model, ruler.x, ruler.y, LINF)
    assert bool((labels(ruler.model, fooled) != ruler.y).all())


def test_upgd_targeted_dlr_has_no_gradient() -> None:
    ruler = yardstick("linf")
    attack = torchattacks.UPGD(ruler.model, eps=0.05, alpha=0.0125, loss="dlr")
    attack.set_mode_targeted_by_label(quiet=True)
    assert torch.equal(attack(ruler.x, ruler.rival), ruler.x), "mended: drop the refusal in losses.UPGD"
    with pytest.raises(ParamError, match="loss=ce"):
        _attack("upgd:loss=dlr:targeted=true")


class _FlatAtFirst(nn.Module):
    """A linear model whose first pass has no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = yardstick("linf").model
        self.passes = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        logits: torch.Tensor = self.linear(x)
        return logits + 0 * x.sum() if self.passes > 1 else 0 * logits


@pytest.mark.parametrize("name", ["mifgsm", "nifgsm", "difgsm", "tifgsm", "upgd"])
def test_one_flat_gradient_freezes_a_sample(name: str) -> None:
    ruler = yardstick("linf")
    kind = getattr(torchattacks, robustkit_torchattacks.WRAPS[name])
    assert not torch.equal(kind(ruler.model, decay=1.0)(ruler.x, ruler.y), ruler.x)
    frozen = kind(_FlatAtFirst().eval(), decay=1.0)(ruler.x, ruler.y)
    assert torch.equal(frozen, ruler.x), f"mended: drop the note at {name}"


def test_fab_with_given_targets_attacks_nothing() -> None:
    ruler = yardstick("l2")
    attack = torchattacks.FAB(ruler.model, norm="L2", eps=10 * ruler.margin)
    attack.set_mode_targeted_by_label(quiet=True)
    assert torch.equal(attack(ruler.x, ruler.rival), ruler.x), "mended: offer targeted in parameter_free.FAB"


@pytest.mark.parametrize("name", ["APGD", "APGDT", "FAB"])
def test_l1_crashes(name: str) -> None:
    model, x = network(), images()
    with pytest.raises((AssertionError, UnboundLocalError)):
        getattr(torchattacks, name)(model, norm="L1", eps=4.0)(x, labels(model, x))


@pytest.mark.parametrize("name", ["TIFGSM", "PIFGSM", "PIFGSMPP"])
def test_three_channels_alone(name: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).eval()
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = labels(model, x)
    with pytest.raises(RuntimeError):
        getattr(torchattacks, name)(model)(x, y)
    with pytest.raises(UsageError, match="3 channels"):
        _attack(name.lower())(model, x, y, LINF)


@pytest.mark.parametrize(
    ("text", "classes", "works"),
    [
        ("apgdt", 3, False),
        ("apgdt", 4, True),
        ("apgd:loss=dlr", 2, False),
        ("apgd:loss=dlr", 3, True),
        ("apgd", 2, True),
        ("upgd:loss=dlr", 2, False),
        ("fab", 2, True),
        ("fab:multi_targeted=true", 3, True),
        ("apgd_fab_square_10:queries=5", 3, False),
        ("apgd_fab_square_10:queries=5", 4, True),
        ("apgd_fab_square_10:version=rand", 3, True),
        ("apgd_fab_square_10:version=rand", 2, False),
    ],
)
def test_few_classes(text: str, classes: int, works: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, classes)).eval()
    x = images()
    y = labels(model, x)
    if works:
        assert bool((labels(model, _attack(text)(model, x, y, Threat("linf", 0.3))) != y).all())
    else:
        with pytest.raises(UsageError, match="at least"):
            _attack(text)(model, x, y, LINF)


def test_jsma_takes_ten_classes_for_granted_and_the_adapter_does_not() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).eval()
    x = images(8)
    y = labels(model, x)
    assert bool((y == 3).any())
    with pytest.raises(IndexError):
        torchattacks.JSMA(model, gamma=1.0)(x[y == 3], y[y == 3])
    found = labels(model, _attack("jsma:gamma=1")(model, x, y, Threat("l0", 12.0)))
    assert torch.equal(found, (y + 1) % 4)
    aimed = labels(model, _attack("jsma:gamma=1:targeted=true")(model, x, (y + 2) % 4, Threat("l0", 12.0)))
    assert torch.equal(aimed, (y + 2) % 4)


def test_deepfool_stalls_at_the_box() -> None:
    """The nearest boundary asks pixels at 0 and 1 to leave the box; after clamping, nothing moves."""
    weight = torch.zeros(2, 3)
    weight[0] = torch.tensor([1.0, 1.0, 0.05])
    layer = nn.Linear(3, 2, bias=False)
    layer.weight.data = weight
    model = nn.Sequential(nn.Flatten(), layer).eval()
    layer.bias = nn.Parameter(torch.tensor([0.02, 0.0]))
    x = torch.tensor([0.0, 0.0, 0.5]).reshape(1, 1, 1, 3)
    y = labels(model, x)
    result = torchattacks.DeepFool(model)(x, y)
    assert torch.equal(labels(model, result), y)


def test_autoattack_has_ten_iterations() -> None:
    members = torchattacks.AutoAttack(network())._autoattack.attacks
    steps = {type(member).__name__: getattr(member, "steps", None) for member in members}
    assert steps == {"APGD": 10, "APGDT": 10, "FAB": 10, "Square": None}
    assert "not autoattack" in HOST.find("attack", "apgd_fab_square_10").entry.notes.lower()
    own = [r for r in HOST.entries("attack") if r.provider.name == "torchattacks"]
    assert own
    assert not any(r.entry.name == "autoattack" for r in own)


def test_apgdt_l2_gives_all_samples_the_first_ones_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a fixed start the samples of a batch must not affect one another, and in l2 alone they do."""
    model, x = network(), images(8)
    y = labels(model, x)
    monkeypatch.setattr(torch, "randn", lambda *shape: torch.ones(*shape))
    monkeypatch.setattr(torch, "rand", lambda *shape: torch.ones(*shape))
    far = {}
    for norm, eps in (("Linf", 0.1), ("L2", 0.8)):
        attack = torchattacks.APGDT(model, norm=norm, eps=eps, steps=100)
        alone = torch.cat([attack(x[i : i + 1], y[i : i + 1]) for i in range(len(x))])
        far[norm] = float((attack(x, y) - alone).detach().abs().max())
    assert far["Linf"] < 1e-5
    assert far["L2"] > 1e-3, "mended: drop the note at apgdt"


def test_pixle_takes_columns_for_rows() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 16, 4)).eval()
    x = torch.rand(1, 3, 4, 16, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UsageError, match="square"):
        _attack("pixle")(model, x, labels(model, x), Threat("l0", 12.0))
    with pytest.raises(UsageError, match="squares"):
        _attack("difgsm")(model, x, labels(model, x), LINF)


def test_pixle_of_single_samples_and_its_sizes() -> None:
    model, x = network(), images()
    y = labels(model, x)
    result = _attack("pixle:update_each_iteration=true:x_dimensions=0.1+0.3")(model, x, y, Threat("l0", 12.0))
    assert result.shape == x.shape
    with pytest.raises(UsageError, match="x_dimensions"):
        _attack("pixle:x_dimensions=3")


def test_onepixel_counts_values() -> None:
    model, x = network(), images()
    with pytest.raises(UsageError, match="no whole pixel"):
        _attack("onepixel")(model, x, labels(model, x), Threat("l0", 2.0))


@pytest.mark.parametrize("name", ["APGD", "APGDT", "FAB", "Square"])
def test_library_reseeds_torch(name: str) -> None:
    """Why the adapter gives every call random streams of its own."""
    model, x = network(), images(2)
    attack = getattr(torchattacks, name)(model, eps=0.001)
    if name == "Square":
        attack.n_queries = 2
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        attack(x, labels(model, x))
        states.append(torch.get_rng_state())
    assert torch.equal(*states), f"mended in {name}"
