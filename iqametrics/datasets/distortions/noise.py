"""Noise and its removal. KADID-10k types 11 to 15."""

import numpy as np
from scipy import fft

from iqametrics.datasets.distortions.arrays import Image

# BT.601, full range: Y, Cb, Cr of RGB without the offset of a half, which cancels.
_RGB_TO_YCBCR = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], dtype=np.float64
)
_YCBCR_TO_RGB = np.linalg.inv(_RGB_TO_YCBCR).astype(np.float32)
# An orthonormal luminance-chrominance transform keeps white noise white and of the same variance.
_OPPONENT = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
_OPPONENT = _OPPONENT.astype(np.float32)
_BLOCK = 8


def _normal(image: Image, variance: float, rng: np.random.Generator) -> Image:
    return np.float32(np.sqrt(variance)) * rng.standard_normal(image.shape, dtype=np.float32)


def white_noise(image: Image, variance: float, rng: np.random.Generator) -> Image:
    """Add Gaussian noise of `variance`, independent in R, G and B."""
    return image + _normal(image, variance, rng)


def color_noise(image: Image, variance: float, rng: np.random.Generator) -> Image:
    """Add Gaussian noise of `variance`, independent in Y, Cb and Cr."""
    return image + _normal(image, variance, rng) @ _YCBCR_TO_RGB.T


def impulse_noise(image: Image, density: float, rng: np.random.Generator) -> Image:
    """Set a share `density` of all channel values to 0 or 1, half of them each."""
    draw = rng.random(image.shape, dtype=np.float32)
    return np.where(draw < density / 2, 0, np.where(draw < density, 1, image)).astype(np.float32)


def multiplicative_noise(image: Image, variance: float, rng: np.random.Generator) -> Image:
    """Add speckle: image (1 + n) with n Gaussian of `variance`."""
    return image * (1 + _normal(image, variance, rng))


def denoise(image: Image, variance: float, rng: np.random.Generator) -> Image:
    """Add Gaussian noise of `variance`, clip, and remove it by hard thresholding in sliding 8x8 cosine transforms.

    KADID-10k used a trained denoiser (DnCNN), which is not reproduced here; the damage is of the same sort: smeared
    texture and low-frequency blotches.
    """
    noisy = np.clip(white_noise(image, variance, rng), 0, 1)
    return _shrink(noisy, 2.7 * float(np.sqrt(variance)))


def _shrink(image: Image, threshold: float) -> Image:
    """Set small cosine coefficients to zero on eight grids of blocks, and average the eight images."""
    height, width = image.shape[:2]
    down, right = _BLOCK + -height % _BLOCK, _BLOCK + -width % _BLOCK
    planes = np.pad(image @ _OPPONENT.T, ((_BLOCK, down), (_BLOCK, right), (0, 0)), mode="symmetric").transpose(2, 0, 1)
    rows, columns = height + _BLOCK + down - _BLOCK, width + _BLOCK + right - _BLOCK
    total = np.zeros((3, height, width), dtype=np.float32)
    for step in range(_BLOCK):
        # A lattice in which each of the eight grids has a row and a column offset of its own.
        dy, dx = step, (3 * step) % _BLOCK
        window = planes[:, dy : dy + rows, dx : dx + columns]
        blocks = window.reshape(3, rows // _BLOCK, _BLOCK, columns // _BLOCK, _BLOCK)
        coefficients = fft.dctn(blocks, axes=(2, 4), norm="ortho")
        keep = np.abs(coefficients) > threshold
        keep[:, :, 0, :, 0] = True
        smooth = fft.idctn(coefficients * keep, axes=(2, 4), norm="ortho").reshape(3, rows, columns)
        total += smooth[:, _BLOCK - dy : _BLOCK - dy + height, _BLOCK - dx : _BLOCK - dx + width]
    return np.asarray((total / _BLOCK).transpose(1, 2, 0) @ _OPPONENT, dtype=np.float32)
