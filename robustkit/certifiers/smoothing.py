"""Randomized smoothing: a certificate for the smoothed network, from counts of noisy predictions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from scipy.stats import binomtest
from torch import Tensor, nn

from robustkit.certifiers.confidence import Ints
from robustkit.certifiers.smoothing_noise import Gaussian, Noise, Uniform
from robustkit.certifiers.stopping import Draw, Plan, adaptive, fixed
from robustkit.contracts import ABSTAIN, Certificate
from robustkit.params import ParamError, check, param


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """Randomized smoothing (Cohen, Rosenfeld, Kolter 2019, https://arxiv.org/abs/1902.02918).

    The smoothed classifier g(x) is the class that the network f gives most often on x + noise. If that class
    has probability p > 1/2, g is constant within σ Φ⁻¹(p) in l2, σ Φ⁻¹(p) / √d in linf, or, with uniform
    noise on [−σ, σ], 2 σ (p − 1/2) in l1.

    mode="fixed" is the paper's CERTIFY: a class from n0 draws, a Clopper–Pearson limit from n fresh ones.
    mode="adaptive" looks at cumulative counts at 32, 40, … up to n draws and stops where an input is settled or
    hopeless; alpha is spent over the looks, half of it on the last (union bound). A single radius may be tested by a
    truncated-mixture martingale instead. It promises what "fixed" does.

    Guarantee: for each input, with probability at least 1 − alpha / inputs over the noise, the smoothed version of
    f, executed as given (its precision, batches of `batch_size`; noise drawn and added in the dtype of x), is
    constant within `radius`. With inputs = N this holds for N inputs at once. Rounding of floating
    point is not covered. With known_label the class tested is the label: an input that g gets wrong
    abstains, and certified accuracy is what it is.

    Shapes: x (N, C, H, W) float in [0, 1]; y (N,) int64 labels, read where known_label alone.
    Cost: n0 + n forward passes an input in "fixed", column `passes` in "adaptive".
    """

    sigma: float = param(
        0.25, "standard deviation of Gaussian noise; half width of uniform", unit="input units", low=1e-6
    )
    norm: Literal["l2", "linf", "l1"] = param("l2", "of the radius; l1 takes uniform noise")
    mode: Literal["adaptive", "fixed"] = param("adaptive", "fixed is the procedure of the paper")
    n0: int = param(100, "draws that select a class", low=1)
    n: int = param(100_000, "draws that estimate; the most in adaptive mode", low=1)
    alpha: float = param(0.001, "probability of a false promise", low=1e-12, high=0.5)
    radii: tuple[float, ...] = param(
        (), "adaptive: radii of interest; none: steps of sigma / 4 to 3 sigma", unit="input units", low=0
    )
    evidence: Literal["looks", "mixture"] = param("looks", "adaptive: how a single radius is tested")
    futility: float = param(0.25, "adaptive: level at which an input is given up, at the last look", low=0.0, high=0.5)
    known_label: bool = param(True, "adaptive: test the label instead of selecting a class")
    inputs: int = param(1, "alpha is divided by it: the promise holds for so many inputs at once", low=1)
    batch_size: int = param(256, "noisy copies in a forward pass, of many inputs", low=1)

    def __post_init__(self) -> None:
        check(self)
        if self.norm == "l1" and any(radius >= self.sigma for radius in self.radii):
            raise ParamError(f"radii={self.radii} must be below sigma={self.sigma:g} in l1")
        if self.evidence == "mixture" and len(set(self.radii)) != 1:
            raise ParamError(f"evidence=mixture tests a single radius; radii={self.radii} holds {len(set(self.radii))}")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Certificate:
        noise = self._noise(x)
        alpha = self.alpha / self.inputs
        draw = sampler(model, x, noise, self.batch_size)
        if not len(x):
            found = fixed(lambda rows, count: np.zeros((0, 1), dtype=np.int64), 0, noise, self.n0, self.n, alpha)
        elif self.mode == "fixed":
            found = fixed(draw, len(x), noise, self.n0, self.n, alpha)
        else:
            tested = y.cpu().numpy() if self.known_label else draw(np.arange(len(x)), self.n0).argmax(axis=1)
            radii = self._radii(noise)
            plan = Plan(
                first=32,
                growth=1.25,
                last=self.n,
                alpha=alpha,
                shares=tuple(noise.share(radius) for radius in radii),
                futility=self.futility,
                evidence=self.evidence,
            )
            found = adaptive(draw, tested, noise, plan, radii)
            found = replace(found, passes=found.passes + (0 if self.known_label else self.n0))
        counts = {name: getattr(found, name) for name in ("tested", "hits", "n", "looks", "passes")}
        together = f" ({1 - self.alpha:g} for {self.inputs} at once)" if self.inputs > 1 else ""
        return Certificate(
            prediction=torch.from_numpy(found.prediction).to(x.device),
            radius=torch.from_numpy(found.radius).to(x.device),
            norm=noise.norm,
            guarantee=(
                f"With probability at least {1 - alpha:g} for each input{together}, "
                f"the smoothed network (noise {self.sigma:g}, as executed) is constant within the radius."
            ),
            counts={name: torch.from_numpy(column).to(x.device) for name, column in counts.items()},
        )

    def predict(self, model: nn.Module, x: Tensor) -> Tensor:
        """PREDICT of the paper: (N,) int64, the class of g or ABSTAIN, wrong with probability at most alpha each.

        n draws; the two largest counts must differ by a two-sided binomial test.
        """
        draw = sampler(model, x, self._noise(x), self.batch_size)
        counts = draw(np.arange(len(x)), self.n)
        return torch.tensor(predicted(counts, self.alpha / self.inputs), dtype=torch.int64, device=x.device)

    def _noise(self, x: Tensor) -> Noise:
        if self.norm == "l1":
            return Uniform(self.sigma)
        return Gaussian(self.sigma, self.norm, x[0].numel() if len(x) else 1)

    def _radii(self, noise: Noise) -> tuple[float, ...]:
        reach = float(noise.radius(np.array((self.alpha / self.inputs / 2) ** (1 / self.n))))
        if self.radii:
            wanted = sorted(set(self.radii))
            # unanimous votes don't prove what lies beyond reach; to wait for it would cost all n draws
            return tuple(radius for radius in wanted if radius <= reach) or (wanted[0],)
        scale = noise.radius(np.array(0.8413447460685429)) if self.norm != "l1" else self.sigma
        step = float(scale) / 4
        return tuple(step * k for k in range(min(int(reach / step), 12) + 1))


def predicted(counts: Ints, alpha: float) -> list[int]:
    """The leading class of each row of counts (N, K), or ABSTAIN where it does not lead significantly."""
    found = []
    for row in counts:
        order = np.argsort(-row, kind="stable")
        first = int(row[order[0]])
        second = int(row[order[1]]) if len(row) > 1 else 0
        clear = binomtest(first, first + second, 0.5).pvalue <= alpha
        found.append(int(order[0]) if clear else ABSTAIN)
    return found


def sampler(model: nn.Module, x: Tensor, noise: Noise, batch_size: int) -> Draw:
    """Counts of a network's predictions. Copies of many inputs share a batch; the last is filled up, so that every
    batch has the same shape, and what fills it is not counted.
    """

    @torch.no_grad()
    def draw(rows: Ints, count: int) -> Ints:
        owners = torch.from_numpy(np.asarray(rows)).to(x.device)
        total, counts = len(rows) * count, None
        for start in range(0, total, batch_size):
            slot = torch.arange(start, start + batch_size, device=x.device)
            owner = (slot // count).clamp_max(len(rows) - 1)
            logits = model(noise.draw(x[owners[owner]]))  # (batch_size, K)
            classes = logits.shape[1]
            if counts is None:
                counts = torch.zeros(len(rows) * classes, dtype=torch.int64, device=x.device)
            index = owner * classes + logits.argmax(dim=1)
            counts.index_add_(0, index, (slot < total).to(torch.int64))
        assert counts is not None
        found: Ints = counts.reshape(len(rows), -1).cpu().numpy()
        return found

    return draw
