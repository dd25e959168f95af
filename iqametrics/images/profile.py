"""Colour profiles: what an embedded ICC profile says is converted to sRGB."""

import io
import logging
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from iqametrics.images.shaper import Shaper

if TYPE_CHECKING:
    from PIL import ImageCms

_LOG = logging.getLogger(__name__)

SRGB_TOLERANCE = 2
"""A profile that moves no probe colour by more than this many of 255 levels is sRGB under another name."""

# cmsFLAGS_BLACKPOINTCOMPENSATION of lcms2.h; Pillow names it since 10.3 only.
_BLACK_POINT_COMPENSATION = 0x2000

_MODE_OF_SPACE = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


def to_srgb(image: Image.Image, profile: bytes, name: str) -> Image.Image:
    """Convert an image with an embedded profile to sRGB.

    The rendering intent is relative colorimetric with black point compensation: colours within sRGB are kept,
    others are clipped. Most embedded profiles are sRGB itself; the pixels are then kept, since the conversion would
    only add rounding.

    A profile that cannot be used (damaged, or made for another kind of image) is ignored, as every viewer does, and a
    warning is logged: the picture is scored as people see it.

    Args:
        image: Mode L, RGB or CMYK.
        profile: The bytes of the ICC profile.
        name: What to call the image in the warning.

    Returns:
        The image in sRGB, mode RGB, or `image` unchanged.
    """
    try:
        return _convert(image, profile)
    except Exception as error:  # littlecms by way of Pillow raises a PyCMSError, an OSError, a ValueError, ...
        _LOG.warning("%s: its colour profile cannot be used (%s); the image is read as if it had none", name, error)
        return image


def deep_to_srgb(pixels: np.ndarray, profile: bytes, name: str) -> tuple[np.ndarray, Shaper | None]:
    """Prepare the conversion of 16-bit pixels with an embedded profile to sRGB.

    Profiles of a matrix and tone curves are applied at full precision, by the caller and to a few rows at a time. Those
    that work by a table (rare on anything but CMYK) go through `to_srgb` at 8 bits. As there, sRGB is left as it is and
    an unusable profile is ignored.

    Args:
        pixels: (H,W), (H,W,3) or (H,W,4), uint16.
        profile: The bytes of the ICC profile.
        name: What to call the image in the warning.

    Returns:
        `pixels` unchanged and the function that converts them, None if they need none; or (H,W,3) or (H,W,4) in sRGB,
        uint8, and None.
    """
    try:
        shaper = Shaper(profile, pixels)
        probe = _probe().astype(np.uint16) * 257
        if pixels.ndim == 2 or profile[16:20] == b"GRAY":
            probe = probe[:, :256]
        moved = np.abs(shaper(probe) - probe / 65535).max()
        return pixels, None if moved <= SRGB_TOLERANCE / 255 else shaper
    except ValueError:
        eight = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
        image = Image.fromarray(eight[..., :3] if eight.ndim == 3 else eight)
        converted = to_srgb(image, profile, name)
        if converted is image:
            return pixels, None
        return np.dstack([np.asarray(converted), *([eight[..., 3]] if eight.shape[2:] == (4,) else [])]), None


def _probe() -> np.ndarray:
    """Make probe colours (1,472,3): the 256 grays, then 6x6x6 colours."""
    ramp = np.arange(256, dtype=np.uint8)
    steps = ramp[::51]
    cube = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    return np.concatenate([np.repeat(ramp[:, None], 3, axis=1), cube])[None]


def _convert(image: Image.Image, profile: bytes) -> Image.Image:
    # Imported here: most images have no profile, and littlecms is a library of its own.
    from PIL import ImageCms

    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = source.profile.xcolor_space.strip()
    mode = _MODE_OF_SPACE.get(space)
    if mode == "RGB" and image.mode == "L":
        # Gray pixels with the profile of their colour image are common, and well defined.
        image = image.convert("RGB")
    if mode != image.mode:
        raise ValueError(f"it is for {space or 'unknown'} images and this one is {image.mode}")
    transform = ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=_BLACK_POINT_COMPENSATION,  # type: ignore[arg-type]
    )
    if mode != "CMYK" and _is_srgb(transform, mode):
        return image
    converted = ImageCms.applyTransform(image, transform)
    if converted is None:
        raise ValueError("littlecms gave no image")
    return converted


def _is_srgb(transform: "ImageCms.ImageCmsTransform", mode: str) -> bool:
    from PIL import ImageCms

    colours = _probe() if mode == "RGB" else _probe()[:, :256]
    moved = ImageCms.applyTransform(Image.fromarray(colours if mode == "RGB" else colours[..., 0].copy()), transform)
    return bool(np.abs(np.asarray(moved).astype(int) - colours).max() <= SRGB_TOLERANCE)
