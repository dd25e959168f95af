"""What one training step costs: memory, operations and time, measured on small batches of noise and scaled.

A step's activations are what autograd keeps between the forward and the backward pass. Both they and the operations
grow in a straight line with the number of images (a text tower's share does not grow), so two small batches tell a
large one. Nothing is read from the disk, and nothing is written to it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from iqametrics.nn.flops import COUNTED
from iqametrics.objective import Batch, Objective
from iqametrics.training.precision import Precision
from iqametrics.training.recipe import TrainTable

_SMALL = (1, 2)
"""Images of the two small batches."""
_WARM_STEPS = 2
_TIMED_STEPS = 5


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """The cost of a step of the whole batch.

    Attributes:
        activations: Bytes that autograd keeps for the backward pass, of one part of an accumulated batch.
        flops: Operations of forward and backward pass, by torch's counter: matrix products, convolutions and
            attention, a multiplication and its addition being two.
        seconds: Time of a step without reading its images.
        measured_images: Images of the batch that was timed; the time of a larger one is scaled.
        device: Name of the device that it was timed on.
    """

    activations: int
    flops: int
    seconds: float
    measured_images: int
    device: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)


def measure_step(objective: Objective, train: TrainTable, device: torch.device, *, cached: bool = False) -> StepCost:
    """Measure a step of a recipe.

    Args:
        objective: The objective, on its device.
        train: The recipe's [train] table.
        device: The device.
        cached: Whether the frozen levels' features come from a cache, so that no step computes them.

    Raises:
        RecipeError: If the device cannot compute in the recipe's precision.
    """
    step = _Step(objective, train, device, cached=cached)
    found = [(*step.count(images), step.timed(images)) for images in _SMALL]
    activations, flops, times = (_line(values) for values in zip(*found, strict=True))
    part = -(-train.batch_size // train.accumulate)
    timed, seconds = _SMALL[-1], times(part) * train.accumulate
    if device.type != "cpu" and (whole := step.whole(part)) is not None:
        timed, seconds = part, whole * train.accumulate
    return StepCost(
        activations=round(activations(part)),
        flops=round(flops(part) * train.batch_size / part),
        seconds=seconds,
        measured_images=timed,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    )


class _Step:
    """Takes steps of any number of images of noise, without an optimiser."""

    def __init__(self, objective: Objective, train: TrainTable, device: torch.device, *, cached: bool) -> None:
        self.objective, self.train, self.device, self.cached = objective.train(), train, device, cached
        self.precision = Precision(train.amp, device)

    def count(self, images: int) -> tuple[int, int]:
        """Return the bytes that a step keeps for its backward pass, and its operations."""
        own = {tensor.untyped_storage().data_ptr() for tensor in self.objective.state_dict().values()}
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        batch = self._batch(images)
        with FlopCounterMode(display=False, custom_mapping=COUNTED) as counter:
            with saved_tensors_hooks(keep, lambda tensor: tensor):
                loss = self._loss(batch)
            loss.backward()
        self.objective.zero_grad(set_to_none=True)
        return sum(kept.values()), counter.get_total_flops()

    def timed(self, images: int) -> float:
        """Return the seconds of one step; the device has done one like it before."""
        batch = self._batch(images)
        self._wait()
        start = time.perf_counter()
        self._loss(batch).backward()
        self._wait()
        seconds = time.perf_counter() - start
        self.objective.zero_grad(set_to_none=True)
        return seconds

    def whole(self, images: int) -> float | None:
        """Return the mean seconds of steps of a whole batch; None where the device has no room for it."""
        try:
            for _ in range(_WARM_STEPS):
                self.timed(images)
            return sum(self.timed(images) for _ in range(_TIMED_STEPS)) / _TIMED_STEPS
        except torch.OutOfMemoryError:
            self.objective.zero_grad(set_to_none=True)
            return None

    def _loss(self, batch: Batch) -> Tensor:
        if not self.cached:
            batch = self._through_trunk(batch)
        with self.precision.autocast():
            return self.objective.loss(batch)[0]

    def _batch(self, images: int) -> Batch:
        """Make a batch of noise, with every label known."""
        crops = images * self.train.crops_together
        generator = torch.Generator().manual_seed(0)
        side = self.train.crop

        def noise() -> list[Tensor]:
            return [torch.rand(crops, 3, side, side, generator=generator).to(self.device)]

        batch = Batch(
            dist=noise(),
            ref=noise() if self.objective.needs_reference else None,
            mos=torch.linspace(0, 1, crops, device=self.device),
            distortion=torch.zeros(crops, dtype=torch.int64, device=self.device),
            source=torch.zeros(crops, dtype=torch.int64, device=self.device),
            seeds=torch.arange(crops),
            views=self.train.crops_together,
        )
        return self._through_trunk(batch) if self.cached else batch

    def _through_trunk(self, batch: Batch) -> Batch:
        ref = None if batch.ref is None else self.objective.trunk(batch.ref[0])
        return replace(batch, dist=self.objective.trunk(batch.dist[0]), ref=ref)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()


def _line(values: Sequence[float]) -> Callable[[int], float]:
    """Return the straight line through what the two small batches gave; it never falls."""
    (first, second), (low, high) = _SMALL, values
    slope = max((high - low) / (second - first), 0.0)
    return lambda images: high + slope * (images - second)
