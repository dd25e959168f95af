"""The two tables of distortions, and `distort` to apply one."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from iqametrics.datasets.distortions import blur, colour, compression, extra, noise, spatial, tone
from iqametrics.datasets.distortions.arrays import Image, check_image
from iqametrics.errors import InputError

LEVELS = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Distortion:
    """One type of distortion at five levels.

    Attributes:
        id: Number, 1..25 in KADID-10k's order, from 101 for the extra types.
        name: Name, which `distort` takes as well as the id.
        family: Family: "blur", "color", "compression", "noise", "tone" or "spatial".
        liqe_class: The one of LIQE's eleven distortion names that covers it, as used in PFD-IQA's prompts.
        parameter: Meaning of the numbers in `levels`.
        levels: Parameter at levels 1 to 5.
        apply: Function of (image, parameter, generator); its result may leave [0, 1].
    """

    id: int
    name: str
    family: str
    liqe_class: str
    parameter: str
    levels: tuple[float, float, float, float, float]
    apply: Callable[[Image, float, np.random.Generator], Image]


# KADID-10k (Lin, Hosu and Saupe, QoMEX 2019): 25 types at 5 levels, in the order of its file names.
_KADID: tuple[Distortion, ...] = (
    Distortion(1, "gaussian_blur", "blur", "blur", "sigma", (0.1, 0.5, 1, 2, 5), blur.gaussian_blur),
    Distortion(2, "lens_blur", "blur", "blur", "radius", (1, 2, 4, 6, 8), blur.lens_blur),
    Distortion(3, "motion_blur", "blur", "blur", "length", (1, 2, 4, 6, 10), blur.motion_blur),
    Distortion(4, "color_diffusion", "color", "color", "amount", (1, 3, 6, 8, 12), colour.color_diffusion),
    Distortion(5, "color_shift", "color", "color", "pixels", (1, 3, 6, 8, 12), colour.color_shift),
    Distortion(
        6, "color_quantization", "color", "quantization", "colours", (64, 48, 32, 16, 8), colour.color_quantization
    ),
    Distortion(
        7, "color_saturation_1", "color", "color", "HSV S factor", (0.4, 0.2, 0.1, 0, -0.4), colour.color_saturation_hsv
    ),
    Distortion(
        8, "color_saturation_2", "color", "color", "Lab a, b factor", (1, 2, 3, 6, 9), colour.color_saturation_lab
    ),
    Distortion(
        9, "jpeg2000", "compression", "jpeg2000 compression", "ratio", (16, 32, 45, 120, 400), compression.jpeg2000
    ),
    Distortion(10, "jpeg", "compression", "jpeg compression", "quality", (43, 36, 24, 7, 4), compression.jpeg),
    Distortion(11, "white_noise", "noise", "noise", "variance", (0.001, 0.002, 0.003, 0.005, 0.01), noise.white_noise),
    Distortion(
        12, "color_noise", "noise", "noise", "YCbCr variance", (0.0001, 0.0005, 0.001, 0.002, 0.003), noise.color_noise
    ),
    Distortion(13, "impulse_noise", "noise", "noise", "density", (0.001, 0.005, 0.01, 0.02, 0.03), noise.impulse_noise),
    Distortion(
        14,
        "multiplicative_noise",
        "noise",
        "noise",
        "variance",
        (0.001, 0.005, 0.01, 0.02, 0.05),
        noise.multiplicative_noise,
    ),
    Distortion(15, "denoise", "noise", "noise", "noise variance", (0.01, 0.03, 0.05, 0.1, 0.15), noise.denoise),
    Distortion(16, "brighten", "tone", "overexposure", "amount", (0.1, 0.2, 0.4, 0.7, 1.1), tone.brighten),
    Distortion(17, "darken", "tone", "underexposure", "amount", (0.05, 0.1, 0.2, 0.4, 0.8), tone.darken),
    Distortion(18, "mean_shift", "tone", "other", "added value", (0.15, 0.08, 0, -0.08, -0.15), tone.mean_shift),
    Distortion(19, "jitter", "spatial", "spatial", "amount", (0.05, 0.1, 0.2, 0.5, 1), spatial.jitter),
    Distortion(
        20,
        "non_eccentricity_patch",
        "spatial",
        "spatial",
        "patches",
        (20, 40, 60, 80, 100),
        spatial.non_eccentricity_patch,
    ),
    Distortion(21, "pixelate", "spatial", "spatial", "strength", (0.01, 0.05, 0.1, 0.2, 0.5), spatial.pixelate),
    Distortion(22, "quantization", "tone", "quantization", "levels", (20, 16, 13, 10, 7), tone.quantization),
    Distortion(23, "color_block", "spatial", "spatial", "blocks", (2, 4, 6, 8, 10), spatial.color_block),
    Distortion(24, "high_sharpen", "tone", "contrast", "amount", (1, 2, 3, 6, 12), tone.high_sharpen),
    Distortion(25, "contrast_change", "tone", "contrast", "amount", (0.3, 0.15, 0, -0.4, -0.6), tone.contrast_change),
)

# Levels chosen by this project, from just visible to severe.
_EXTRA: tuple[Distortion, ...] = (
    Distortion(101, "webp", "compression", "jpeg compression", "quality", (60, 40, 20, 8, 1), extra.webp),
    Distortion(102, "avif", "compression", "jpeg compression", "quality", (55, 40, 25, 12, 3), extra.avif),
    Distortion(
        103, "jpeg_resaved", "compression", "jpeg compression", "quality", (60, 40, 25, 12, 6), extra.jpeg_resaved
    ),
    Distortion(104, "bilinear_upscale", "blur", "blur", "factor", (1.3, 1.7, 2.5, 4, 7), extra.bilinear_upscale),
    Distortion(105, "bicubic_upscale", "blur", "blur", "factor", (1.3, 1.8, 2.7, 4.5, 8), extra.bicubic_upscale),
    Distortion(106, "lanczos_upscale", "blur", "blur", "factor", (1.3, 1.8, 2.7, 4.5, 8), extra.lanczos_upscale),
    Distortion(107, "halo", "tone", "contrast", "amount", (0.3, 0.7, 1.2, 2.2, 4), extra.halo),
    Distortion(108, "ringing", "blur", "blur", "cutoff", (0.6, 0.4, 0.28, 0.18, 0.1), extra.ringing),
    Distortion(
        109, "salt_and_pepper", "noise", "noise", "density", (0.001, 0.004, 0.012, 0.03, 0.08), extra.salt_and_pepper
    ),
    Distortion(
        110, "color_temperature", "color", "color", "amount", (0.05, 0.12, 0.2, 0.32, 0.5), extra.color_temperature
    ),
    Distortion(111, "vignetting", "tone", "underexposure", "amount", (0.15, 0.3, 0.5, 0.75, 1), extra.vignetting),
    Distortion(112, "gamma", "tone", "other", "octaves", (0.15, 0.35, 0.65, 1, 1.5), extra.gamma),
    Distortion(113, "haze", "tone", "contrast", "amount", (0.1, 0.22, 0.38, 0.55, 0.75), extra.haze),
    Distortion(114, "banding", "tone", "quantization", "bits", (5, 4, 3.5, 3, 2), extra.banding),
    Distortion(115, "median_smoothing", "blur", "blur", "size", (3, 5, 7, 11, 17), extra.median_smoothing),
    Distortion(
        116,
        "edge_preserving_smoothing",
        "blur",
        "blur",
        "epsilon",
        (0.0005, 0.002, 0.006, 0.02, 0.06),
        extra.edge_preserving_smoothing,
    ),
    Distortion(117, "poisson_noise", "noise", "noise", "photons", (500, 200, 80, 30, 10), extra.poisson_noise),
    Distortion(
        118, "correlated_noise", "noise", "noise", "deviation", (0.01, 0.025, 0.05, 0.09, 0.15), extra.correlated_noise
    ),
    Distortion(119, "block_loss", "spatial", "spatial", "share", (0.01, 0.03, 0.06, 0.12, 0.25), extra.block_loss),
    Distortion(120, "row_jitter", "spatial", "spatial", "pixels", (0.4, 0.7, 1.2, 2.5, 5), extra.row_jitter),
    Distortion(121, "interlacing", "spatial", "spatial", "pixels", (1, 2, 3, 6, 12), extra.interlacing),
    Distortion(
        122, "chromatic_aberration", "color", "color", "pixels", (0.7, 1.5, 3, 5, 9), extra.chromatic_aberration
    ),
    Distortion(123, "ghosting", "spatial", "other", "strength", (0.04, 0.1, 0.18, 0.3, 0.45), extra.ghosting),
)

DISTORTIONS: dict[int, Distortion] = {entry.id: entry for entry in _KADID}
"""KADID-10k's 25 types, by id."""
EXTRA_DISTORTIONS: dict[int, Distortion] = {entry.id: entry for entry in _EXTRA}
"""Types beyond KADID-10k, by id (from 101); there are no human scores for them."""
_BY_NAME = {entry.name: entry for entry in _KADID + _EXTRA}


