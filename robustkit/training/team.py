"""Several processes that train one network: plain `torch.distributed`, started by `torchrun`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.overrides import TorchFunctionMode

from robustkit.params import UsageError


@dataclass(frozen=True)
class Team:
    """The processes; one alone is a team of size 1, for which nothing here does anything.

    Each process takes the same rows of every batch, so that shapes stay fixed and what a method keeps from batch to
    batch belongs to the process that made it. Only the first one writes, reports and validates.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def rows(self, batch_size: int) -> slice:
        """Which images of a batch are this process's.

        Raises:
            UsageError: the batch cannot be cut into parts of one size.
        """
        if batch_size % self.size:
            raise UsageError(
                f"batch_size={batch_size} cannot be divided among {self.size} processes; take a multiple of {self.size}"
            )
        part = batch_size // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def wrapped(self, network: nn.Module) -> nn.Module:
        """The network whose backward pass averages gradients over the processes; all begin with the first's weights."""
        return network if self.size == 1 else nn.parallel.DistributedDataParallel(network)

    def draws(self, part: int) -> AbstractContextManager[object]:
        """Random numbers for `part` images are those rows of the numbers that one process would draw for the batch."""
        return nullcontext() if self.size == 1 else _Draws(self, part)

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over the processes."""
        for tensor in tensors if self.size > 1 else ():
            dist.all_reduce(tensor)
            tensor /= self.size

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over the processes."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def joined(self, tensor: Tensor) -> Tensor:
        """The parts of all processes, one after the other along the first dimension."""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def told(self, numbers: Sequence[float], device: torch.device) -> list[float]:
        """The first process's numbers; the others give as many of any value."""
        if self.size == 1:
            return list(numbers)
        tensor = torch.tensor(numbers, dtype=torch.float64, device=device)
        dist.broadcast(tensor, 0)
        return [float(number) for number in tensor]

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by the first process's."""
        for tensor in tensors if self.size > 1 else ():
            dist.broadcast(tensor, 0)

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            dist.barrier()


def team(device: str) -> Team:
    """The team this process belongs to; it joins one where `torchrun` started it.

    Gloo connects processes on CPUs, NCCL those on GPUs, of which each process takes the one of its local rank.
    """
    if not dist.is_available():
        return Team()
    if not dist.is_initialized():
        if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ or "MASTER_ADDR" not in os.environ:
            return Team()
        on_gpu = torch.device(device).type == "cuda"
        if on_gpu:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if on_gpu else "gloo")
    return Team(dist.get_rank(), dist.get_world_size())


class _Draws(TorchFunctionMode):
    """Every process draws what all of them need, and keeps its own.

    So no two see the same noise, and one seed gives one training, however many processes share it.
    """

    def __init__(self, crew: Team, part: int) -> None:
        super().__init__()
        self._crew, self._part = crew, part
        self._rows = slice(crew.rank * part, (crew.rank + 1) * part)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.rand_like, torch.randn_like, Tensor.uniform_) and self._of_images(args[0].shape):
            whole = args[0].new_empty((self._part * self._crew.size, *args[0].shape[1:]))
            mine = func(whole, *args[1:], **kwargs)[self._rows]
            return args[0].copy_(mine) if func is Tensor.uniform_ else mine.contiguous()
        if func in (torch.rand, torch.randn):
            shape = tuple(args[0]) if isinstance(args[0], tuple | list) else args
            if self._of_images(shape):
                return func(self._part * self._crew.size, *shape[1:], **kwargs)[self._rows].contiguous()
            return [func(*args, **kwargs) for _ in range(self._crew.size)][self._crew.rank]
        return func(*args, **kwargs)

    def _of_images(self, shape: Sequence[int]) -> bool:
        return len(shape) > 0 and shape[0] == self._part
