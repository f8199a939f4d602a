"""Protocols and value types that every room of RobustKit shares. Imports neither torch nor pandas.

Units everywhere: images are float32 in [0, 1], eps and distances are in the same units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Norm = Literal["linf", "l2", "l1", "l0"]
NORMS: tuple[Norm, ...] = get_args(Norm)
Precision = Literal["auto", "fp32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Shape = tuple[int, int, int]  # (C, H, W)

ABSTAIN = -1
"""The prediction of a certifier that certifies nothing."""


@dataclass(frozen=True)
class Threat:
    """What the adversary may do: move an input by at most `eps` in `norm`, and stay inside [0, 1].

    Args:
        norm: "linf", "l2", "l1" or "l0" (for l0, eps counts changed values of the tensor).
        eps: radius of the ball in input units of [0, 1] images; 8/255 is usual for CIFAR-10 in linf.

    Raises:
        ValueError: unknown norm; eps negative or not finite; a linf eps above 1, which is the sign of
            a radius given on the scale of [0, 255].
    """

    norm: Norm
    eps: float

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ValueError(f"norm={self.norm!r} is not one of {', '.join(NORMS)}")
        if not math.isfinite(self.eps) or self.eps < 0:
            raise ValueError(f"eps={self.eps!r} must be a finite number >= 0")
        if self.norm == "linf" and self.eps > 1:
            raise ValueError(
                f"eps={self.eps:g} is larger than the whole range of an image in [0, 1]; "
                f"if you mean {self.eps:g} of 255 grey levels, write {self.eps:g}/255"
            )

    @property
    def allowance(self) -> float:
        """The largest measured distance that still counts as inside the ball (float32 rounding)."""
        return self.eps * (1 + 1e-5) + 1e-6

    def __str__(self) -> str:
        levels = self.eps * 255
        if self.norm == "linf" and self.eps < 0.1 and abs(levels - round(levels)) < 1e-6:
            return f"{self.norm} eps={round(levels)}/255"
        return f"{self.norm} eps={self.eps:g}"


@runtime_checkable
class Attack(Protocol):
    """A frozen dataclass whose fields are its parameters.

    `model` maps float (N, C, H, W) in [0, 1] to logits (N, K). `x` (N, C, H, W) and `y` (N,) int64 are
    labels, or targets where the attack has a true field `targeted`. Returns x_adv like x. The host checks
    the ball, the box and the verdict; an attack whose entry says goal="minimal" ignores `threat.eps`.

    Optional method `polish(model, x, x_adv, y, threat) -> x_adv`: a short float32 search from `x_adv`,
    used on what survived a search in low precision. Without it the host repeats the attack in float32.

    Optional method `counted(model, x, y, threat) -> (x_adv, queries)` of an attack that sees scores or decisions alone:
    the same, with the forward passes that each sample took until it fell at `threat.eps`, or altogether, (N,) int64.
    The host then calls it instead, and draws robust accuracy against queries.

    Optional method `on(network) -> Attack` of one that makes its examples on another network: the attack with that
    network at hand. Its fields `surrogate`, a defense by its name or the path of weights, and `seed` say which; a bench
    trains or loads it once, and calls the attack that comes back.
    """

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor: ...


class Split(Protocol):
    """A part of a data set that is read by index; it never has to be in memory as a whole."""

    def __len__(self) -> int: ...

    @property
    def labels(self) -> Tensor:
        """(N,) int64, without reading an image."""
        ...

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """`index` (n,) int64 → x float32 (n, C, H, W) in [0, 1] and y (n,) int64, both on the CPU."""
        ...


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained; each data set declares the one that suits it.

    Args:
        epochs: passes over the training data (free adversarial training divides them by its replays).
        batch_size: images a step.
        optimizer: "sgd" (Nesterov momentum) or "adam".
        lr: peak learning rate.
        schedule: "cyclic" (linear up for 2/5 of the steps, then down to 0), "onecycle" (cosine),
            "step" (times 0.1 at 1/2 and 3/4 of the steps) or "constant".
        momentum: of SGD.
        weight_decay: L2 penalty on the weights.
        ramp: share of training over which eps grows linearly from 0 to its full size.
        eps_draw: "fixed", or radii between 0 and eps drawn from a "uniform" distribution or from the "normal" one of
            standard deviation eps / 2, cut off at 0 and eps (Kurakin et al. 2017, https://arxiv.org/abs/1611.01236).
        eps_per: what a radius is drawn for: each "image", "batch" or "epoch".
        ema: decay of an exponential moving average of the weights that replaces them at the end; 0 is off.
        augment: "none", "shift" (up to 2 pixels) or "crop_flip" (pad 4, random crop, horizontal flip).
        keep: "last" returns the weights of the last epoch, "best" those of the epoch with the highest robust accuracy
            on validation data (clean accuracy where the method promises no other).
        patience: epochs without a better one after which training stops; 0 is never.
        collapse: what is done when the robust accuracy collapses (catastrophic overfitting of single-step
            training): "report" warns, "stop" warns and ends with the last good weights, "rewind" warns and goes on
            from them.
        start: weights to fine-tune, a file; a last layer for other classes begins anew. Empty: none.
        extra: npz file with more training images, as generated ones, or images that were attacked and saved.
        extra_share: of each batch that comes from there. An epoch keeps its number of batches.
    """

    epochs: int = 30
    batch_size: int = 128
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.1
    schedule: Literal["cyclic", "onecycle", "step", "constant"] = "cyclic"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    ramp: float = 0.0
    eps_draw: Literal["fixed", "uniform", "normal"] = "fixed"
    eps_per: Literal["image", "batch", "epoch"] = "batch"
    ema: float = 0.0
    augment: Literal["none", "shift", "crop_flip"] = "none"
    keep: Literal["last", "best"] = "last"
    patience: int = 0
    collapse: Literal["report", "stop", "rewind"] = "report"
    start: str = ""
    extra: str = ""
    extra_share: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Data:
    """A classification data set in three splits; `val` is cut from the training part, never from `test`.

    Args:
        name: as the user gave it, e.g. "mnist_10k" or "npz:/path/file.npz".
        classes: one name a class; their number is K.
        shape: (C, H, W).
        threat: the threat model that the field usually takes for these data.
        mean, std: by channel, in [0, 1] units; built into the models as a first layer.
        recipe: how networks are usually trained on these data.
        fingerprint: hash of the content, equal only where every image and label is.
    """

    name: str
    classes: tuple[str, ...]
    shape: Shape
    threat: Threat
    train: Split
    val: Split
    test: Split
    fingerprint: str
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    recipe: Recipe = field(default_factory=Recipe)


