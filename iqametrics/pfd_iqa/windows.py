"""Where the windows of an image lie, and the noise that belongs to each.

Both are functions of the image's size and a seed alone, so that the same image always gets the same score.
"""

import torch
from torch import Tensor

_SEEDS_APART = 1_000_003  # a prime above any number of windows, so that neighbouring seeds share no noise


def halton(index: int, base: int) -> float:
    """Give number `index` (from 1) of the Halton sequence of a base, in (0, 1).

    Source: Halton, "On the efficiency of certain quasi-random sequences of points", Numerische Mathematik 1960.

        >>> [halton(index, 2) for index in (1, 2, 3, 4)]
        [0.5, 0.25, 0.75, 0.125]
    """
    value, fraction = 0.0, 1.0
    while index:
        fraction /= base
        index, digit = divmod(index, base)
        value += digit * fraction
    return value


def window_positions(height: int, width: int, *, window: int, count: int) -> list[tuple[int, int]]:
    """Give the upper left corners (y, x) of square windows on the Halton pattern of bases 2 and 3.

    All positions are equally likely, the corners included. A position that comes up again is left out, so an image
    that is just one window large has one window.

        >>> window_positions(16, 16, window=14, count=4)
        [(1, 1), (0, 2), (2, 0), (0, 1)]

    Args:
        height: rows of what the windows are cut from, at least `window`.
        width: columns of the same.
        window: side of a window, in the same unit.
        count: number of points of the pattern.
    """
    points = [(halton(index, 2), halton(index, 3)) for index in range(1, count + 1)]
    corners = [(int(y * (height - window + 1)), int(x * (width - window + 1))) for y, x in points]
    return list(dict.fromkeys(corners))


def window_noise(index: int, shape: tuple[int, ...], *, samples: int, seed: int) -> Tensor:
    """Draw the standard normal noise of window number `index`.

    It is drawn on the CPU in float32, so that it is the same for every device, data type and batch; the first draws
    are the same however many there are.

    Returns:
        (samples, *shape).
    """
    generator = torch.Generator("cpu").manual_seed(seed * _SEEDS_APART + index)
    draws = (torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu") for _ in range(samples))
    return torch.stack(list(draws))
