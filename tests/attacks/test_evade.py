"""The attack that knows a detector: what it finds is less suspicious, and as adversarial."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks.evade import Evade
from robustkit.attacks.pgd import PGD
from robustkit.contracts import Threat
from robustkit.detectors.feature_squeezing import FeatureSqueezing
from robustkit.detectors.mahalanobis import Mahalanobis
from robustkit.params import UsageError
from robustkit.testing import small

THREAT = Threat("linf", 0.15)


@pytest.mark.parametrize("name", ["feature_squeezing", "mahalanobis"])
def test_it_is_less_suspicious_than_pgd_and_fools_as_many(name: str) -> None:
    model = small.trained()
    x, y = small.whole(small.data().test)
    detector = {"feature_squeezing": FeatureSqueezing(), "mahalanobis": Mahalanobis()}[name]
    score = detector.suspicion(model, x, y)
    torch.manual_seed(0)
    plain = PGD(steps=20)(model, x, y, THREAT)
    knowing = Evade(detector=name, steps=40)(model, x, y, THREAT)
    assert float((knowing - x).abs().max()) <= THREAT.allowance
    with torch.no_grad():
        fooled, other = (model(found).argmax(1) != y for found in (knowing, plain))
        assert int(fooled.sum()) >= int(other.sum()) - 2
        assert int(fooled.sum()) > 20
        assert float(score(knowing)[fooled].mean()) < 0.9 * float(score(plain)[other].mean())


def test_a_point_that_fools_beats_one_that_does_not_and_the_least_suspicious_is_kept() -> None:
    """On one value: the margin is x - 0.4, the score (x - 0.5)²; the best point that fools is 0.5 itself."""

    class Line(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            value = x.flatten(1).mean(dim=1)
            return torch.stack([torch.zeros_like(value), value - 0.4], dim=1)

    class Knowing(Evade):
        def _detector(self):  # type: ignore[no-untyped-def]
            return lambda model, clean, labels: lambda x: (x.flatten(1).mean(dim=1) - 0.5).square()

    x = torch.full((3, 1, 1, 1), 0.3)
    torch.manual_seed(0)
    found = Knowing(steps=60)(Line(), x, torch.zeros(3, dtype=torch.int64), Threat("linf", 0.3)).flatten()
    torch.testing.assert_close(found, torch.full((3,), 0.5), atol=0.013, rtol=0)
    short = Knowing(steps=60)(Line(), x, torch.zeros(3, dtype=torch.int64), Threat("linf", 0.05)).flatten()
    torch.testing.assert_close(short, torch.full((3,), 0.35))  # out of reach: the largest margin


def test_a_detector_without_a_score_that_gradients_pass_is_refused() -> None:
    with pytest.raises(UsageError, match="strip has no method suspicion"):
        Evade(detector="strip")
    with pytest.raises(UsageError, match="nothing_of_the_kind"):
        Evade(detector="nothing_of_the_kind")


@pytest.mark.parametrize("detector", [FeatureSqueezing(), Mahalanobis()], ids=["fs", "maha"])
def test_the_attack_is_given_the_score_that_the_detector_judges_by(detector: FeatureSqueezing | Mahalanobis) -> None:
    model, data = small.trained(), small.data()
    x, _ = small.whole(data.test)
    clean, labels = small.whole(data.val)
    if isinstance(detector, Mahalanobis):  # it is fitted to every second image of each class
        half = labels.argsort(stable=True)[::2]
        clean, labels = clean[half], labels[half]
    with torch.no_grad():
        known = detector.suspicion(model, clean, labels)(x).double()
    torch.testing.assert_close(known, torch.as_tensor(detector(model, data).score), rtol=1e-3, atol=1e-4)
