"""The one training loop. A defense gives it a `Method`; the recipe gives it everything else."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from robustkit.contracts import Data, Recipe, Split, Threat, Training, TrainingProgress
from robustkit.precision import Chosen, InPrecision, choose_precision
from robustkit.training.batches import Batches
from robustkit.training.checkpoint import Checkpoint, load
from robustkit.training.method import Memory, Method
from robustkit.training.schedule import radius, rate

VERSION = 1
"""Part of the key of a cached model: raised when a change of this loop changes trained weights."""

_REPORT_SECONDS = 0.2
_EVALUATED_AT_ONCE = 500


def train(model: nn.Module, data: Data, training: Training, method: Method, about: str) -> nn.Module:
    """Train `model` in place.

    Inputs and perturbations are float32; forward and backward passes run in `training.precision`. Epochs are
    divided by the method's replays (rounded up), and the schedules count weight updates, so every method of one
    recipe makes about as many of them. With a directory, each epoch ends in a checkpoint, and a training that
    was killed goes on there and ends in the same weights.

    Args:
        model: float32 (N, C, H, W) in [0, 1] → logits (N, K).
        data: its training and validation parts; the test part is never touched.
        training: threat, recipe, seed, device, precision, directory, progress.
        method: what is trained on.
        about: names the method and its parameters, for the checkpoint.

    Returns:
        `model` on the device, in eval mode.
    """
    recipe = training.recipe
    epochs = math.ceil(recipe.epochs / method.replays)
    run = _Run(model, data, training, method, epochs, f"{about} | {recipe} | {training.threat} | {training.seed}")
    devices = [training.device] if training.device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices), torch.inference_mode(False), torch.enable_grad():
        run.resume()
        while run.epoch < epochs:
            torch.manual_seed(hash((training.seed, run.epoch)) % 2**63)  # an epoch's draws are its own
            run.one_epoch()
        return run.finish()


class _Run:
    """The state of one training."""

    def __init__(
        self, model: nn.Module, data: Data, training: Training, method: Method, epochs: int, about: str
    ) -> None:
        recipe = training.recipe
        self.model = model.to(training.device)
        if any(isinstance(module, nn.Conv2d) and module.in_channels > 1 for module in model.modules()):
            self.model = self.model.to(memory_format=torch.channels_last)
        self.data, self.training, self.method, self.epochs = data, training, method, epochs
        self.batches = Batches(data.train, recipe, training.device, training.seed)
        self.steps = epochs * len(self.batches) * method.replays
        self.precision = _precision(self.model, data.train, training)
        self.about = f"{about} | {self.precision}"
        self.network = InPrecision(self.model, self.precision)
        self.optimizer = _optimizer(self.model, recipe)
        self.average = _average(self.model, recipe)
        self.memory: Memory = {}
        self.epoch = 0
        self.step = 0
        self.path = None if training.directory is None else training.directory / "checkpoint.pt"
        self.began = time.perf_counter()
        self.steps_here = 0
        self.reported = 0.0

    def resume(self) -> None:
        """Go on from the checkpoint where there is one."""
        found = None if self.path is None else load(self.path, self.about, self.training.device)
        if found is None:
            return
        self.model.load_state_dict(found.model)
        self.optimizer.load_state_dict(found.optimizer)
        if self.average is not None:
            self.average.load_state_dict(found.average)
        self.memory.update(found.memory)
        self.epoch = found.epoch
        self.step = self.epoch * len(self.batches) * self.method.replays

    def one_epoch(self) -> None:
        """Every batch once, `replays` weight updates each."""
        self.network.train()
        total, right, seen = 0.0, 0, 0
        for x, y in self.batches.epoch(self.epoch):
            for _ in range(self.method.replays):
                loss, hits = self._update(x, y)
                total, right, seen = total + loss * len(x), right + hits, seen + len(x)
            self._report({"loss": total / seen, "train accuracy": right / seen})
        self.epoch += 1
        metrics = {"loss": total / max(seen, 1), "train accuracy": right / max(seen, 1)}
        metrics["validation accuracy"] = accuracy(self.network, self.data.val, self.training.device)
        self._report(metrics, last=True)
        self._log(metrics)
        if self.path is not None:
            average = {} if self.average is None else dict(self.average.state_dict())
            Checkpoint(
                about=self.about,
                epoch=self.epoch,
                model=self.model.state_dict(),
                optimizer=self.optimizer.state_dict(),
                average=average,
                memory=self.memory,
            ).save(self.path)

    def finish(self) -> nn.Module:
        """The trained model, or its average."""
        if self.average is not None:
            self.model.load_state_dict(self.average.module.state_dict())
        self.model.zero_grad(set_to_none=True)
        return self.model.eval()

    def _update(self, x: Tensor, y: Tensor) -> tuple[float, int]:
        """One weight update; returns loss and the number of examples predicted right before it."""
        recipe, threat = self.training.recipe, self.training.threat
        for group in self.optimizer.param_groups:
            group["lr"] = rate(recipe, self.step, self.steps)
        now = Threat(threat.norm, radius(recipe, threat.eps, self.step, self.steps))
        examples = self.method.examples(self.network, x, y, now, self.memory)
        with _Last(self.network) as last:
            loss = self.method.loss(self.network, examples, x, y)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.method.observe(examples, x, now, self.memory)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.step += 1
        self.steps_here += 1
        return float(loss.detach()), int((last.logits[: len(y)].argmax(dim=1) == y).sum())

    def _report(self, metrics: dict[str, float], last: bool = False) -> None:
        now = time.perf_counter()
        if self.training.report is None or (not last and now - self.reported < _REPORT_SECONDS):
            return
        self.reported = now
        pace = self.steps_here / max(now - self.began, 1e-9)
        progress = TrainingProgress(
            epoch=self.epoch if last else self.epoch + 1,
            epochs=self.epochs,
            step=self.step,
            steps=self.steps,
            images_per_second=pace * self.batches.size,
            seconds_left=(self.steps - self.step) / max(pace, 1e-9),
            metrics=metrics,
        )
        self.training.report(progress)

    def _log(self, metrics: dict[str, float]) -> None:
        """One event a metric and epoch, for TensorBoard."""
        if self.training.directory is None:
            return
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(self.training.directory / "tensorboard")) as writer:
            for name, value in metrics.items():
                writer.add_scalar(name.replace(" ", "_"), value, self.epoch)
            rate_now = rate(self.training.recipe, self.step - 1, self.steps)
            writer.add_scalar("learning_rate", rate_now, self.epoch)


class _Last:
    """Keeps the logits of the last forward pass, so that training accuracy costs no pass of its own."""

    def __init__(self, network: nn.Module) -> None:
        self.logits = torch.empty(0)
        self._handle = network.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        self.logits = output.detach()

    def __enter__(self) -> _Last:
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()


def accuracy(model: nn.Module, split: Split, device: str) -> float:
    """Share of `split` that `model` predicts right, in eval mode; NaN on an empty split."""
    training = model.training
    model.eval()
    right = 0
    with torch.no_grad():
        for start in range(0, len(split), _EVALUATED_AT_ONCE):
            x, y = split.batch(torch.arange(start, min(start + _EVALUATED_AT_ONCE, len(split))))
            right += int((model(x.to(device)).argmax(dim=1).cpu() == y).sum())
    model.train(training)
    return right / len(split) if len(split) else math.nan


def _precision(model: nn.Module, train: Split, training: Training) -> Chosen:
    x, _ = train.batch(torch.arange(min(64, len(train))))
    return choose_precision(model, x.to(training.device), training.precision)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        model.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.momentum > 0,
    )


def _average(model: nn.Module, recipe: Recipe) -> AveragedModel | None:
    if not recipe.ema:
        return None
    update = get_ema_multi_avg_fn(recipe.ema)  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)
