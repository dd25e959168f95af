"""The state of a run on the disk: everything that the rest of the run depends on, in one safetensors file.

It has no random state, since the random numbers of a step are derived from the seed and the step's number. It has no
frozen weights either: these come from the recipe's starting files, whose digests are compared.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from iqametrics.common.files import write_file
from iqametrics.errors import TrainingError
from iqametrics.nn.norm import FrozenBatchNorm2d
from iqametrics.weights.untrusted import one_line, shown

_KEY, _CHECKSUM = "iqametrics-run", "iqametrics-checksum"

write_run_file = partial(
    write_file, error=TrainingError, remedy="the last good state is kept, make room and use --resume"
)
"""Writes a file of a run atomically."""


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        epoch: Number of the running epoch, from 0; equal to the recipe's epochs when all are done.
        step_in_epoch: Steps of that epoch that are done.
        step: Steps done in the whole run.
        sums: Loss and its parts, summed over the images of the running epoch.
        images: Images of the running epoch that are done.
        seconds: Time spent in the running epoch before the last interruption.
        best_epoch: Epoch with the best validation SRCC, -1 for none yet.
        best_srcc: That SRCC.
        history: One row an epoch.
        scaler: State of the loss scaler of float16, empty for none.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    images: int = 0
    seconds: float = 0.0
    best_epoch: int = -1
    best_srcc: float = -2.0
    history: list[dict[str, float]] = field(default_factory=list)
    scaler: dict[str, float] = field(default_factory=dict)

    def mean(self, name: str) -> float:
        """Return the mean of the loss or a part over the running epoch's images; NaN if every step was skipped."""
        return self.sums[name] / self.images if self.images else math.nan

    def next_epoch(self) -> None:
        """Close the running epoch."""
        self.epoch, self.step_in_epoch, self.sums, self.images, self.seconds = self.epoch + 1, 0, {}, 0, 0.0


class Average:
    """Moving average of the trainable parameters, and of the running statistics of BatchNorm.

    The statistics are averaged with the same weights as the parameters. (Computing them again with the averaged
    parameters would be exact, but takes a pass over the training part at each validation.)

    Args:
        module: The module whose parameters and statistics are averaged, before its first step.
        decay: Weight of the past; the first steps use (1 + step) / (10 + step) if that is less.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: tensor.detach().clone() for name, tensor in averaged(module).items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the state after a step."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, tensor in averaged(module).items():
            self.values[name].lerp_(tensor, weight)

    @torch.no_grad()
    def swap(self, module: nn.Module) -> None:
        """Exchange averaged and current state; a second call exchanges them back."""
        for name, tensor in averaged(module).items():
            current = tensor.detach().clone()
            tensor.copy_(self.values[name])
            self.values[name].copy_(current)


def averaged(module: nn.Module) -> dict[str, Tensor]:
    """Return the trainable parameters, and the running means and variances that training changes, by name."""
    tensors: dict[str, Tensor] = dict(trainable(module))
    for prefix, child in module.named_modules():
        if isinstance(child, _BatchNorm) and not isinstance(child, FrozenBatchNorm2d):
            found = {"running_mean": child.running_mean, "running_var": child.running_var}
            tensors |= {f"{prefix}.{name}": tensor for name, tensor in found.items() if tensor is not None}
    return tensors


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters with a gradient, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def learned_state(module: nn.Module) -> dict[str, Tensor]:
    """Return all that training may have changed, by name: trainable parameters and stored buffers."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {name: tensor.detach() for name, tensor in module.state_dict().items() if name not in frozen}


