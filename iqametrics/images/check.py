"""Shapes, dtypes and ranges: what a tensor or array must be before a metric sees it."""

import math

import numpy as np
import torch
from torch import Tensor

from iqametrics.errors import InputError

RANGE_TOLERANCE = 1e-3
"""Values this far outside [0, 1] are rounding (a resize, a half-precision product) and are clamped; more is refused."""

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_tensor(x: Tensor, name: str = "image") -> Tensor:
    """Check one image or a batch of images of equal size.

    Args:
        x: (3,H,W) or (N,3,H,W), RGB. float16, bfloat16, float32 or float64 in [0, 1], or uint8 in 0..255.
        name: What to call it in an error message.

    Returns:
        `x` itself where nothing had to be done, on the same device, with its gradient. uint8 becomes float32 by a
        division by 255. Values within `RANGE_TOLERANCE` outside [0, 1] are clamped; the gradient of the clamp is one
        (straight through), so that an optimiser can bring such a value back.

    Raises:
        InputError: If `x` is not a tensor, has another shape, dtype or range, or contains NaN or infinity.
    """
    if not isinstance(x, Tensor):
        raise InputError(f"{name}: expected a torch.Tensor, got {type(x).__name__}; use read_image for other types")
    _check_tensor_shape(tuple(x.shape), name)
    if x.dtype == torch.uint8:
        return x.to(torch.float32) / 255
    if x.dtype not in _FLOATS:
        raise InputError(f"{name}: white is not defined for dtype {x.dtype}; give a float tensor in [0, 1], or uint8")
    low, high = _bounds(x.detach(), name)
    check_range(low, high, name)
    if low < 0 or high > 1:
        return x + (x.clamp(0, 1) - x).detach()
    return x


def _bounds(x: Tensor, name: str) -> tuple[float, float]:
    if x.layout != torch.strided:
        raise InputError(f"{name}: is a tensor of layout {x.layout}; give x.to_dense()")
    try:
        low, high = torch.aminmax(x)
        return float(low), float(high)
    except RuntimeError as error:
        if x.is_meta:
            raise InputError(f"{name}: is on the meta device, which holds no values; give one with values") from error
        if "vmap" not in str(error):
            raise
        raise InputError(f"{name}: cannot be looked at within torch.vmap; give the whole batch, (N,3,H,W)") from error


def check_pair(dist: Tensor, ref: Tensor, name: str = "image") -> None:
    """Check that a distorted image and its reference have the same size.

    Args:
        dist: Distorted image, (3,H,W) or (N,3,H,W).
        ref: Reference image, likewise.
        name: What to call the distorted image in an error message.

    Raises:
        InputError: If height or width differ. Nothing is resized silently, since the way of resizing changes the score.
    """
    check_sizes((dist.shape[-2], dist.shape[-1]), (ref.shape[-2], ref.shape[-1]), name)


def check_sizes(dist: tuple[int, int], ref: tuple[int, int], name: str) -> None:
    """Check the (height, width) of a distorted image and its reference; name and error as in `check_pair`."""
    (height, width), (ref_height, ref_width) = dist, ref
    if (height, width) != (ref_height, ref_width):
        hint = " (one of them is rotated)" if (height, width) == (ref_width, ref_height) else ""
        raise InputError(
            f"{name}: is {width}x{height} but its reference is {ref_width}x{ref_height}{hint}; "
            "crop or resize them to the same width x height first"
        )


def check_array(array: np.ndarray, name: str) -> None:
    """Check an array of pixels.

    Args:
        array: (H,W), (H,W,1), (H,W,3) or (H,W,4); uint8, uint16, or float in [0, 1].
        name: What to call it in an error message.

    Raises:
        InputError: If the array has another shape, dtype or range, or contains NaN or infinity.
    """
    shape = array.shape
    if 0 in shape:
        raise InputError(f"{name}: has no pixels (shape {shape}); give at least 1x1")
    if array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (1, 3, 4)):
        planar = array.ndim == 3 and shape[0] in (1, 3, 4)
        remedy = "it looks like (C,H,W), use array.transpose(1, 2, 0)" if planar else "give (H,W), (H,W,3) or (H,W,4)"
        if array.ndim == 4:
            remedy = "give the images of a batch as a list, list(array)"
        raise InputError(f"{name}: an array of shape {shape} is not an image; {remedy}")
    if array.dtype.str[1:] in ("u1", "u2"):  # either byte order
        return
    if array.dtype.kind != "f":
        raise InputError(f"{name}: white is not defined for dtype {array.dtype}; give uint8, uint16 or float in [0, 1]")
    check_range(float(array.min()), float(array.max()), name)


def check_range(low: float, high: float, name: str) -> None:
    """Check the least and the greatest value of an image in float.

    Args:
        low: Least value; NaN if the image contains NaN.
        high: Greatest value, likewise.
        name: What to call it in an error message.

    Raises:
        InputError: If a value is NaN, infinite, or more than `RANGE_TOLERANCE` outside [0, 1].
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError(f"{name}: holds NaN or infinity; remove them, for instance with torch.nan_to_num, first")
    if low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE:
        return
    if low >= -0.5 and high <= 1.5 and (low >= 0 or high > 1 + RANGE_TOLERANCE):
        remedy = "clamp what overshoots first, x.clip(0, 1)"
    elif low >= 0 and high <= 255:
        remedy = "divide by 255 if white is 255"
    elif low >= -1 - RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE:
        remedy = "use (x + 1) / 2 if it is in [-1, 1]"
    else:
        remedy = "undo the normalisation or clamp it first"
    raise InputError(f"{name}: values from {low:.6g} to {high:.6g} are not in [0, 1]; {remedy}")


def _check_tensor_shape(shape: tuple[int, ...], name: str) -> None:
    if len(shape) in (3, 4) and shape[-3] == 3 and 0 not in shape:
        return
    remedy = "give (3,H,W) or (N,3,H,W)"
    if 0 in shape:
        remedy = "it is empty, give at least one pixel"
    elif len(shape) in (3, 4) and shape[-1] == 3:
        remedy = "it looks like (H,W,3), use x.movedim(-1, -3)"
    elif len(shape) in (3, 4) and shape[-3] == 1:
        remedy = "for a gray image use x.expand(*x.shape[:-3], 3, -1, -1)"
    elif len(shape) in (3, 4) and shape[-3] == 4:
        remedy = "composite or drop the alpha channel, x[..., :3, :, :]"
    raise InputError(f"{name}: a tensor of shape {shape} is not an RGB image; {remedy}")
