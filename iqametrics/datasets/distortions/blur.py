"""Blurs: Gaussian, lens (defocus) and motion. KADID-10k types 1 to 3."""

import functools

import numpy as np
import numpy.typing as npt

from iqametrics.datasets.distortions.arrays import Image, convolve
from iqametrics.datasets.distortions.arrays import gaussian_blur as blur

_OVERSAMPLING = 9


def gaussian_blur(image: Image, sigma: float, rng: np.random.Generator) -> Image:
    """Blur with a Gaussian of standard deviation `sigma` pixels, cut at 2 sigma."""
    return blur(image, sigma)


@functools.cache
def disk_kernel(radius: float) -> npt.NDArray[np.float32]:
    """Return a disk of `radius` pixels, each weighted by the share that the disk covers; they sum to one."""
    reach = int(np.ceil(radius))
    side = (2 * reach + 1) * _OVERSAMPLING
    centres = (np.arange(side) + 0.5) / _OVERSAMPLING - (reach + 0.5)
    inside = (centres[:, None] ** 2 + centres[None, :] ** 2 <= radius**2).astype(np.float32)
    kernel = inside.reshape(2 * reach + 1, _OVERSAMPLING, 2 * reach + 1, _OVERSAMPLING).sum(axis=(1, 3))
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)


def lens_blur(image: Image, radius: float, rng: np.random.Generator) -> Image:
    """Convolve with a disk of `radius` pixels, as defocus does."""
    return convolve(image, disk_kernel(radius))


def line_kernel(length: float, angle: float) -> npt.NDArray[np.float32]:
    """Return an antialiased line of `length` pixels at `angle` radians, summing to one; length 1 is the identity.

    A pixel's weight falls linearly from 1 on the segment between the centres of the end pixels to 0 at one pixel off.
    """
    half = (length - 1) / 2
    reach = int(np.ceil(half))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    distance = np.hypot(across, np.maximum(np.abs(along) - half, 0))
    kernel = np.maximum(1 - distance, 0)
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)


def motion_blur(image: Image, length: float, rng: np.random.Generator) -> Image:
    """Blur as by camera motion along a line of `length` pixels in a random direction."""
    return convolve(image, line_kernel(length, float(rng.uniform(0, np.pi))))