def find_distortion(kind: int | str) -> Distortion:
    """Return the entry of either table with this id or name.

    Raises:
        InputError: If there is none.

    >>> find_distortion("jpeg").id, find_distortion(1).name
    (10, 'gaussian_blur')
    """
    entry = _BY_NAME.get(kind) if isinstance(kind, str) else DISTORTIONS.get(kind) or EXTRA_DISTORTIONS.get(kind)
    if entry is None:
        last = max(EXTRA_DISTORTIONS)
        raise InputError(f"unknown distortion {kind!r}: use 1..25, 101..{last} or a name: {', '.join(_BY_NAME)}")
    return entry


def distort(image: Image, kind: int | str, level: int, rng: np.random.Generator) -> Image:
    """Distort an image; the same image, kind, level and state of `rng` give the same result.

    Args:
        image: RGB (H, W, 3), float in [0, 1]; not modified.
        kind: Id or name in `DISTORTIONS` or `EXTRA_DISTORTIONS`.
        level: Level from 1 to 5. Damage grows with it, except for KADID-10k's `mean_shift` and `contrast_change`, whose
            third level changes (next to) nothing.
        rng: Source of all randomness.

    Returns:
        Image of the same shape, float32, clipped to [0, 1].

    Raises:
        InputError: If kind or level is unknown, or the image is of another form.
        MissingExtraError: If this build of Pillow lacks the codec.
    """
    entry = find_distortion(kind)
    if level not in LEVELS:
        raise InputError(f"level {level!r} of {entry.name}: levels run from 1 to 5")
    distorted = entry.apply(check_image(image), entry.levels[level - 1], rng)
    return np.clip(distorted, 0, 1).astype(np.float32, copy=False)
