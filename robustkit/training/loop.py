"""The one training loop. A defense gives it a `Method`; the recipe gives it everything else."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn

from robustkit.contracts import Data, Threat, Training
from robustkit.data.extra import read_extra
from robustkit.data.splits import check_unit_range
from robustkit.models.weights import load_checkpoint
from robustkit.params import UsageError
from robustkit.precision import Chosen, InPrecision, generator_kept
from robustkit.training.average import Average
from robustkit.training.awp import perturbed_weights
from robustkit.training.batches import Batches
from robustkit.training.checkpoint import Checkpoint, described, load
from robustkit.training.denormals import denormals_flushed
from robustkit.training.keep import CLEAN, ROBUST, Keeper, State
from robustkit.training.method import Memory, Method
from robustkit.training.modes import frozen
from robustkit.training.monitor import Monitor
from robustkit.training.radii import Radii
from robustkit.training.schedule import drawn_shares, radius, rate
from robustkit.training.seeds import reseed, stream
from robustkit.training.setup import make_optimizer, settle_precision, turn_channels_last
from robustkit.training.tally import Last, Tally
from robustkit.training.team import team
from robustkit.training.validate import accuracy, robust_accuracy

__all__ = ["VERSION", "accuracy", "train"]

VERSION = 2
"""Part of the key of a cached model: raised when a change of this loop changes trained weights."""


def train(
    model: nn.Module, data: Data, training: Training, method: Method, about: str, *, awp: float = 0.0
) -> nn.Module:
    """Train `model` in place.

    Inputs and perturbations are float32; forward and backward passes run in `training.precision`. Epochs are
    divided by the method's replays (rounded up), and the schedules count weight updates, so every method of one
    recipe makes about as many of them. With a directory, each epoch ends in a checkpoint, and a training that
    was killed goes on there and ends in the same weights (on a CPU bit for bit; CUDA's sums have no fixed order).
    A directory belongs to one training at a time.

    Started by `torchrun` with several processes, each takes its part of every batch, and the loss is that of one
    process alone; only statistics of BatchNorm are of each part. The first process writes, reports and validates.

    Args:
        model: float32 (N, C, H, W) in [0, 1] → logits (N, K).
        data: its training and validation parts; the test part is never touched.
        training: threat, recipe, seed, device, precision, directory, progress.
        method: what is trained on.
        about: names the method and its parameters, for the checkpoint.
        awp: relative size of an adversarial weight perturbation; 0 is none.

    Returns:
        `model` on the device, in eval mode.

    Raises:
        UsageError: no training samples, a precision that cannot train, a checkpoint of another training, or
            a loss that is no longer finite.
    """
    device = torch.device(training.device)
    with contextlib.ExitStack() as stack:
        stack.enter_context(generator_kept(device))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(denormals_flushed())
        for kind in {"cpu", device.type}:
            stack.enter_context(torch.autocast(kind, enabled=False))  # the caller's
        run = _Run(model, data, training, method, about, awp)
        monitor = stack.enter_context(run.monitor())
        while run.epoch < run.epochs and not run.keeper.ended:
            run.one_epoch(monitor)
        return run.finish()


class _Run:
    """The state of one training."""

    def __init__(
        self, model: nn.Module, data: Data, training: Training, method: Method, about: str, awp: float
    ) -> None:
        recipe = training.recipe
        self.data, self.training, self.method, self.awp = data, training, method, awp
        self.device = torch.device(training.device)
        self.team = team(training.device)
        extra = read_extra(Path(recipe.extra).expanduser(), data) if recipe.extra else None
        self.batches = Batches(data.train, recipe, self.device, training.seed, extra)
        self.rows = self.team.rows(self.batches.size)
        self.epochs = math.ceil(recipe.epochs / method.replays)
        self.steps = self.epochs * len(self.batches) * method.replays
        self.epoch = self.step = 0
        self.memory: Memory = {}
        self.path = None if training.directory is None else training.directory / "checkpoint.pt"
        self.about = f"{about} | {described(recipe)} | {training.threat} | {training.seed}"
        found = None if self.path is None else load(self.path, self.about, training.device)

        if recipe.start and found is None:
            load_checkpoint(model, Path(recipe.start).expanduser(), new_head=True)
        self.model = model.to(self.device)
        example = data.train.batch(torch.arange(min(64, len(data.train))))[0].to(self.device)
        check_unit_range(example, f"{data.name}: training images")
        precision = settle_precision(self.model, example, training, found)
        choices = get_args(Chosen)
        self.precision: Chosen = choices[int(self.team.told([choices.index(precision)], self.device)[0])]
        channels_last = turn_channels_last(self.model, example[:2])
        self.network = InPrecision(self.model, self.precision, channels_last=channels_last)
        self.optimizer = make_optimizer(self.model, recipe)
        if found is not None:
            self.model.load_state_dict(found.model)
            self.optimizer.load_state_dict(found.optimizer)
            self.memory.update(self._remembered(found.memory))
            self.epoch = found.epoch
            self.step = self.epoch * len(self.batches) * method.replays
        first = int(self.team.told([self.epoch], self.device)[0])
        if first != self.epoch:
            raise UsageError(
                f"this process would go on after epoch {self.epoch}, the first one after epoch {first}: they see "
                "different checkpoints; put ROBUSTKIT_CACHE on a file system that all machines share"
            )
        # the attack runs on the bare network; its copy for the weights' gradients makes one pass forward and back
        self.wrapped = self.team.wrapped(self.network)
        self.average = Average(self.model, recipe.ema) if recipe.ema else None
        if self.average is not None and found is not None:
            self.average.state = found.average
        self.keeper = Keeper(recipe, None if found is None else found.kept)

    def monitor(self) -> Monitor:
        silent = dataclasses.replace(self.training, directory=None, report=None)
        return Monitor(
            self.training if self.team.first else silent,
            epochs=self.epochs,
            steps=self.steps,
            batch_size=self.batches.size,
            step=self.step,
        )

    def one_epoch(self, monitor: Monitor) -> None:
        """Every batch once, `replays` weight updates each; then validation and a checkpoint."""
        reseed(self.device, stream(self.training.seed, self.epoch, "perturbations"))
        self.network.train()
        tally = Tally(self.device)
        draws = torch.Generator().manual_seed(stream(self.training.seed, self.epoch, "radii"))
        shares = drawn_shares(self.training.recipe, self.batches.size, draws)
        for (x, y), share in zip(self.batches.epoch(self.epoch), shares, strict=False):
            for _ in range(self.method.replays):
                self._update(x, y, share, tally)
                monitor.stepped(self.epoch + 1, self.step, tally.metrics)
        self.epoch += 1
        metrics = tally.metrics(self.team)
        if not math.isfinite(metrics["loss"]):
            raise UsageError(
                f"the training diverged in epoch {self.epoch}: its loss is {metrics['loss']}; "
                f"take a smaller learning rate than lr={self.training.recipe.lr:g}"
            )
        last_rate = rate(self.training.recipe, self.step - 1, self.steps)
        metrics |= self._validated()
        if self.keeper.collapsed(metrics):
            metrics["collapsed"] = 1.0
        monitor.epoch_done(self.epoch, self.step, metrics, last_rate)
        earlier = self.keeper.epoch_done(self.epoch, metrics, self._state)
        if earlier is not None:
            self._go_back(earlier)
        if self.path is not None:
            checkpoint = self._checkpoint()
            if self.team.first:
                checkpoint.save(self.path)

    def finish(self) -> nn.Module:
        """The trained model, or its average; of the last epoch or of the best."""
        if self.keeper.best is not None:
            self._go_back(self.keeper.best)
        if self.average is not None:
            self.model.load_state_dict(self.average.state)
        self.team.share(self.model.state_dict().values())  # statistics of BatchNorm are each process's own
        self.team.wait()  # for the last checkpoint
        self.model.zero_grad(set_to_none=True)
        return self.model.eval()

    def _update(self, x: Tensor, y: Tensor, share: float | Tensor, tally: Tally) -> None:
        """One weight update, against a share of the radius, or one for each image."""
        recipe, threat = self.training.recipe, self.training.threat
        for group in self.optimizer.param_groups:
            group["lr"] = rate(recipe, self.step, self.steps)
        eps = radius(recipe, threat.eps, self.step, self.steps)
        x, y = x[self.rows], y[self.rows]
        now = (
            Threat(threat.norm, share * eps)
            if isinstance(share, float)
            else Radii(threat.norm, eps, share[self.rows].to(self.device))
        )
        with frozen(self.model), self.team.draws(len(x)):
            examples = self.method.examples(self.network, x, y, now, self.memory)
        with perturbed_weights(
            self.model, lambda: self.method.loss(self.network, examples, x, y), self.awp, self.team.average
        ):
            with Last(self.network) as last, self.team.draws(len(x)):
                loss = self.method.loss(self.wrapped, examples, x, y)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.method.observe(examples, x, now, self.memory)
            self.optimizer.step()
        if self.average is not None:
            self.average.update(self.step)
        tally.add(loss, last.logits[: len(y)], y)
        self.step += 1

    def _validated(self) -> dict[str, float]:
        """Accuracies on validation data of the weights that would be returned now."""
        val, device, watch = self.data.val, self.training.device, self.method.watch
        found = {CLEAN: math.nan} if watch is None else {CLEAN: math.nan, ROBUST: math.nan}
        if self.team.first:
            with contextlib.nullcontext() if self.average is None else self.average.applied(self.model):
                found[CLEAN] = accuracy(self.network, val, device)
                if watch is not None:
                    found[ROBUST] = robust_accuracy(self.network, val, device, self.training.threat, watch)
        return dict(zip(found, self.team.told(list(found.values()), self.device), strict=True))

    def _state(self) -> State:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": {} if self.average is None else self.average.state,
        }

    def _go_back(self, state: State) -> None:
        state = copy.deepcopy(state)  # what is trained on from here shall not change what is kept
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.state = state["average"]

    def _remembered(self, memory: Memory) -> Memory:
        """What the method kept; of what has a value for each image of a batch, this process's part."""
        size = self.batches.size
        return {
            name: value[self.rows] if value.ndim and len(value) == size else value for name, value in memory.items()
        }

    def _checkpoint(self) -> Checkpoint:
        part = self.batches.size // self.team.size
        return Checkpoint(
            about=self.about,
            precision=self.precision,
            epoch=self.epoch,
            memory={
                name: self.team.joined(value) if value.ndim and len(value) == part else value
                for name, value in self.memory.items()
            },
            kept=self.keeper.kept,
            **self._state(),
        )
