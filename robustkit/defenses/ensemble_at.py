"""Adversarial training on the examples of another network."""

from __future__ import annotations

import copy
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from robustkit.contracts import Data, Threat, Training
from robustkit.host import default_host
from robustkit.models.build import build_model
from robustkit.models.weights import load_checkpoint
from robustkit.params import UsageError, check, param
from robustkit.training.awp import AWP_HELP
from robustkit.training.loop import train
from robustkit.training.method import Memory, OnExamples
from robustkit.training.perturbation import Perturbation
from robustkit.training.radii import part_of


@dataclass(frozen=True, kw_only=True)
class EnsembleAT:
    """Training on adversarial examples of another, fixed network (ensemble adversarial training, Tramèr et al. 2018,
    https://arxiv.org/abs/1705.07204).

    min (1 − s) · CE(x') + s · CE(x). For a share of each batch, x' attacks the fixed network, for the rest the one that
    is trained. It defends against what transfers; attacks that see the network itself break it more easily than what
    `pgd_at` trains. The paper uses several fixed networks; here it is one.

    Fields:
        source: weights of the fixed network; its architecture is named by the provenance beside them (as `robustkit
            train` writes it), else it is that of the network that is trained. None: an undefended network of that
            architecture, trained first with the same recipe.
        share: of each batch, attacked on the fixed network.
        steps: gradient steps; the paper's is 1.
        step_size: length of a step as a share of eps. None: 1 for a single step, else 2.5 / steps.
        clean_share: s, the weight of the clean loss; the paper's is 0.5.
        awp: relative size of an adversarial weight perturbation (`training/awp.py`), which costs one pass more.

    Cost: steps + 1 forward and backward passes a sample and epoch (one more forward with a clean share).
    """

    source: str | None = param(None, "weights of the fixed network; none: an undefended one, trained first")
    share: float = param(1.0, "of a batch, attacked on the fixed network", low=0, high=1)
    steps: int = param(1, "gradient steps", low=1)
    step_size: float | None = param(
        None, "length of a step; none: 1 for a single step, else 2.5 / steps", unit="share of eps", low=0
    )
    clean_share: float = param(0.5, "weight of the clean loss", low=0, high=1)
    awp: float = param(0.0, AWP_HELP, low=0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        step_size = self.step_size if self.step_size is not None else min(1.0, 2.5 / self.steps)
        fixed = self._fixed(model, data, training).to(training.device).eval().requires_grad_(False)
        inner = Perturbation(start="clean" if self.steps == 1 else "uniform", steps=self.steps, step_size=step_size)
        method = _OnAnother(perturbation=inner, clean_share=self.clean_share, fixed=fixed, share=self.share)
        return train(model, data, training, method, repr(self), awp=self.awp)

    def _fixed(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        if self.source is None:
            folder = None if training.directory is None else training.directory / "source"
            return train(
                copy.deepcopy(model),
                data,
                dataclasses.replace(training, directory=folder, report=None),
                OnExamples(),
                "the fixed network",
            )
        path = Path(self.source).expanduser()
        note = path.with_suffix(".json")
        network = copy.deepcopy(model)
        if note.is_file():
            about = json.loads(note.read_text(encoding="utf-8"))
            if "model" in about:
                network = build_model(about["model"], data, host=default_host())
        try:
            load_checkpoint(network, path)
        except UsageError as error:
            raise UsageError(f"ensemble_at: source: {error}") from error
        return network


@dataclass(frozen=True, kw_only=True)
class _OnAnother(OnExamples):
    fixed: nn.Module
    share: float

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, memory: Memory) -> Tensor:
        assert self.perturbation is not None
        if threat.eps == 0 or self.clean_share == 1:
            return x
        first = round(self.share * len(x))
        parts = []
        for network, which in ((self.fixed, slice(0, first)), (model, slice(first, len(x)))):
            if which.stop > which.start:
                parts.append(self.perturbation(network, x[which], y[which], part_of(threat, which)))
        return torch.cat(parts)
