"""What ART 1.20.1 does wrong, so that a release that mends it is noticed: each test fails on that day."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from art.attacks.evasion import geometric_decision_based_attack  # noqa: TID253
from robustkit_art.bridge import classifier, evasion, generate, one_hot
from torch import nn

from robustkit.norms import distance
from robustkit.testing import yardstick


def standing(model: nn.Module, x_adv: torch.Tensor, y: torch.Tensor) -> int:
    with torch.no_grad():
        return int((model(x_adv).argmax(dim=1) == y).sum())


@pytest.mark.parametrize("attack", [evasion.AutoConjugateGradient, evasion.RescalingAutoConjugateGradient])
def test_conjugate_gradient_in_linf_never_takes_the_sign(attack) -> None:
    """`grad = np.sign(cgradk)`, then `perturbation = cgradk`: where gradients are small, so are the steps."""
    ruler = yardstick("linf")
    model = nn.Sequential(ruler.model, _Small()).eval()
    eps = 1.5 * ruler.margin
    arguments = {"norm": np.inf, "eps": eps, "eps_step": 2 * eps, "max_iter": 30, "nb_random_init": 1, "verbose": False}
    with classifier(model, ruler.x) as estimator:
        labels = one_hot(ruler.y, 10)
        broken = generate(attack(estimator, loss_type="cross_entropy", **arguments), ruler.x, labels)
        apgd = evasion.AutoProjectedGradientDescent(estimator, loss_type="cross_entropy", **arguments)
        right = generate(apgd, ruler.x, labels)
    assert standing(ruler.model, right, ruler.y) == 0
    assert standing(ruler.model, broken, ruler.y) > 0, "mended: offer linf"


class _Small(nn.Module):
    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return 0.001 * logits


@pytest.mark.parametrize(
    "build",
    [
        lambda estimator, eps: evasion.FastGradientMethod(estimator, norm=1, eps=eps),
        lambda estimator, eps: evasion.ProjectedGradientDescent(
            estimator, norm=1, eps=eps, eps_step=eps, max_iter=10, verbose=False
        ),
        lambda estimator, eps: evasion.MomentumIterativeMethod(
            estimator, norm=1, eps=eps, eps_step=eps, max_iter=10, verbose=False
        ),
    ],
)
def test_l1_uses_a_fraction_of_the_budget(build, subject) -> None:
    with classifier(subject.model, subject.x) as estimator:
        x_adv = generate(build(estimator, 12.0), subject.x, one_hot(subject.y, 10))
    assert float(distance(x_adv, subject.x, "l1").median()) < 0.9 * 12.0, "mended: offer l1"


def test_carlini_l0_changes_nearly_everything(subject) -> None:
    """It loops over `x.shape[1] + 1`, the channels, where it means the values."""
    with classifier(subject.model, subject.x) as estimator:
        attack = evasion.CarliniL0Method(
            estimator, max_iter=10, binary_search_steps=5, batch_size=6, verbose=False, warm_start=False
        )
        x_adv = generate(attack, subject.x[:6], one_hot(subject.y[:6], 10))
    with torch.no_grad():
        fallen = subject.model(x_adv).argmax(dim=1) != subject.y[:6]
    assert bool(fallen.any())
    changed = ((x_adv - subject.x[:6]).abs() > 1e-5).flatten(1).sum(dim=1)[fallen]
    coloured = (subject.x[:6] > 0).flatten(1).sum(dim=1)[fallen]
    assert bool((changed > 0.5 * coloured).all()), "mended: offer it"


def test_carlini_linf_keeps_failures_when_targeted(subject) -> None:
    target = (subject.y[:2] + 1) % 10
    with classifier(subject.model, subject.x) as estimator:
        attack = evasion.CarliniLInfMethod(estimator, targeted=True, const_factor=8.0, verbose=False)
        x_adv = generate(attack, subject.x[:2], one_hot(target, 10))
    with torch.no_grad():
        assert not bool((subject.model(x_adv).argmax(dim=1) == target).any()), "mended: offer targets"


def test_black_box_attacks_hand_float64_to_the_model(subject) -> None:
    """Under NumPy >= 2, without the casting stand-in."""
    from art.estimators.classification import PyTorchClassifier

    plain = PyTorchClassifier(
        subject.model, nn.CrossEntropyLoss(), (3, 16, 16), 10, clip_values=(0.0, 1.0), device_type="cpu"
    )
    attack = evasion.HopSkipJump(plain, max_iter=1, init_eval=5, verbose=False)
    with pytest.raises(RuntimeError, match=r"[Dd]ouble"):
        attack.generate(subject.x[:2].numpy())


def test_geoda_needs_what_numpy_removed_and_writes_into_the_working_directory(subject, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with classifier(subject.model, subject.x) as estimator:
        attack = evasion.GeoDA(estimator, sub_dim=4, max_iter=1000, verbose=False)
        with pytest.raises(AttributeError, match=r"np\.mat"):
            attack.generate(subject.x[:1].numpy())
        monkeypatch.setattr(geometric_decision_based_attack.np, "mat", np.asarray, raising=False)
        attack.generate(subject.x[:1].numpy())
    assert [path.name for path in tmp_path.iterdir()] == ["2d_dct_basis_4_16.npy"]


def test_saliency_map_takes_labels_for_targets(subject) -> None:
    with classifier(subject.model, subject.x) as estimator:
        attack = evasion.SaliencyMapMethod(estimator, verbose=False)
        x_adv = generate(attack, subject.x, one_hot(subject.y, 10))
    assert torch.equal(x_adv, subject.x), "mended: hand it the labels"


def test_shadow_attack_takes_labels_for_targets(subject) -> None:
    with classifier(subject.model, subject.x) as estimator:
        attack = evasion.ShadowAttack(estimator, nb_steps=1, batch_size=2, verbose=False)
        assert attack.targeted is False
        attack.generate(subject.x[:1].numpy(), one_hot(subject.y[:1], 10))
        assert attack.targeted is True, "mended: hand it the labels"


def test_low_pro_fool_divides_by_the_whole_batch() -> None:
    """`np.sum` over rows and samples: equal samples get another gradient in company."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    x = torch.full((1, 1, 2, 2), 0.5)
    with classifier(model, x, flat=True) as estimator:
        attack = evasion.LowProFool(estimator, importance=np.ones(4))
        moved = np.full((1, 4), 0.1)
        alone = attack._LowProFool__weighted_lp_norm_gradient(moved)
        together = attack._LowProFool__weighted_lp_norm_gradient(np.repeat(moved, 4, axis=0))
    assert not np.allclose(alone[0], together[0]), "mended: attack batches"
