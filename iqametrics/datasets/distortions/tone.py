"""Tone: brightness, contrast, grey levels, sharpening. KADID-10k types 16 to 18, 22, 24 and 25."""

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

from iqametrics.datasets.distortions.arrays import Image, gaussian_blur, luma, to_uint8

_TABLE_SIZE = 1024
_LLOYD_STEPS = 40


def tone_curve(image: Image, *points: tuple[float, float]) -> Image:
    """Map each channel by the shape-preserving cubic through (0, 0), the points and (1, 1)."""
    x, y = zip((0.0, 0.0), *points, (1.0, 1.0), strict=True)
    table = PchipInterpolator(x, y)(np.linspace(0, 1, _TABLE_SIZE)).astype(np.float32)
    position = image * np.float32(_TABLE_SIZE - 1)
    index = np.minimum(position.astype(np.int32), _TABLE_SIZE - 2)
    low = table[index]
    return low + (position - index).astype(np.float32) * (table[index + 1] - low)


def brighten(image: Image, amount: float, rng: np.random.Generator) -> Image:
    """Apply the tone curve through (0.5, 0.5 + amount / 2)."""
    return tone_curve(image, (0.5, 0.5 + amount / 2))


def darken(image: Image, amount: float, rng: np.random.Generator) -> Image:
    """Apply the tone curve through (0.5, 0.5 - amount / 2)."""
    return tone_curve(image, (0.5, 0.5 - amount / 2))


def mean_shift(image: Image, amount: float, rng: np.random.Generator) -> Image:
    """Add `amount` to every value."""
    return image + np.float32(amount)


def grey_levels(histogram: npt.NDArray[np.int64], levels: int) -> npt.NDArray[np.float32]:
    """Compute a table from 256 grey values to at most `levels` of little squared error (Lloyd; multi-Otsu)."""
    values = np.arange(256) / 255
    count = np.cumsum(histogram)
    quantiles = (np.arange(levels) + 0.5) / levels * count[-1]
    centres = values[np.minimum(np.searchsorted(count, quantiles), 255)]
    mass = np.concatenate([[0], count])
    moment = np.concatenate([[0], np.cumsum(histogram * values)])
    for _ in range(_LLOYD_STEPS):
        # A class is the values between the midpoints of neighbouring centres; its new centre is their mean.
        edges = np.concatenate([[0], np.searchsorted(values, (centres[1:] + centres[:-1]) / 2), [256]])
        size = mass[edges[1:]] - mass[edges[:-1]]
        moved = np.where(size > 0, (moment[edges[1:]] - moment[edges[:-1]]) / np.maximum(size, 1), centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres[np.searchsorted((centres[1:] + centres[:-1]) / 2, values, side="right")].astype(np.float32)


def quantization(image: Image, levels: float, rng: np.random.Generator) -> Image:
    """Reduce to at most `levels` grey levels a channel, placed by the image's histogram of all channels."""
    pixels = to_uint8(image)
    return grey_levels(np.bincount(pixels.ravel(), minlength=256), int(levels))[pixels]


def high_sharpen(image: Image, amount: float, rng: np.random.Generator) -> Image:
    """Sharpen by an unsharp mask on luma: add `amount` times the difference to a Gaussian blur of sigma 3."""
    grey = luma(image)
    return image + np.float32(amount) * (grey - gaussian_blur(grey, 3.0))[..., None]


def contrast_change(image: Image, amount: float, rng: np.random.Generator) -> Image:
    """Apply the tone curve through (0.3, 0.25 - amount / 4) and (0.7, 0.75 + amount / 4), S-shaped for amount > 0."""
    return tone_curve(image, (0.3, 0.25 - amount / 4), (0.7, 0.75 + amount / 4))
