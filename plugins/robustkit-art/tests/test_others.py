"""ART's defenses, certifier, detectors and poison do what they are for."""

from __future__ import annotations

import copy
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import robustkit_art
import torch
from art.defences import postprocessor  # noqa: TID253
from art.defences.detector.poison import ProvenanceDefense  # noqa: TID253
from PIL import Image
from robustkit_art.detectors import ActivationDefence, SpectralSignatures
from robustkit_art.poisons import Backdoor
from robustkit_art.preprocessing import Preprocessed
from robustkit_art.smoothing import RandomizedSmoothing
from scipy.stats import norm

from robustkit.contracts import ABSTAIN, Threat
from robustkit.data.splits import ArraySplit
from robustkit.host import Host
from robustkit.params import UsageError
from robustkit.testing import small

HOST = Host({"art": robustkit_art}, discover=False)


def defend(text, model, data=None, training=None):
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - ART draws there
    defense = HOST.build("defense", f"art.{text}").value
    return defense(model, data or small.data(), training or small.training()).eval()


def test_squeezing_leaves_the_levels_it_promises_and_passes_the_gradient(subject) -> None:
    seen = []
    network = torch.nn.Sequential(_Seen(seen), subject.model)
    defended = defend("feature_squeezing:bit_depth=2", network)
    x = subject.x.clone().requires_grad_()
    torch.nn.functional.cross_entropy(defended(x), subject.y).backward()
    assert len(seen[0].unique()) <= 4
    assert float(x.grad.abs().sum()) > 0
    assert torch.allclose(seen[0], (subject.x * 3).round() / 3, atol=1e-6)
    subject.model.zero_grad(set_to_none=True)


class _Seen(torch.nn.Module):
    def __init__(self, seen: list) -> None:
        super().__init__()
        self.seen = seen

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.detach().clone())
        return x


