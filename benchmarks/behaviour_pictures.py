"""The pictures that `behaviour.py` scores: damage by kind and level, spoilt pictures, content, harmless changes.

The photographs are held out, the damage mostly is not: the second edition of the lite models was trained on pictures of
nearly all these kinds (`weights/make_damaged.py`, `weights/spoilt.py`, `weights/make_pairs.py`), at strengths on either
side of those here. Kept from the training without reference are `avif`, checkerboards and all of `FURTHER_DAMAGE`; with
a reference all kinds were in it, and `weights/lite2/bpclip-fr-unseen.toml` asks what happens without.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont
from scipy import ndimage

from iqametrics.datasets.distortions import find_distortion
from iqametrics.datasets.distortions.compression import recode

Image = npt.NDArray[np.float32]
Apply = Callable[[Image, float, np.random.Generator], Image]
Make = Callable[[Image, np.random.Generator], Image]
Kind = tuple[Apply, Sequence[float]]

_BLOCK = 32


def _package(name: str, *strengths: float) -> Kind:
    """Take a kind of the package with strengths of its own."""
    return find_distortion(name).apply, strengths


DAMAGE: dict[str, Kind] = {
    "blur": _package("gaussian_blur", 0.8, 1.3, 2, 3.2, 5),
    "motion blur": _package("motion_blur", 3, 5, 8, 12, 18),
    "jpeg": _package("jpeg", 70, 40, 20, 10, 5),
    "jpeg2000": _package("jpeg2000", 20, 40, 80, 160, 320),
    "webp": _package("webp", 65, 40, 20, 8, 1),
    "avif": _package("avif", 55, 40, 28, 16, 5),
    "noise": _package("white_noise", 0.001, 0.003, 0.008, 0.02, 0.05),
    "banding": _package("banding", 5, 4, 3.3, 2.6, 2),
    "darkness": _package("darken", 0.2, 0.4, 0.6, 0.8, 0.95),
    "overexposure": _package("brighten", 0.2, 0.4, 0.6, 0.85, 1.1),
    "colour cast": _package("color_temperature", 0.1, 0.2, 0.3, 0.42, 0.55),
    "down and up": _package("bicubic_upscale", 1.5, 2, 3, 5, 8),
    "haze": _package("haze", 0.15, 0.3, 0.45, 0.6, 0.75),
    "oversharpening": _package("high_sharpen", 1.5, 3, 5, 8, 12),
}
"""Fourteen kinds at five levels, from just visible to severe."""

FURTHER_DAMAGE: dict[str, Kind] = {
    name: _package(name, *find_distortion(name).levels)
    for name in ("ringing", "vignetting", "salt_and_pepper", "color_diffusion")
}
"""Kinds that `weights/make_damaged.py` leaves out, at the package's own levels: does what was learnt carry over?"""


def _codec(name: str, **options: object) -> Apply:
    """Code and decode at a quality."""

    def apply(image: Image, quality: float, rng: np.random.Generator) -> Image:
        return recode(image, name, quality=int(quality), **options)

    return apply


_QUALITIES = (100, 95, 90, 80, 70, 60)
NEAR_LOSSLESS: dict[str, Kind] = {
    "jpeg": (_codec("JPEG"), _QUALITIES),
    "webp": (_codec("WEBP", method=2), _QUALITIES),
    "avif": (_codec("AVIF", speed=8, max_threads=1), _QUALITIES),
}
"""Three codecs where encoders work."""


def _shuffled(image: Image, rng: np.random.Generator) -> Image:
    rows, columns = (length // _BLOCK for length in image.shape[:2])
    out = image.copy()
    order = rng.permutation(rows * columns)
    for target, source in enumerate(order):
        (y, x), (v, u) = divmod(target, columns), divmod(int(source), columns)
        out[y * _BLOCK : (y + 1) * _BLOCK, x * _BLOCK : (x + 1) * _BLOCK] = image[
            v * _BLOCK : (v + 1) * _BLOCK, u * _BLOCK : (u + 1) * _BLOCK
        ]
    return out


def _lower_half_gray(image: Image, rng: np.random.Generator) -> Image:
    out = image.copy()
    out[len(out) // 2 :] = 0.5
    return out


def _checkerboard(side: int) -> Make:
    def make(image: Image, rng: np.random.Generator) -> Image:
        y, x = np.mgrid[: image.shape[0], : image.shape[1]]
        board = ((y // side + x // side) % 2).astype(np.float32)
        return np.repeat(board[..., None], 3, axis=2)

    return make


SPOILT: dict[str, Make] = {
    "shuffled blocks": _shuffled,
    "lower half gray": _lower_half_gray,
    "uniform noise": lambda image, rng: rng.random(image.shape, dtype=np.float32),
    "checkerboard 1": _checkerboard(1),
    "checkerboard 16": _checkerboard(16),
    "plain gray": lambda image, rng: np.full_like(image, 0.5),
    "tenth brightness": lambda image, rng: image * np.float32(0.1),
}
"""What no person would call good."""


def _gradient(image: Image, rng: np.random.Generator) -> Image:
    ramp = np.linspace(0, 1, image.shape[1], dtype=np.float32)
    return np.ascontiguousarray(np.broadcast_to(ramp[:, None], image.shape))


def _text(image: Image, rng: np.random.Generator) -> Image:
    page = PilImage.new("RGB", (image.shape[1], image.shape[0]), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for y in range(10, image.shape[0] - 14, 20):
        draw.text((10, y), "A page of text is neither a photograph nor a bad picture of one.", "black", font=font)
    return np.asarray(page, dtype=np.float32) / np.float32(255)


CONTENT: dict[str, Make] = {"gradient": _gradient, "text page": _text}
"""Content that a full-reference metric meets besides photographs."""


def _contrast(image: Image) -> Image:
    mean = image.mean()
    return np.clip(mean + np.float32(1.2) * (image - mean), 0, 1)


HARMLESS: dict[str, Callable[[Image], Image]] = {
    "identical": lambda image: image,
    "shift by 1 px": lambda image: np.concatenate([image[:, :1], image[:, :-1]], axis=1),
    "shift by 0.5 px": lambda image: np.clip(ndimage.shift(image, (0, 0.5, 0), order=3, mode="nearest"), 0, 1),
    "contrast + 20%": _contrast,
    "jpeg 30": lambda image: recode(image, "JPEG", quality=30),
}
"""Changes that people hardly see, or like, with JPEG at quality 30 to compare with."""

STARTS: dict[str, Make] = {
    "blur": lambda image, rng: find_distortion("gaussian_blur").apply(image, 2, rng),
    "noise": lambda image, rng: find_distortion("white_noise").apply(image, 0.01, rng),
    "jpeg": lambda image, rng: find_distortion("jpeg").apply(image, 10, rng),
}
"""Where an optimisation starts from."""
