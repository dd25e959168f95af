"""Bicubic resampling of position tables, with a gradient that is the same in each run."""

import torch
import torch.nn.functional as F
from torch import Tensor

from iqametrics.nn.precision import without_autocast


def bicubic(planes: Tensor, size: tuple[int, int], *, antialias: bool = False) -> Tensor:
    """Resample planes as `torch.nn.functional.interpolate` does, without aligned corners.

    A GPU adds up the gradient of that function in any order, also where torch is asked for deterministic algorithms,
    and MPS has it without antialiasing only. There the planes are multiplied by the same weights as matrices.

    Args:
        planes: (N, C, H, W), float32 or float64.
        size: New height and width.
        antialias: Whether more than four neighbours count where planes are made smaller.

    Returns:
        (N, C, height, width).
    """
    missing = antialias and planes.device.type == "mps"
    if not (missing or torch.are_deterministic_algorithms_enabled()):
        return F.interpolate(planes, size=size, mode="bicubic", align_corners=False, antialias=antialias)
    height, width = (
        _weights(old, new, antialias).to(device=planes.device, dtype=planes.dtype)
        for old, new in zip(planes.shape[-2:], size, strict=True)
    )
    with without_autocast(planes):
        return height @ planes @ width.T


def _weights(old: int, new: int, antialias: bool) -> Tensor:
    """Return the weights of `old` values in each of `new` values, (new, old), on the CPU."""
    unit = torch.eye(old, device="cpu", dtype=torch.float32)[None, None]
    return F.interpolate(unit, size=(new, old), mode="bicubic", align_corners=False, antialias=antialias)[0, 0]
