"""Lossy compression by Pillow. KADID-10k types 9 and 10."""

import io
from typing import Any

import numpy as np
from PIL import Image as PilImage
from PIL import features

from iqametrics.datasets.distortions.arrays import Image, from_pil, to_pil
from iqametrics.errors import MissingExtraError

_FEATURES = {"JPEG": "jpg", "JPEG2000": "jpg_2000", "WEBP": "webp", "AVIF": "avif"}


def recode(image: Image, codec: str, **options: Any) -> Image:
    """Encode and decode the 8-bit image.

    Args:
        image: RGB in [0, 1].
        codec: `JPEG`, `JPEG2000`, `WEBP` or `AVIF`.
        options: Options of `PIL.Image.Image.save`.

    Raises:
        MissingExtraError: If this build of Pillow lacks the codec.
    """
    # Pillow before 11.3 does not know "avif", and warns about the unknown name instead of denying it.
    if _FEATURES[codec] not in features.get_supported():
        raise MissingExtraError(f"{codec}: this build of Pillow has no such codec; install Pillow's binary wheel")
    buffer = io.BytesIO()
    to_pil(image).save(buffer, format=codec, **options)
    with PilImage.open(buffer) as decoded:
        return from_pil(decoded)


def jpeg2000(image: Image, ratio: float, rng: np.random.Generator) -> Image:
    """Compress by JPEG 2000 at a ratio of `ratio` to one."""
    # OpenJPEG refuses more wavelet levels than the shorter side can be halved.
    resolutions = min(6, int(np.log2(min(image.shape[:2]))) + 1)
    options = {"quality_mode": "rates", "quality_layers": [ratio], "num_resolutions": resolutions, "irreversible": True}
    return recode(image, "JPEG2000", **options)


def jpeg(image: Image, quality: float, rng: np.random.Generator) -> Image:
    """Compress by JPEG of the given `quality` (libjpeg's scale, 4:2:0)."""
    return recode(image, "JPEG", quality=int(quality))
