"""ART's attacks that want the input in another shape: a laser on NHWC images, a search on rows of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from robustkit.params import ParamError, UsageError, check, param
from robustkit_art.bridge import ORDER, adversarial, classifier, evasion, one_hot, runner_up
from robustkit_art.library import laser_attack as laser_module
from robustkit_art.local import numpy_for

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat


@dataclass(frozen=True, kw_only=True)
class LaserBeam:
    """A beam of light across the image (`LaserBeamAttack`), by greedy search on scores; colour images only.

    Cost: up to 2 x `steps` x `restarts` forward passes a sample.
    """

    steps: int = param(50, "changes of the beam tried (iterations)", low=1)
    restarts: int = param(10, "random beams (random_initializations)", low=1)
    wavelength_min: float = param(380.0, "of the beam", unit="nanometres", low=380.0, high=780.0)
    wavelength_max: float = param(780.0, "of the beam", unit="nanometres", low=380.0, high=780.0)
    angle_max: float = param(3.14, "largest slope", unit="radians", low=0.0, high=3.1415)
    bias_max: float | None = param(None, "largest offset of the line; none is the height", unit="pixels", low=1.0)
    width_max: float | None = param(None, "largest width; none is an eighth of the height", unit="pixels", low=1.0)

    def __post_init__(self) -> None:
        check(self)
        if self.wavelength_min >= self.wavelength_max:
            raise ParamError(
                f"laser_beam: wavelength_min={self.wavelength_min:g} must be below {self.wavelength_max:g}"
            )

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        if x.shape[1] != 3:
            raise UsageError(f"art.laser_beam is coloured light and the images have {x.shape[1]} channels, not 3")
        height = float(x.shape[2])
        bias = height if self.bias_max is None else self.bias_max
        width = max(height / 8, 1.0) if self.width_max is None else self.width_max
        best = x.detach().float().clone()
        todo = (~adversarial(model, x, y, False)).nonzero().flatten() if len(x) else torch.zeros(0).long()
        if len(todo) == 0:
            return x.clone()
        with classifier(model, x, channels_last=True) as estimator, numpy_for(laser_module):
            attack = laser_module.LaserBeamAttack(
                estimator,
                iterations=self.steps,
                max_laser_beam=(self.wavelength_max, self.angle_max, bias, width),
                min_laser_beam=(self.wavelength_min, 0.0, 1.0, 1.0),
                random_initializations=self.restarts,
            )
            images = best[todo].permute(0, 2, 3, 1).cpu().numpy()
            lit = attack.generate(images, y[todo].cpu().numpy())
        found = torch.from_numpy(np.asarray(lit, np.float32)).permute(0, 3, 1, 2).clamp(0, 1).to(x.device)
        valid = adversarial(model, found.to(x.dtype), y[todo], False)
        best[todo] = torch.where(valid.view(-1, 1, 1, 1), found, best[todo])
        return torch.where(best == x.float(), x.detach(), best.to(x.dtype))


@dataclass(frozen=True, kw_only=True)
class LowProFool:
    """Descends on loss and weighted norm together (`LowProFool`), made for tables; pixels are its columns here.

    All values have the same importance. ART divides by the norm of the whole batch's perturbations; here each
    sample is attacked alone. ART offers it towards a target only; untargeted, the target is each
    sample's second most likely class. Cost: `steps` forward and backward passes.
    """

    steps: int = param(100, "iterations (n_steps)", low=1)
    step_size: float = param(0.2, "first rate (eta)", low=0.0)
    lambd: float = param(1.5, "weight of the norm", low=0.0)
    eta_decay: float = param(0.98, "factor on the rate a step", low=1e-3, high=1.0)
    eta_min: float = param(1e-7, "smallest rate", low=0.0)
    targeted: bool = param(False, "look for the given class, not the second most likely")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        if len(x) == 0:
            return x.clone()
        goal = y if self.targeted else runner_up(model, x, y)
        best = x.detach().float().clone()
        todo = (~adversarial(model, x, y, self.targeted)).nonzero().flatten()
        if len(todo) == 0:
            return x.clone()
        with classifier(model, x, flat=True) as estimator:
            attack = evasion.LowProFool(
                estimator,
                n_steps=self.steps,
                threshold=None,
                lambd=self.lambd,
                eta=self.step_size,
                eta_decay=self.eta_decay,
                eta_min=self.eta_min,
                norm=ORDER[threat.norm],
                importance=np.ones(x[0].numel()),
                verbose=False,
            )
            for index in todo.split(1):
                row = best[index].flatten(1).cpu().numpy()
                moved = attack.generate(row, one_hot(goal[index], estimator.nb_classes))
                found = torch.from_numpy(np.asarray(moved, np.float32)).reshape(best[index].shape).clamp(0, 1)
                found = found.to(x.device)
                if bool(adversarial(model, found.to(x.dtype), y[index], self.targeted)):
                    best[index] = found
        return torch.where(best == x.float(), x.detach(), best.to(x.dtype))
