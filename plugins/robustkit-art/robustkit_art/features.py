"""ART's attacks on inner representations and on single frames of an input."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from robustkit.norms import project
from robustkit.params import UsageError, check, param, suggest
from robustkit_art.bridge import ORDER, PyTorchClassifier, budget, classifier, evasion
from robustkit_art.gradient import step_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustkit.contracts import Threat

_LAYER = "submodule whose output is matched, by its name in the network; logits is the network's output"
_TARGETED = "the guide is an image of the given class"


@dataclass(frozen=True, kw_only=True)
class FeatureAdversaries:
    """Moves the representation of an image to that of a guide (`FeatureAdversariesPyTorch`), in a linf ball.

    The guide of a sample is another sample of the batch that the network takes for another class; without one it
    comes back unchanged. Cost: 2 x `steps` forward passes and `steps` backward passes.
    """

    steps: int = param(100, "iterations (max_iter)", low=1)
    step_size: float | None = param(None, "length of a step; none is eps / 3", unit="input units", low=0.0)
    layer: str = param("logits", _LAYER)
    lambda_: float = param(0.0, "weight of the perturbation's largest value", low=0.0)
    random_start: bool = param(False, "start at a random point of the ball")
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        def run(estimator: Any, part: Any, guides: Any) -> Any:
            return evasion.FeatureAdversariesPyTorch(
                estimator,
                delta=threat.eps,
                lambda_=self.lambda_,
                layer=self.layer,
                max_iter=self.steps,
                batch_size=len(part),
                step_size=step_of(self.step_size, threat),
                random_start=self.random_start,
                verbose=False,
            ).generate(part, guides)

        return _guided(run, self.layer, model, x, y, threat, self.targeted)


@dataclass(frozen=True, kw_only=True)
class FeatureAdversariesNumpy:
    """The same by L-BFGS with numerical gradients (`FeatureAdversariesNumpy`), one sample at a time.

    Cost: (number of values + 1) forward passes for each of at most `steps` iterations a sample.
    """

    steps: int = param(20, "iterations of L-BFGS (maxiter)", low=1)
    layer: str = param("logits", _LAYER)
    targeted: bool = param(False, _TARGETED)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        def run(estimator: Any, part: Any, guides: Any) -> Any:
            attack = evasion.FeatureAdversariesNumpy(estimator, delta=threat.eps, layer=0, batch_size=1)
            rows = [attack.generate(part[[i]], guides[[i]], maxiter=self.steps) for i in range(len(part))]
            return np.concatenate(rows)

        return _guided(run, self.layer, model, x, y, threat, self.targeted)


def _guided(run: Any, layer: str, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, targeted: bool) -> Tensor:
    """Find a guide for each sample, and run the attack on those that have one."""
    if len(x) == 0 or threat.eps == 0:
        return x.clone()
    _layer(model, layer)
    with torch.no_grad():
        predicted = model(x).argmax(dim=1)  # (N,)
    fits = predicted.unsqueeze(0) == y.unsqueeze(1) if targeted else predicted.unsqueeze(0) != y.unsqueeze(1)
    fits &= ~torch.eye(len(x), dtype=torch.bool, device=x.device)  # (N, N)
    found = fits.any(dim=1).nonzero().flatten()
    best = x.detach().float().clone()
    if len(found):
        guides = best[fits[found].float().argmax(dim=1)]  # (n, C, H, W)
        with classifier(model, x, kind=_Represented) as estimator, warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=RuntimeWarning)
            estimator.watch(model, layer)
            moved = run(estimator, best[found].cpu().numpy().copy(), guides.cpu().numpy())
        best[found] = project(torch.from_numpy(np.asarray(moved, np.float32)).to(x.device), best[found], threat)
    return torch.where(best == x.float(), x.detach(), best.to(x.dtype))


def _layer(model: nn.Module, name: str) -> nn.Module | None:
    """The submodule of that name; None for the network itself."""
    if name == "logits":
        return None
    known = dict(model.named_modules())
    if name not in known:
        raise UsageError(f"the network has no submodule {name!r}{suggest(name, known)}")
    return known[name]


class _Represented(PyTorchClassifier):  # type: ignore[misc]
    """A classifier that reads one representation without leaving a hook behind; ART adds one at every call."""

    def watch(self, model: nn.Module, layer: str) -> None:
        self._watched = _layer(model, layer)

    def get_activations(self, x: Any, layer: Any = None, batch_size: int = 128, framework: bool = False) -> Any:
        inputs = x if isinstance(x, torch.Tensor) else torch.from_numpy(np.asarray(x, np.float32))
        seen: list[Tensor] = []
        hook = None
        if self._watched is not None:
            hook = self._watched.register_forward_hook(lambda module, given, output: seen.append(output))
        try:
            with torch.set_grad_enabled(framework):
                output = self.model(inputs.to(self.device))
        finally:
            if hook is not None:
                hook.remove()
        representation = seen[0].float() if seen else output
        return representation if framework else representation.detach().cpu().numpy()


@dataclass(frozen=True, kw_only=True)
class FrameSaliency:
    """Perturbs one channel after another, the most salient first, until the model is fooled (`FrameSaliencyAttack`).

    Made for video, where a frame is one step in time; on images the channels take their place.
    Cost: that of the inner attack, once or once a channel, and one forward and backward pass a channel.
    """

    attacker: Literal["fgsm", "bim", "pgd"] = param("pgd", "the inner attack")
    method: Literal["iterative_saliency", "iterative_saliency_refresh", "one_shot"] = param(
        "iterative_saliency", "add channels, attack again after each, or attack all at once"
    )
    steps: int = param(100, "iterations of bim and pgd", low=1)
    step_size: float | None = param(None, "of bim and pgd; none is eps / 3", unit="input units", low=0.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        step = step_of(self.step_size, threat)

        def make(estimator: Any) -> Any:
            size = max(len(x), 1)
            if self.attacker == "fgsm":
                inner = evasion.FastGradientMethod(estimator, norm=ORDER[threat.norm], eps=threat.eps, batch_size=size)
            elif self.attacker == "bim":
                inner = evasion.BasicIterativeMethod(
                    estimator, eps=threat.eps, eps_step=step, max_iter=self.steps, batch_size=size, verbose=False
                )
            else:
                inner = evasion.ProjectedGradientDescent(
                    estimator,
                    norm=ORDER[threat.norm],
                    eps=threat.eps,
                    eps_step=step,
                    max_iter=self.steps,
                    batch_size=size,
                    verbose=False,
                )
            return evasion.FrameSaliencyAttack(
                estimator, inner, method=self.method, frame_index=1, batch_size=size, verbose=False
            )

        return budget(make, model, x, y, threat)