def test_jpeg_is_pillows(subject) -> None:
    seen = []
    defend("jpeg:quality=20", torch.nn.Sequential(_Seen(seen), subject.model))(subject.x[:1])
    grey = (subject.x[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(grey).save(buffer, format="jpeg", quality=20)
    expected = torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1) / 255
    assert torch.allclose(seen[0][0], expected, atol=1e-5)


def test_median_filter_removes_single_pixels_and_has_a_gradient() -> None:
    seen = []
    network = torch.nn.Sequential(_Seen(seen), torch.nn.Flatten(), torch.nn.Linear(192, 10))
    defended = defend("spatial_smoothing", network)
    x = torch.full((1, 3, 8, 8), 0.5)
    x[..., 4, 4] = 1.0
    x.requires_grad_()
    defended(x).sum().backward()
    assert bool((seen[0] == 0.5).all())
    assert float(x.grad.abs().sum()) > 0


def test_total_variation_smooths(subject) -> None:
    seen = []
    defend("total_variation:prob=1:lamb=1", torch.nn.Sequential(_Seen(seen), subject.model))(subject.x[:2])

    def variation(x):
        return float((x[..., 1:] - x[..., :-1]).abs().sum())

    assert variation(seen[0]) < 0.95 * variation(subject.x[:2])


def test_noise_differs_at_every_pass(subject) -> None:
    for name in ("gaussian_noise_input", "gaussian_noise_output"):
        defended = defend(name, subject.model)
        with torch.no_grad():
            assert not torch.equal(defended(subject.x), defended(subject.x)), name


@pytest.mark.parametrize("name", ["reverse_sigmoid", "rounded", "high_confidence", "class_labels"])
def test_answers_keep_the_class_and_gradients_ignore_them(name, subject) -> None:
    defended = defend(name, subject.model)
    x = subject.x.clone().requires_grad_()
    logits = defended(x)
    assert torch.equal(logits.argmax(dim=1), subject.y)
    (through,) = torch.autograd.grad(logits.sum(), x)
    (plain,) = torch.autograd.grad(subject.model(x).sum(), x)
    assert torch.allclose(through, plain)


def test_class_labels_of_a_batch_are_wrong_in_art_and_right_here(subject) -> None:
    with torch.no_grad():
        probabilities = subject.model(subject.x).softmax(dim=1).numpy()
    broken = postprocessor.ClassLabels()(probabilities)
    assert (broken.sum(axis=1) > 1).any(), "mended: hand it batches"
    with torch.no_grad():
        right = defend("class_labels", subject.model)(subject.x).exp()
    assert torch.allclose(right.sum(dim=1), torch.ones(len(right)), atol=1e-4)


def test_smoothing_agrees_with_the_closed_form() -> None:
    """The smoothed version of a linear two-class network has P(class) = Phi(margin / sigma)."""
    weight = torch.zeros(2, 48)
    weight[1, 0] = 1.0
    layer = torch.nn.Linear(48, 2)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(torch.tensor([0.0, -0.5]))
    model = torch.nn.Sequential(torch.nn.Flatten(), layer).eval()
    x = torch.full((2, 3, 4, 4), 0.5)
    x[0, 0, 0, 0] = 0.7
    np.random.seed(0)  # noqa: NPY002
    found = RandomizedSmoothing(sigma=0.25, n=4000)(model, x, torch.tensor([1, 1]))
    assert int(found.prediction[0]) == 1
    assert int(found.prediction[1]) == ABSTAIN or float(found.radius[1]) < 0.02
    assert 0.15 < float(found.radius[0]) < 0.2
    bound = float(norm.cdf(float(found.radius[0]) / 0.25))
    assert bound < norm.cdf(0.2 / 0.25)


def test_detectors_find_a_backdoor() -> None:
    data = small.data()
    x, y = small.whole(data.train)
    x, y = x.clone(), y.clone()
    torch.manual_seed(0)
    poisoned = torch.arange(0, 400, 10)[:12] + 1  # of class 1
    x[poisoned, :, :3, :3] = 1.0
    y[poisoned] = 0
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.eval()
    dirty = replace(data, train=ArraySplit(x, y))
    np.random.seed(0)  # noqa: NPY002
    spectral = SpectralSignatures(expected_pp_poison=0.2)(model, dirty)
    ranks = torch.as_tensor(spectral.score)[y == 0]
    is_poison = torch.isin((y == 0).nonzero().flatten(), poisoned)
    found = ranks.argsort(descending=True)[: len(poisoned)]
    assert int(is_poison[found].sum()) >= 9
    clusters = ActivationDefence()(model, dirty)
    flagged = torch.as_tensor(clusters.flagged)
    assert int(flagged[poisoned].sum()) >= 9
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_roni_rejects_a_harmful_sample_and_leaves_the_network_alone() -> None:
    data = small.data()
    model = small.trained()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x, y = small.whole(data.train)
    y = y.clone()
    y[0] = 5
    dirty = replace(data, train=ArraySplit(x[:20], y[:20]))
    roni = HOST.build("detector", "art.roni:suspects=4:lr=0.001").value
    np.random.seed(0)  # noqa: NPY002
    verdict = roni(model, dirty)
    assert torch.as_tensor(verdict.score).shape == (20,)
    assert len(verdict.table) == 4
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_provenance_takes_out_everything_on_grey_levels() -> None:
    grey = torch.randint(0, 256, (40, 64)).numpy().astype(np.float32)
    kept, _ = ProvenanceDefense.filter_input(grey, np.zeros(40), grey[:30])
    assert len(kept) < 10, "mended: offer it where data name their sources"


def test_backdoor_marks_the_share_and_the_trigger_is_what_it_marks() -> None:
    train = small.data().train
    poison = Backdoor(target=3, share=0.1)
    poisoned = poison(train, torch.Generator().manual_seed(0))
    x, y = small.whole(train)
    marked, labels = small.whole(poisoned)
    changed = (labels != y).nonzero().flatten()
    assert len(changed) == 40
    assert bool((labels[changed] == 3).all())
    assert torch.equal(marked[changed], poison.trigger(x[changed]))
    kept = labels == y
    assert torch.equal(marked[kept], x[kept])
    with pytest.raises(UsageError, match="no class"):
        Backdoor(target=77)(train, torch.Generator())
    with pytest.raises(UsageError, match="does not fit"):
        Backdoor(distance=7).trigger(torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize(
    "name", ["madry_pgd", "fbf", "trades:steps=3", "awp:steps=3", "adversarial_training:steps=3:ratio=1"]
)
def test_adversarial_training_withstands_more_than_plain_training(name) -> None:
    """Robust accuracy under ART's PGD at the threat model, against the kit's plainly trained network."""
    threat = Threat("linf", 0.15)
    training = replace(small.training(), threat=threat, recipe=replace(small.recipe(), epochs=8))
    data = small.data()
    x, y = small.whole(data.test)
    attack = HOST.build("attack", "art.pgd:steps=10").value

    def robust(model):
        x_adv = attack(model, x, y, threat)
        with torch.no_grad():
            return float((model(x_adv).argmax(dim=1) == y).float().mean())

    plain = robust(small.trained())
    hardened = defend(name, small.untrained(), data, training)
    assert small.accuracy(hardened, data.test) > 0.8
    assert robust(hardened) > plain + 0.25


def test_trainers_refuse_norms_they_dont_know() -> None:
    for name, threat in (("madry_pgd", Threat("l2", 1.0)), ("trades", Threat("l1", 4.0))):
        with pytest.raises(UsageError, match="linf"):
            defend(name, small.untrained(), training=replace(small.training(), threat=threat))


def test_a_wrapped_network_can_be_copied() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 10)).eval()
    for name in ("jpeg", "spatial_smoothing", "rounded"):
        defended = defend(name, network)
        x = torch.rand(2, 3, 8, 8)
        with torch.no_grad():
            assert torch.allclose(copy.deepcopy(defended)(x), defended(x), atol=1e-6), name
    assert isinstance(defend("jpeg", network), Preprocessed)
