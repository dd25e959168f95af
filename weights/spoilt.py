"""Pictures that no person would call good, made of a photograph or of nothing.

`SPOILT` holds the kinds that are trained on, each with its rank below the photograph's 1; `UNSEEN` those that are kept
for measuring whether what was learnt carries over.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

from iqametrics.datasets.distortions.arrays import gaussian_blur

Image = npt.NDArray[np.float32]
Maker = Callable[[Image, np.random.Generator], Image]

_TEXT = (
    "the image quality of a distorted photograph is judged by people and their mean opinion is what a metric predicts "
    "so that a codec or a camera can be compared with another one without asking anybody again"
)


def shuffled_blocks(image: Image, rng: np.random.Generator) -> Image:
    """Put square blocks into a random order."""
    side = int(rng.choice([8, 16, 24, 32, 48, 64, 96]))
    rows, columns = (length // side for length in image.shape[:2])
    blocks = image[: rows * side, : columns * side].reshape(rows, side, columns, side, 3).swapaxes(1, 2)
    mixed = rng.permutation(blocks.reshape(-1, side, side, 3)).reshape(rows, columns, side, side, 3)
    out = image.copy()
    out[: rows * side, : columns * side] = mixed.swapaxes(1, 2).reshape(rows * side, columns * side, 3)
    return out


def shuffled_rows(image: Image, rng: np.random.Generator) -> Image:
    """Displace each band of rows by a distance of its own."""
    height = int(rng.choice([1, 2, 4, 8, 16, 32]))
    shifts = rng.integers(image.shape[1], size=-(-len(image) // height))
    return np.stack([np.roll(row, shifts[y // height], axis=0) for y, row in enumerate(image)])


def part_replaced(image: Image, rng: np.random.Generator) -> Image:
    """Replace a half, or another large rectangle, by one colour or by noise."""
    out = image.copy()
    height, width = image.shape[:2]
    share = rng.uniform(0.35, 0.75)
    target = (
        out[int(height * (1 - share)) :],
        out[: int(height * share)],
        out[:, int(width * (1 - share)) :],
        out[:, : int(width * share)],
    )[int(rng.integers(4))]
    target[...] = rng.random(3 if rng.random() < 0.5 else 1) if rng.random() < 0.8 else rng.random(target.shape)
    return out


def stripes(image: Image, rng: np.random.Generator) -> Image:
    """Give stripes or a grating of any direction, from one pixel wide up."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    angle = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
    phase = (np.cos(angle) * x + np.sin(angle) * y) / 2 ** rng.uniform(0, 6)
    wave = (np.floor(phase) % 2) if rng.random() < 0.6 else 0.5 + 0.5 * np.sin(np.pi * phase)
    return _coloured(wave, rng)


