"""The optimiser of a run."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from iqametrics.errors import RecipeError
from iqametrics.training.tables import TrainTable


def make_optimizer(groups: Sequence[Mapping[str, Any]], train: TrainTable, device: torch.device) -> torch.optim.AdamW:
    """Make AdamW, fused where the recipe says so, and without its word on an NVIDIA GPU.

    Each group keeps its learning rate as "peak_lr", which the schedule multiplies.

    Raises:
        RecipeError: If this version of torch has no fused step for the device.
    """
    fused = device.type == "cuda" if train.fused is None else train.fused
    try:
        return torch.optim.AdamW([{**group, "peak_lr": group["lr"]} for group in groups], fused=fused)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise RecipeError(f"train.fused = true: {device} has no fused AdamW ({reason}); leave it out") from error