def save_state(
    path: Path,
    module: nn.Module,
    progress: Progress,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    average: Average | None = None,
) -> None:
    """Write a state atomically; without optimiser and average, it has only weights.

    Raises:
        TrainingError: If it cannot be written; an older state under that name is kept.
    """
    tensors = {f"objective.{name}": tensor for name, tensor in learned_state(module).items()}
    if optimizer is not None:
        tensors |= {f"optimizer.{name}": tensor for name, tensor in _optimizer_tensors(module, optimizer).items()}
    if average is not None:
        tensors |= {f"average.{name}": tensor for name, tensor in average.values.items()}
    # safetensors refuses tensors that share memory, and tied weights are one tensor under two names.
    stored = {name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    text = json.dumps(dataclasses.asdict(progress))
    write_run_file(path, to_bytes(stored, metadata={_KEY: text, _CHECKSUM: _checksum(text, stored)}))


def load_state(
    path: Path,
    module: nn.Module,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    average: Average | None = None,
) -> Progress:
    """Read a state that `save_state` wrote into the same objects.

    Raises:
        TrainingError: If the file is damaged or of another model.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = stream.metadata() or {}
        tensors = load_file(path)
        # Older states have none.
        if metadata.get(_CHECKSUM) not in (None, _checksum(metadata[_KEY], tensors)):
            raise ValueError("its content is not what was written: the file is damaged")
        progress = _progress(metadata[_KEY])
    except (OSError, SafetensorError, KeyError, AttributeError, TypeError, ValueError, RecursionError) as error:
        reason = one_line(str(error) or type(error).__name__)
        raise TrainingError(
            f"{path}: is no readable state of a run ({reason}); start anew in another folder"
        ) from error
    _restore(module, _below(tensors, "objective."), path)
    if optimizer is not None:
        try:
            _restore_optimizer(module, optimizer, _below(tensors, "optimizer."))
        except (KeyError, RuntimeError) as error:
            raise TrainingError(
                f"{path}: its optimiser's state is that of another model; use its own recipe"
            ) from error
    if average is not None:
        stored = _below(tensors, "average.")
        _check_names(average.values, stored, path)
        for name, value in stored.items():
            average.values[name].copy_(value)
    return progress


def _progress(text: str) -> Progress:
    """Read the progress of a run; a value of another type than its field's is an error."""
    progress = Progress(**json.loads(text))
    for name, default in dataclasses.asdict(Progress()).items():
        value = getattr(progress, name)
        if type(value) is not type(default) and not (isinstance(default, float) and type(value) is int):
            raise TypeError(f"{name} is a {type(value).__name__}")
    _check_plausible(progress)
    return progress


def _check_plausible(progress: Progress) -> None:
    """Refuse a progress that no run writes, such as epoch -1.

    Raises:
        ValueError: If a value is impossible.
    """
    for name in ("epoch", "step_in_epoch", "step", "images", "seconds"):
        if not 0 <= getattr(progress, name) < math.inf:
            raise ValueError(f"{name} is {getattr(progress, name)}")
    if len(progress.history) != progress.epoch:
        raise ValueError(f"epoch is {progress.epoch}, and {len(progress.history)} epochs are recorded")
    if not -1 <= progress.best_epoch <= progress.epoch:
        raise ValueError(f"best_epoch is {progress.best_epoch} in epoch {progress.epoch}")
    for table in (progress.sums, progress.scaler, *progress.history):
        for name, value in table.items():
            if type(value) not in (int, float):
                raise TypeError(f"{name} is {value!r}, no number")


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Compute the digest of a state, so that a flipped bit is not taken for a weight."""
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _restore(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    _check_names(learned_state(module), tensors, path)
    module.load_state_dict(tensors, strict=False)


def _check_names(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path) -> None:
    wrong = sorted(expected.keys() ^ tensors.keys())
    wrong += [name for name in expected.keys() & tensors.keys() if expected[name].shape != tensors[name].shape]
    if wrong:
        raise TrainingError(f"{path}: is the state of another model ({shown(wrong)} differ); use its own recipe")


def _optimizer_tensors(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": value
        for name, parameter in trainable(module).items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _restore_optimizer(module: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = trainable(module)
    for name, value in tensors.items():
        parameter, _, key = name.rpartition("/")
        state: dict[str, Any] = optimizer.state[parameters[parameter]]
        # The step counter stays on the CPU, but for a fused step; the moments go where the parameter is and in its
        # memory layout, since the last bits of a result may depend on the layout.
        own = parameters[parameter].detach()
        if key == "step":
            state[key] = value.to(own.device) if optimizer.defaults.get("fused") else value
        else:
            state[key] = torch.empty_like(own).copy_(value)
