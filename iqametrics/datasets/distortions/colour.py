"""Colour: diffusion, channel shift, quantization and saturation. KADID-10k types 4 to 8."""

import numpy as np
from PIL import Image as PilImage
from scipy import ndimage

from iqametrics.datasets.distortions.arrays import (
    Image,
    from_pil,
    gaussian_blur,
    lab_to_rgb,
    luma,
    rgb_to_lab,
    to_pil,
)


def color_diffusion(image: Image, amount: float, rng: np.random.Generator) -> Image:
    """Let colour run over edges: blur a and b of Lab with sigma 1.5 amount + 2, then scale them by `amount`."""
    lab = rgb_to_lab(image)
    lab[..., 1:] = amount * gaussian_blur(lab[..., 1:], 1.5 * amount + 2)
    return lab_to_rgb(lab)


def shifted(channel: Image, dy: int, dx: int) -> Image:
    """Move a channel (H, W) down by `dy` and right by `dx` pixels; the border is replicated."""
    height, width = channel.shape
    rows = np.clip(np.arange(height) - dy, 0, height - 1)
    columns = np.clip(np.arange(width) - dx, 0, width - 1)
    return channel[rows[:, None], columns]


def _edge_map(image: Image) -> Image:
    """Compute edge strength in [0, 1]: the smoothed gradient relative to its own 90th percentile."""
    grey = luma(image)
    gradient = np.hypot(ndimage.sobel(grey, 0, mode="nearest"), ndimage.sobel(grey, 1, mode="nearest"))
    gradient = gaussian_blur(gradient, 2.0)
    scale = np.partition(gradient, int(0.9 * (gradient.size - 1)), axis=None)[int(0.9 * (gradient.size - 1))]
    return np.clip(gradient / max(float(scale), 1e-6), 0, 1)


def color_shift(image: Image, pixels: float, rng: np.random.Generator) -> Image:
    """Move the green channel by `pixels` in a random direction, blended in along the edges of the image."""
    angle = rng.uniform(0, 2 * np.pi)
    moved = shifted(image[..., 1], round(pixels * np.sin(angle)), round(pixels * np.cos(angle)))
    out = image.copy()
    out[..., 1] += _edge_map(image) * (moved - image[..., 1])
    return out


def color_quantization(image: Image, colors: float, rng: np.random.Generator) -> Image:
    """Reduce to a palette of at most `colors` colours by median cut, without dithering."""
    quantized = to_pil(image).quantize(int(colors), method=PilImage.Quantize.MEDIANCUT, dither=PilImage.Dither.NONE)
    return from_pil(quantized)


def color_saturation_hsv(image: Image, factor: float, rng: np.random.Generator) -> Image:
    """Multiply the saturation of HSV by `factor`; a negative factor gives pale complementary colours.

    In HSV each channel is V (1 - S f(hue)), so scaling S scales each channel's distance to the largest one.
    """
    value = image.max(axis=2, keepdims=True)
    return value - factor * (value - image)


def color_saturation_lab(image: Image, factor: float, rng: np.random.Generator) -> Image:
    """Multiply a and b of Lab by `factor`."""
    lab = rgb_to_lab(image)
    lab[..., 1:] *= factor
    return lab_to_rgb(lab)
