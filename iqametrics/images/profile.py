"""Colour profiles: what an embedded ICC profile says is converted to sRGB."""

import io
import logging
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from PIL import ImageCms

_LOG = logging.getLogger(__name__)

SRGB_TOLERANCE = 2
"""A profile that moves no probe colour by more than this many of 255 levels is sRGB under another name."""

_MODE_OF_SPACE = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


def to_srgb(image: Image.Image, profile: bytes, name: str) -> Image.Image:
    """Convert an image with an embedded profile to sRGB.

    The rendering intent is relative colorimetric with black point compensation: colours that sRGB has stay what they
    are, others are clipped. Most embedded profiles are sRGB itself; the pixels are then left as they are, for the
    conversion would only add rounding.

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


def _convert(image: Image.Image, profile: bytes) -> Image.Image:
    # Imported here: most images have no profile, and littlecms is a library of its own.
    from PIL import ImageCms

    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = source.profile.xcolor_space.strip()
    mode = _MODE_OF_SPACE.get(space)
    if mode == "RGB" and image.mode == "L":
        # Gray pixels with the profile of the colour image that they come from: common, and well defined.
        image = image.convert("RGB")
    if mode != image.mode:
        raise ValueError(f"it is for {space or 'unknown'} images and this one is {image.mode}")
    transform = ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    if mode != "CMYK" and _is_srgb(transform, mode):
        return image
    converted = ImageCms.applyTransform(image, transform)
    if converted is None:
        raise ValueError("littlecms gave no image")
    return converted


def _is_srgb(transform: "ImageCms.ImageCmsTransform", mode: str) -> bool:
    ramp = np.arange(256, dtype=np.uint8)
    gray = np.repeat(ramp[:, None], 3, axis=1)
    steps = ramp[::51]
    cube = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    colours = np.concatenate([gray, cube])[None] if mode == "RGB" else gray[None]
    probe = Image.fromarray(colours if mode == "RGB" else ramp[None])
    from PIL import ImageCms

    moved = ImageCms.applyTransform(probe, transform)
    return bool(np.abs(np.asarray(moved).astype(int) - colours).max() <= SRGB_TOLERANCE)
