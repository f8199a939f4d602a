from dataclasses import dataclass

import torch
from scipy.stats import binomtest, norm
from torch import nn

from robustkit import param
from robustkit.contracts import ABSTAIN, Certificate, Verdict
from robustkit.norms import project, steepest


@dataclass(frozen=True, kw_only=True)
class OneStep:
    share: float = param(1.0, "length of the step", unit="eps", low=0.0, high=1.0)

    def __call__(self, model, x, y, threat):
        start = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(model(start), y), start)
        return project(x + self.share * threat.eps * steepest(gradient, threat.norm), x, threat)


@dataclass(frozen=True, kw_only=True)
class Blur:
    size: int = param(3, "side of the window", unit="pixels, odd", low=1)

    def __call__(self, model, data, training):
        return nn.Sequential(nn.AvgPool2d(self.size, stride=1, padding=self.size // 2), model)


@dataclass(frozen=True, kw_only=True)
class Smooth:
    sigma: float = param(0.25, "standard deviation of the noise", unit="input units", low=0.0)
    samples: int = param(500, "noisy copies of each input", low=1)

    def __call__(self, model, x, y):
        hits = sum(model(x + self.sigma * torch.randn_like(x)).argmax(1) == y for _ in range(self.samples))
        tests = [binomtest(int(hit), self.samples, alternative="greater") for hit in hits]
        radius = [max(0.0, self.sigma * norm.ppf(test.proportion_ci(0.999).low)) for test in tests]
        radius = torch.tensor(radius, dtype=torch.float64)
        says = "the smoothed prediction is constant within the radius, with probability 0.999 for each input"
        prediction = torch.where(radius > 0, y, ABSTAIN)
        return Certificate(prediction=prediction, radius=radius, norm="l2", guarantee=says)


@dataclass(frozen=True, kw_only=True)
class Attraction:
    limit: float = param(0.1, "share of images beyond its own that makes a class suspicious", low=0.0)

    def __call__(self, model, data):
        x, y = data.val.batch(torch.arange(len(data.val)))
        with torch.no_grad():
            said = model(x).argmax(1)
        score = max(float(((said == k).sum() - (y == k).sum()) / len(y)) for k in range(len(data.classes)))
        return Verdict(score=score, flagged=score > self.limit)
