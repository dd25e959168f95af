"""Positions of an image's windows, and the noise of each.

Both depend only on the size of the image and on a seed, so that the same image always gets the same score.
"""

from functools import lru_cache

import torch
from torch import Tensor

from iqametrics.common.halton import halton

_SEEDS_APART = 1_000_003  # a prime above any number of windows, so that neighbouring seeds share no noise


def window_positions(height: int, width: int, *, window: int, count: int) -> list[tuple[int, int]]:
    """Return the upper left corners (y, x) of square windows on the Halton pattern of bases 2 and 3.

    All positions are equally likely, those at the border included. A position that comes up again is dropped, so an
    image as large as one window has one window.

        >>> window_positions(16, 16, window=14, count=4)
        [(1, 1), (0, 2), (2, 0), (0, 1)]

    Args:
        height: Rows of what the windows are cut from, at least `window`.
        width: Columns of the same.
        window: Side of a window, in the same unit.
        count: Number of points of the pattern.
    """
    corners = [(int(y * (height - window + 1)), int(x * (width - window + 1))) for y, x in _points(count)]
    return list(dict.fromkeys(corners))


def symbolic_windows(canvas: Tensor, *, window: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cut windows from a canvas whose size is a symbol, where nothing may be done that depends on the size.

    Args:
        canvas: (N, C, H, W).
        window: Side of a window.
        count: Number K of points of the pattern.

    Returns:
        All K windows, (N, K, C, window, window), those that come up again included; the share of each in the mean over
        the windows, (K,), which is 0 where it comes up again; and its number, (K,), where the others are counted.
    """
    rooms = [torch.full((), size - window + 1, dtype=torch.float64) for size in canvas.shape[-2:]]
    points = torch.tensor(_points(count), dtype=torch.float64)
    corners = (points * torch.stack(rooms)).floor().long().to(canvas.device)
    equal = (corners[:, None] == corners).all(dim=-1)
    first = ~(equal & torch.ones_like(equal).tril(-1)).any(dim=1)
    steps = torch.arange(window, device=canvas.device)
    rows, columns = (corners[:, axis, None] + steps for axis in (0, 1))
    windows = canvas[:, :, rows[:, :, None], columns[:, None, :]].movedim(2, 1)
    return windows, first.to(canvas.dtype) / first.sum(), first.long().cumsum(0) - 1


def _points(count: int) -> list[tuple[float, float]]:
    return [(halton(index, 2), halton(index, 3)) for index in range(1, count + 1)]


@lru_cache(maxsize=32)
def window_noise(index: int, shape: tuple[int, ...], *, samples: int, seed: int) -> Tensor:
    """Draw the standard normal noise of window number `index`.

    It is drawn on the CPU in float32, so that it is the same for every device, data type and batch. With more samples
    the first ones stay the same. It is kept for the next image, and for an export, which may not draw; do not write
    into it.

    Returns:
        Noise of shape (samples, *shape).
    """
    generator = torch.Generator("cpu").manual_seed(seed * _SEEDS_APART + index)
    draws = (torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu") for _ in range(samples))
    return torch.stack(list(draws))
