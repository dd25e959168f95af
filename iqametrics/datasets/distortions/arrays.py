"""Array functions that several families of distortions share: colour spaces, filters, 8-bit images for codecs."""

import functools

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage
from scipy import fft, ndimage

from iqametrics.errors import InputError

Image = npt.NDArray[np.float32]
"""An RGB image, (H, W, 3), float32, nominally in [0, 1]."""

# ITU-R BT.709 primaries with the D65 white point (IEC 61966-2-1, sRGB).
_RGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = _RGB_TO_XYZ.sum(axis=1)
_RGB_TO_RELATIVE_XYZ = (_RGB_TO_XYZ / _WHITE[:, None]).astype(np.float32)
_RELATIVE_XYZ_TO_RGB = np.linalg.inv(_RGB_TO_XYZ / _WHITE[:, None]).astype(np.float32)
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_LAB_BREAK = 6 / 29


def check_image(image: Image) -> Image:
    """Check that an image is finite RGB (H, W, 3) in [0, 1]; return it as contiguous float32.

    Raises:
        InputError: If it is not.
    """
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise InputError(f"image of shape {array.shape}: a distortion takes one non-empty RGB image (H, W, 3)")
    if array.dtype.kind != "f":
        raise InputError(
            f"image of type {array.dtype}: a distortion takes floats in [0, 1]; divide 8-bit values by 255"
        )
    # Written so that NaN, which compares false to everything, is caught too.
    if not (array.min() >= 0 and array.max() <= 1):
        raise InputError(f"image with values {array.min():g} to {array.max():g}: a distortion takes values in [0, 1]")
    return np.ascontiguousarray(array, dtype=np.float32)


def luma(image: Image) -> npt.NDArray[np.float32]:
    """Compute the BT.601 luma of an RGB image, (H, W)."""
    return np.asarray(image @ _LUMA, dtype=np.float32)


def to_uint8(image: Image) -> npt.NDArray[np.uint8]:
    """Round an image in [0, 1] to 8 bits."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def to_pil(image: Image) -> PilImage.Image:
    """Convert to an 8-bit RGB Pillow image."""
    return PilImage.fromarray(to_uint8(image))


def from_pil(image: PilImage.Image) -> Image:
    """Convert a Pillow image to RGB float32 in [0, 1]."""
    return np.asarray(image.convert("RGB"), dtype=np.float32) / np.float32(255)


def rgb_to_lab(image: Image) -> Image:
    """Convert sRGB to CIE L*a*b* (D65; L in 0..100)."""
    linear = np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** np.float32(2.4))
    xyz = linear.astype(np.float32) @ _RGB_TO_RELATIVE_XYZ.T
    f = np.where(xyz > _LAB_BREAK**3, np.cbrt(xyz), xyz / (3 * _LAB_BREAK**2) + 4 / 29)
    lab = np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)
    return lab.astype(np.float32)


def lab_to_rgb(lab: Image) -> Image:
    """Convert CIE L*a*b* to sRGB; colours outside the gamut are clipped to [0, 1]."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > _LAB_BREAK, f * f * f, 3 * _LAB_BREAK**2 * (f - 4 / 29)).astype(np.float32)
    linear = np.clip(xyz @ _RELATIVE_XYZ_TO_RGB.T, 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** np.float32(1 / 2.4) - 0.055).astype(
        np.float32
    )


@functools.cache
def gaussian_taps(sigma: float) -> npt.NDArray[np.float32]:
    """Return a Gaussian of 2 ceil(2 sigma) + 1 taps that sum to one."""
    radius = int(np.ceil(2 * sigma))
    taps = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    return np.asarray(taps / taps.sum(), dtype=np.float32)


def gaussian_blur(image: npt.NDArray[np.float32], sigma: float) -> npt.NDArray[np.float32]:
    """Blur the first two axes with `gaussian_taps`; the border is replicated."""
    taps = gaussian_taps(sigma)
    rows = ndimage.correlate1d(image, taps, axis=0, mode="nearest")
    return np.asarray(ndimage.correlate1d(rows, taps, axis=1, mode="nearest"), dtype=np.float32)


def convolve(image: Image, kernel: npt.NDArray[np.float32]) -> Image:
    """Convolve each channel with a kernel of odd sides by FFT; the border is replicated."""
    ry, rx = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = np.pad(image, ((ry, ry), (rx, rx), (0, 0)), mode="edge").transpose(2, 0, 1)
    shape = [fft.next_fast_len(n, real=True) for n in padded.shape[1:]]
    spectrum = fft.rfft2(padded, shape) * fft.rfft2(kernel.astype(np.float32), shape)
    full = fft.irfft2(spectrum, shape)
    height, width = image.shape[:2]
    out = full[:, 2 * ry : 2 * ry + height, 2 * rx : 2 * rx + width].transpose(1, 2, 0)
    return np.ascontiguousarray(out, dtype=np.float32)
