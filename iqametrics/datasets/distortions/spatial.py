"""Displaced or replaced pixels. KADID-10k types 19 to 21 and 23."""

import numpy as np

from iqametrics.datasets.distortions.arrays import Image

_SCATTER_PASSES = 5
_PATCH = 16
_PATCH_REACH = 8
_COLOR_BLOCK = 32
# Counts of patches and blocks are KADID-10k's, for its 512x384 images; other sizes get as many for their area.
_AREA = 512 * 384


def jitter(image: Image, amount: float, rng: np.random.Generator) -> Image:
    """Scatter pixels in five passes: read each, bilinearly, at a normally distributed offset of `amount` pixels."""
    height, width = image.shape[:2]
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    for _ in range(_SCATTER_PASSES):
        offsets = np.float32(amount) * rng.standard_normal((2, height, width), dtype=np.float32)
        image = sample(image, ys + offsets[0], xs + offsets[1])
    return image


def sample(image: Image, y: Image, x: Image) -> Image:
    """Sample an image bilinearly at (y, x), each (H', W'); the border is replicated."""
    height, width = image.shape[:2]
    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    top, left = y.astype(np.int32), x.astype(np.int32)
    down, right = (y - top)[..., None], (x - left)[..., None]
    below, beside = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    pixels = image.reshape(-1, 3)
    upper = pixels[top * width + left] * (1 - right) + pixels[top * width + beside] * right
    lower = pixels[below * width + left] * (1 - right) + pixels[below * width + beside] * right
    return (upper * (1 - down) + lower * down).astype(np.float32)


def non_eccentricity_patch(image: Image, patches: float, rng: np.random.Generator) -> Image:
    """Copy 16x16 patches, `patches` for 512x384 pixels, to a position up to eight pixels away in each direction."""
    height, width = image.shape[:2]
    tall, wide = min(_PATCH, height), min(_PATCH, width)
    out = image.copy()
    for _ in range(_count(patches, height, width)):
        y, x = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
        dy, dx = rng.integers(-_PATCH_REACH, _PATCH_REACH + 1, size=2)
        to_y, to_x = np.clip(y + dy, 0, height - tall), np.clip(x + dx, 0, width - wide)
        out[to_y : to_y + tall, to_x : to_x + wide] = image[y : y + tall, x : x + wide]
    return out


def _nearest(size: int, scale: float) -> np.ndarray:
    """Return the row or column that each shows after a nearest-neighbour resize to `scale` and back."""
    small = max(1, round(size * scale))
    kept = ((np.arange(small) + 0.5) * size / small).astype(np.int64)
    return kept[((np.arange(size) + 0.5) * small / size).astype(np.int64)]


def pixelate(image: Image, strength: float, rng: np.random.Generator) -> Image:
    """Reduce to 0.95 - strength^0.6 of the size by nearest neighbour, and enlarge again."""
    scale = 0.95 - strength**0.6
    height, width = image.shape[:2]
    return image[_nearest(height, scale)[:, None], _nearest(width, scale)]


def color_block(image: Image, blocks: float, rng: np.random.Generator) -> Image:
    """Cover the image with 32x32 blocks of random colour, `blocks` for 512x384 pixels."""
    height, width = image.shape[:2]
    tall, wide = min(_COLOR_BLOCK, height), min(_COLOR_BLOCK, width)
    out = image.copy()
    for _ in range(_count(blocks, height, width)):
        y, x = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
        out[y : y + tall, x : x + wide] = rng.random(3, dtype=np.float32)
    return out


def _count(count: float, height: int, width: int) -> int:
    return max(1, round(count * height * width / _AREA))
