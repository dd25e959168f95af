"""A distance of features to minimise, where the score itself cannot be followed: no part of the paper."""

from collections.abc import Sequence

from torch import Tensor

_PIXEL_DEVIATION = 0.25
"""About that of a photograph's pixels in [0, 1], so that these count as a standardised level does."""


def feature_distance(dist: Sequence[Tensor], ref: Sequence[Tensor]) -> Tensor:
    """Compute the sum over i = 0..n of 2^-i mean |z_i(dist) - z_i(ref)|, z_0 being the pixels in units of 0.25.

    The finest levels count most: without the pixels, or with all levels alike, Adam finds pictures of nearly the same
    features that are full of grids. DISTS (Ding et al., TPAMI 2022) takes the pixels for its level 0 as well.

    Args:
        dist: Pixels (N, 3, H, W) in [0, 1] of distorted images, then their standardised levels, finest first.
        ref: The same of the references; with N = 1, one serves all.

    Returns:
        (N,), from 0, which only the same pixels have.
    """
    gaps = [(one - other).abs().flatten(1).mean(dim=1) for one, other in zip(dist, ref, strict=True)]
    total = gaps[0] / _PIXEL_DEVIATION
    for number, gap in enumerate(gaps[1:], start=1):
        total = total + gap / 2**number
    return total
