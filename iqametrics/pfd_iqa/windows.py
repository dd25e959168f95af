"""Positions of an image's windows, and the noise of each.

Both depend only on the size of the image and on a seed, so that the same image always gets the same score.
"""

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
    points = [(halton(index, 2), halton(index, 3)) for index in range(1, count + 1)]
    corners = [(int(y * (height - window + 1)), int(x * (width - window + 1))) for y, x in points]
    return list(dict.fromkeys(corners))


def window_noise(index: int, shape: tuple[int, ...], *, samples: int, seed: int) -> Tensor:
    """Draw the standard normal noise of window number `index`.

    It is drawn on the CPU in float32, so that it is the same for every device, data type and batch. With more samples
    the first ones stay the same.

    Returns:
        Noise of shape (samples, *shape).
    """
    generator = torch.Generator("cpu").manual_seed(seed * _SEEDS_APART + index)
    draws = (torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu") for _ in range(samples))
    return torch.stack(list(draws))
