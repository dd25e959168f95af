"""Several processes that train together, one for each GPU or, for tests, on the CPU.

`torchrun --nproc_per_node N -m iqametrics train ...` starts them and sets RANK, WORLD_SIZE and LOCAL_RANK. Each one
runs the same program on its share of every batch. Only the first one writes files and prints. The run's folder,
the data and the cache must be visible to all of them.
"""

import atexit
import contextlib
import datetime
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from iqametrics.common.devices import find_device
from iqametrics.errors import RecipeError, TrainingError
from iqametrics.objective import Batch, Objective

TIMEOUT = datetime.timedelta(minutes=30)
"""How long a process waits for the others before it gives up. Nothing between two waits takes longer: validation is
divided among the processes, and the feature cache is built under a lock of the file system."""

_LOST = ("connection", "timed out", "timeout", "gloo", "nccl", "store", "peer")


@dataclass(frozen=True)
class Ranks:
    """This process among all that train together.

    Attributes:
        device: Device of this process.
        rank: Number of this process, from 0.
        count: Number of processes.
    """

    device: torch.device
    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until every process has reached this point."""
        # The value is read because a sum on a GPU is only queued, and the program must not go on before it is done.
        self.sum(torch.zeros(1, device=self.device)).item()

    def sum(self, values: Tensor) -> Tensor:
        """Add up the values of all processes; each of them gets the sum."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def share_buffers(self, module: nn.Module) -> None:
        """Copy the first process's buffers to all others: running statistics differ, since each sees its own images."""
        if self.count > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)

    def gradients(self, loss: nn.Module, *, add: bool) -> contextlib.AbstractContextManager[None]:
        """Return the context of a forward and backward pass; without `add`, gradients stay on their process for now."""
        return contextlib.nullcontext() if add or not isinstance(loss, DistributedDataParallel) else loss.no_sync()

    def wrap(self, objective: Objective, backend: str = "none") -> nn.Module:
        """Return a module that computes the objective's loss and, backwards, the mean gradient of all processes.

        Args:
            objective: The objective.
            backend: Backend of torch.compile, or "none".
        """
        loss = Loss(objective, backend)
        if self.count == 1:
            return loss
        # Ablations leave parameters unused; only a search of the graph finds them. If it finds none, torch says so.
        return DistributedDataParallel(loss, find_unused_parameters=True)


class Loss(nn.Module):
    """An objective's loss as a forward pass, the form that DistributedDataParallel wraps."""

    def __init__(self, objective: Objective, backend: str = "none") -> None:
        super().__init__()
        self.objective = objective
        self.compiled = None if backend == "none" else torch.compile(self._scaled, backend=backend)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss and its parts."""
        return self.objective.loss(batch) if self.compiled is None else self.compiled(batch, batch.mos.new_ones(()))

    def _scaled(self, batch: Batch, one: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss times `one`, and its parts.

        A compiler that sees that loss and part are equal, as with a weight of 1, returns one tensor for both, and where
        the part was detached the loss has lost its gradient. Of a factor that it is given it knows nothing.
        """
        loss, parts = self.objective.loss(batch)
        return loss * one, parts


@contextlib.contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the processes that torchrun started; without torchrun there is only this one.

    Processes stay joined until the program ends, so that one program can train several times.

    Args:
        device: The recipe's `train.device`.

    Raises:
        RecipeError: If this machine has no such device.
        TrainingError: If torchrun's variables make no sense, or another process ended or does not answer.
    """
    rank, count, local = (
        _variable(name, default) for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    ranks = Ranks(choose_device(device, local=local if count > 1 else None), rank, count)
    try:
        if count > 1 and not dist.is_initialized():
            if ranks.device.type == "cuda":
                torch.cuda.set_device(ranks.device)
            dist.init_process_group("nccl" if ranks.device.type == "cuda" else "gloo", timeout=TIMEOUT)
            atexit.register(dist.destroy_process_group)
        yield ranks
    except RuntimeError as error:
        if count == 1 or not any(word in str(error).lower() for word in _LOST):
            raise
        reason = str(error).strip().partition("\n")[0]
        raise TrainingError(
            f"process {rank} of {count} lost the others ({reason}); mend what they report and use --resume"
        ) from error


def choose_device(name: str, *, local: int | None = None) -> torch.device:
    """Return the device that a recipe names.

    Args:
        name: "auto", "cpu", "cuda", "cuda:N" or "mps".
        local: Number of this process on this machine if there are several: each takes a GPU of its own.

    Raises:
        RecipeError: If this machine has no such device.
    """
    device = find_device(name, error=RecipeError, what="train.device =")
    if local is None or device.type == "cpu":
        return device
    if device.type != "cuda" or ":" in name:
        raise RecipeError(f"train.device = {name!r}: several processes train on 'cuda' or 'cpu'; use one of them")
    if local >= torch.cuda.device_count():
        raise RecipeError(
            f"process {local} of this machine finds {torch.cuda.device_count()} GPUs only; start as many processes"
        )
    return torch.device("cuda", local)


def _variable(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    if not value.isdigit():
        raise TrainingError(f"{name}={value} in the environment is no number; start several processes with torchrun")
    return int(value)