def dots(image: Image, rng: np.random.Generator) -> Image:
    """Give a lattice of dots."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    period = 2 ** rng.uniform(1.5, 6)
    distance = np.hypot((x % period) - period / 2, (y % period) - period / 2)
    return _coloured(distance < period * rng.uniform(0.2, 0.45), rng)


def _coloured(mask: npt.NDArray, rng: np.random.Generator) -> Image:
    """Mix two colours, or black and white, by a map in [0, 1]."""
    ends = np.array([[0, 0, 0], [1, 1, 1]]) if rng.random() < 0.5 else rng.random((2, 3))
    weights = np.asarray(mask, dtype=np.float32)[..., None]
    return (ends[0] * (1 - weights) + ends[1] * weights).astype(np.float32)


def pure_noise(image: Image, rng: np.random.Generator) -> Image:
    """Give noise without a picture: fine or coarse, gray or coloured, uniform or normal."""
    shape = (*image.shape[:2], 3 if rng.random() < 0.6 else 1)
    if rng.random() < 0.5:
        noise = rng.random(shape, dtype=np.float32)
    else:
        noise = 0.5 + rng.uniform(0.05, 0.4) * rng.standard_normal(shape, dtype=np.float32)
    noise = np.broadcast_to(noise, image.shape).astype(np.float32)
    if rng.random() < 0.4:
        sigma = 2 ** rng.uniform(-1, 4)
        noise = 0.5 + (gaussian_blur(noise, sigma) - 0.5) * np.float32(1 + sigma)
    return np.clip(noise, 0, 1)


def drowned_in_noise(image: Image, rng: np.random.Generator) -> Image:
    """Add noise that is as strong as the picture."""
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image + np.float32(rng.uniform(0.25, 0.6)) * noise, 0, 1)


def flat(image: Image, rng: np.random.Generator) -> Image:
    """Give one colour, or a smooth run from one to another."""
    ends = rng.random((2, 3)) if rng.random() < 0.5 else rng.random((2, 1)).repeat(3, axis=1)
    if rng.random() < 0.6:
        return np.broadcast_to(ends[0], image.shape).astype(np.float32)
    ramp = np.linspace(0, 1, image.shape[0], dtype=np.float32)[:, None, None]
    ramp = ramp if rng.random() < 0.5 else ramp.swapaxes(0, 1)
    return np.broadcast_to(ends[0] * (1 - ramp) + ends[1] * ramp, image.shape).astype(np.float32)


def nearly_black(image: Image, rng: np.random.Generator) -> Image:
    """Keep a small part of the brightness."""
    return image * np.float32(rng.uniform(0.02, 0.2))


def nearly_white(image: Image, rng: np.random.Generator) -> Image:
    """Keep a small part of the distance from white."""
    return 1 - (1 - image) * np.float32(rng.uniform(0.02, 0.2))


def no_contrast(image: Image, rng: np.random.Generator) -> Image:
    """Keep a small part of the distance from gray."""
    return np.float32(0.5) + (image - np.float32(0.5)) * np.float32(rng.uniform(0.02, 0.2))


def false_colours(image: Image, rng: np.random.Generator) -> Image:
    """Turn the picture, or some of its channels, into a negative."""
    turned = rng.random(3) < 0.5 if rng.random() < 0.5 else np.ones(3, dtype=bool)
    return np.where(turned if turned.any() else ~turned, 1 - image, image).astype(np.float32)


def text_page(image: Image, rng: np.random.Generator) -> Image:
    """Set a page of words."""
    paper, ink = ((255, 255, 255), (0, 0, 0)) if rng.random() < 0.7 else ((24, 26, 30), (220, 220, 220))
    page = PilImage.new("RGB", (image.shape[1], image.shape[0]), paper)
    size = int(rng.integers(9, 25))
    font, draw = ImageFont.load_default(size), ImageDraw.Draw(page)
    for y in range(8, image.shape[0] - size, round(size * 1.4)):
        if rng.random() < 0.9:
            draw.text((8, y), " ".join(rng.choice(_TEXT.split(), size=int(rng.integers(3, 14)))), ink, font=font)
    return np.asarray(page, dtype=np.float32) / np.float32(255)


def smeared(image: Image, rng: np.random.Generator) -> Image:
    """Blur beyond recognition."""
    return gaussian_blur(image, float(rng.uniform(8, 30)))


def checkerboard(image: Image, rng: np.random.Generator) -> Image:
    """Give a checkerboard of squares from one pixel up."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    side = int(rng.choice([1, 2, 4, 8, 16, 32]))
    return _coloured((x // side + y // side) % 2, rng)


def collage(image: Image, rng: np.random.Generator) -> Image:
    """Put four quarters of the picture, turned and mirrored, side by side."""
    half = min(image.shape[:2]) // 2
    quarter = [np.rot90(image[:half, :half], k) for k in rng.integers(4, size=4)]
    out = image.copy()
    out[: 2 * half, : 2 * half] = np.block([[[quarter[0]], [quarter[1]]], [[quarter[2]], [quarter[3]]]])
    return out


SPOILT: dict[str, tuple[Maker, float]] = {
    "shuffled_blocks": (shuffled_blocks, 0.2),
    "shuffled_rows": (shuffled_rows, 0.1),
    "part_replaced": (part_replaced, 0.2),
    "stripes": (stripes, 0.0),
    "dots": (dots, 0.0),
    "pure_noise": (pure_noise, 0.0),
    "drowned_in_noise": (drowned_in_noise, 0.1),
    "flat": (flat, 0.0),
    "nearly_black": (nearly_black, 0.2),
    "nearly_white": (nearly_white, 0.2),
    "no_contrast": (no_contrast, 0.2),
    "false_colours": (false_colours, 0.4),
    "text_page": (text_page, 0.3),
    "smeared": (smeared, 0.1),
}
UNSEEN: dict[str, Maker] = {"checkerboard": checkerboard, "collage": collage}