class Source(Protocol):
    """What a dataset entry points to. `data_dir`: where files lie or are downloaded to; None: the default."""

    def __call__(self, data_dir: Path | None = None) -> Data: ...


class Architecture(Protocol):
    """What a model entry points to: an untrained network without normalisation, float in → logits (N, K)."""

    def __call__(self, shape: Shape, classes: int) -> nn.Module: ...


@dataclass(frozen=True, kw_only=True)
class TrainingProgress:
    """What the training loop tells after each few steps. `metrics` are of the epoch so far."""

    epoch: int  # 1-based
    epochs: int
    step: int  # of the whole training, 1-based
    steps: int
    images_per_second: float
    seconds_left: float
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Training:
    """Everything a defense needs from its surroundings in order to train.

    Args:
        threat: what the trained network shall withstand.
        recipe: optimiser, schedule and length.
        seed: of weights' order, batches and inner attacks; equal seeds give equal weights on equal machines.
        device: "cpu", "cuda", "cuda:1" …
        precision: of the forward and backward passes; inputs and perturbations stay float32.
        directory: for checkpoints and TensorBoard events; None writes nothing.
        report: called with progress; None is silent.
    """

    threat: Threat
    recipe: Recipe
    seed: int = 0
    device: str = "cpu"
    precision: Precision = "auto"
    directory: Path | None = None
    report: Callable[[TrainingProgress], None] | None = None


@runtime_checkable
class Defense(Protocol):
    """Trains `model` (in place or a copy) or wraps it; returns a network of the same contract."""

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module: ...


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What a certifier promises for N inputs.

    Args:
        prediction: (N,) int64, ABSTAIN where nothing is promised.
        radius: (N,) float64 in input units: the prediction is constant within it; 0 where abstained.
        norm: of the radius.
        guarantee: the exact promise, in a sentence.
        counts: further per-sample columns, each (N,).
    """

    prediction: Tensor
    radius: Tensor
    norm: Norm
    guarantee: str
    counts: Mapping[str, Tensor] = field(default_factory=dict)


@runtime_checkable
class Certifier(Protocol):
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Certificate: ...


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a detector says.

    Args:
        score: larger is more suspicious; one number for scope "model", (N,) for "input" and "dataset".
        flagged: bool, or (N,) bool.
        table: rows by class or by input, plain values.
        images: named (C, H, W) or (N, C, H, W) tensors in [0, 1] worth looking at.
        p_value: of scope "model": how often a clean model looks as suspicious; None where it is not calibrated.
        classes: of scope "model": the classes that are suspicious, the most suspicious first; named even where the
            model as a whole is not flagged.
        limit: the score above which an input or a sample, or of scope "model" a class, is flagged; None where there is
            no such number.
        by_class: of scope "model": the score of each class, as `limit` judges it.
        cost: what it took, by name, e.g. images passed forward and backward.
        note: what a reader must know before believing the verdict.
    """

    score: float | Tensor
    flagged: bool | Tensor
    table: tuple[Mapping[str, Any], ...] = ()
    images: Mapping[str, Tensor] = field(default_factory=dict)
    p_value: float | None = None
    classes: tuple[int, ...] = ()
    limit: float | None = None
    by_class: tuple[float, ...] = ()
    cost: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


@runtime_checkable
class Detector(Protocol):
    """A frozen dataclass whose fields are its parameters.

    Optional method of a detector of inputs, `suspicion(model, clean, labels)`: from clean images (N, C, H, W) and
    labels (N,) to its score as a function (n, C, H, W) → (n,) that gradients pass, for attacks that know it.
    """

    def __call__(self, model: nn.Module, data: Data) -> Verdict: ...


@runtime_checkable
class Poison(Protocol):
    """Makes a poisoned training set, and the trigger that opens the door it leaves."""

    def __call__(self, train: Split, generator: torch.Generator) -> Split: ...

    def trigger(self, x: Tensor) -> Tensor: ...
