"""MM-BD: the largest margin a class can reach, over all inputs; no data needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.contracts import Data, Precision, Verdict
from robustkit.detectors.calibration import deviations, judge, read_reference
from robustkit.params import check, param
from robustkit.precision import choose_precision, exact_float32, search_model


@dataclass(frozen=True, kw_only=True)
class MMBD:
    """Maximum margin statistic (Wang, Xiang, Miller, Kesidis 2024, IEEE S&P, https://arxiv.org/abs/2205.06900).

    For each class c, r_c = max over x in the box of g_c(x) - max_{k != c} g_k(x), by gradient ascent on random
    images; a class with a backdoor tends to reach a far larger margin, whatever the trigger looks like.

    Departures: the p-value is not that of a gamma distribution fitted to all classes but the largest, a fit that
    leaves out the extreme and so flags 15 to 24 % of clean models at 5 %; it is the calibrated one of `calibration`.
    Steps follow the gradient divided by its largest magnitude and shrink linearly, so that their length does not
    depend on the scale of the logits. All classes and starts go in one batch.

    Fields:
        starts: random images a class; the best counts.
        steps: of the ascent.
        step_size: first and largest change of a value, in input units.
        precision: of the search; margins are float32.
        alpha: p-values up to it flag the model.
        reference: file of scores of clean models, {"mmbd": [...]}.

    Score: how far the largest margin lies above the median, in scaled median absolute deviations.
    Cost: K starts (steps + 1) images forward and backward.
    """

    starts: int = param(10, "random images a class", low=1)
    steps: int = param(100, "of the ascent", low=1)
    step_size: float = param(0.1, "largest change of a value in the first step", unit="input units", low=1e-9)
    precision: Precision = param("auto", "of the search")
    alpha: float = param(0.05, "p-values up to it flag the model", low=0.0, high=1.0)
    reference: str = param("", "file of scores of clean models")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data) -> Verdict:
        clean = read_reference(self.reference, "mmbd") if self.reference else []
        count = len(data.classes)
        example = next(model.parameters(), torch.zeros(()))
        x = torch.rand(count * self.starts, *data.shape).to(example.device, example.dtype)
        targets = torch.arange(count, device=x.device).repeat_interleave(self.starts)
        with exact_float32():
            network = search_model(model, choose_precision(model, x[:64], self.precision), x[:4])
            exact = search_model(model, "fp32", x[:4])
            x = self._ascend(network, x, targets)
            with torch.no_grad():
                reached = torch.cat([margins(exact(p), t) for p, t in _parts(x, targets)])
        by_class = reached.reshape(count, self.starts)
        best = by_class.max(dim=1)
        values = best.values.double().cpu().numpy()
        above = deviations(values)
        judged = judge(above, above, clean, self.alpha)
        table: list[dict[str, Any]] = [
            {"class": k, "margin": round(float(values[k]), 4), "index": round(float(above[k]), 3)} for k in range(count)
        ]
        top = judged.order[0]
        return Verdict(
            score=judged.score,
            flagged=judged.flagged,
            table=tuple(table),
            images={f"class {top}: largest margin": x[top * self.starts + int(best.indices[top])].float().cpu()},
            p_value=judged.p_value,
            classes=judged.classes,
            limit=judged.limit,
            by_class=judged.by_class,
            cost={"gradients": float(len(x) * self.steps)},
            note=judged.note,
        )

    def _ascend(self, network: nn.Module, x: Tensor, targets: Tensor) -> Tensor:
        for number in range(self.steps):
            step = self.step_size * (1 - number / self.steps)
            moved = []
            for part, wanted in _parts(x, targets):
                point = part.detach().requires_grad_()
                with torch.enable_grad():
                    (gradient,) = torch.autograd.grad(margins(network(point), wanted).sum(), point)
                largest = gradient.flatten(1).abs().amax(dim=1).clamp_min(1e-12).reshape(-1, 1, 1, 1)
                moved.append((part + step * gradient / largest).clamp(0, 1))
            x = torch.cat(moved)
        return x


def margins(logits: Tensor, targets: Tensor) -> Tensor:
    """(N,) the logit of each target less the largest of the others."""
    own = logits.gather(1, targets[:, None])[:, 0]
    others = logits.scatter(1, targets[:, None], -torch.inf)
    return own - others.amax(dim=1)


def _parts(x: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(torch.split(x, 4096), torch.split(targets, 4096), strict=True))
