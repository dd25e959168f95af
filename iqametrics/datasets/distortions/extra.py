"""Distortions beyond KADID-10k's, for variety and for tests on unseen types. There are no human scores for them."""

import numpy as np
from PIL import Image as PilImage
from scipy import ndimage

from iqametrics.datasets.distortions.arrays import Image, gaussian_blur, luma
from iqametrics.datasets.distortions.colour import shifted
from iqametrics.datasets.distortions.compression import recode
from iqametrics.datasets.distortions.spatial import sample

_CODING_BLOCK = 16


def webp(image: Image, quality: float, rng: np.random.Generator) -> Image:
    """Compress by WebP of the given `quality`."""
    return recode(image, "WEBP", quality=int(quality), method=2)


def avif(image: Image, quality: float, rng: np.random.Generator) -> Image:
    """Compress by AVIF of the given `quality`."""
    return recode(image, "AVIF", quality=int(quality), speed=10, max_threads=1)


def jpeg_resaved(image: Image, quality: float, rng: np.random.Generator) -> Image:
    """Compress by JPEG three times, 4:2:0, on a block grid displaced by three pixels."""
    for _ in range(3):
        image = np.roll(
            recode(np.roll(image, (3, 3), axis=(0, 1)), "JPEG", quality=int(quality), subsampling=2),
            (-3, -3),
            axis=(0, 1),
        )
    return image


def _resized(image: Image, factor: float, filter_: PilImage.Resampling) -> Image:
    height, width = image.shape[:2]
    small = (max(1, round(width / factor)), max(1, round(height / factor)))
    planes = [PilImage.fromarray(np.ascontiguousarray(image[..., c])) for c in range(3)]
    return np.stack([np.asarray(p.resize(small, filter_).resize((width, height), filter_)) for p in planes], axis=-1)


def bilinear_upscale(image: Image, factor: float, rng: np.random.Generator) -> Image:
    """Reduce by `factor` and enlarge again, bilinear."""
    return _resized(image, factor, PilImage.Resampling.BILINEAR)


def bicubic_upscale(image: Image, factor: float, rng: np.random.Generator) -> Image:
    """Reduce by `factor` and enlarge again, bicubic."""
    return _resized(image, factor, PilImage.Resampling.BICUBIC)


def lanczos_upscale(image: Image, factor: float, rng: np.random.Generator) -> Image:
    """Reduce by `factor` and enlarge again, Lanczos."""
    return _resized(image, factor, PilImage.Resampling.LANCZOS)


def halo(image: Image, amount: float, rng: np.random.Generator) -> Image:
    """Draw broad halos along edges: an unsharp mask on luma with sigma 8."""
    grey = luma(image)
    return image + np.float32(amount) * (grey - gaussian_blur(grey, 8.0))[..., None]


def ringing(image: Image, cutoff: float, rng: np.random.Generator) -> Image:
    """Apply an ideal low-pass filter at `cutoff` of the Nyquist frequency, which rings at edges."""
    height, width = image.shape[:2]
    low = np.hypot(np.fft.fftfreq(2 * height)[:, None], np.fft.rfftfreq(2 * width)[None, :]) <= cutoff / 2
    # Mirrored, so that opposite borders do not ring into each other.
    mirrored = np.pad(image, ((0, height), (0, width), (0, 0)), mode="symmetric")
    spectrum = np.fft.rfft2(mirrored, axes=(0, 1)) * low[..., None]
    return np.fft.irfft2(spectrum, mirrored.shape[:2], axes=(0, 1))[:height, :width].astype(np.float32, copy=False)


def salt_and_pepper(image: Image, density: float, rng: np.random.Generator) -> Image:
    """Set a share `density` of the pixels to black or white, all channels together."""
    draw = rng.random((*image.shape[:2], 1), dtype=np.float32)
    return np.where(draw < density / 2, 0, np.where(draw < density, 1, image)).astype(np.float32)


def color_temperature(image: Image, amount: float, rng: np.random.Generator) -> Image:
    """Give a warm or cold cast, at random: multiply red and blue by 1 +- `amount`."""
    warmth = amount * rng.choice([-1, 1])
    return image * np.array([1 + warmth, 1, 1 - warmth], dtype=np.float32)


def vignetting(image: Image, amount: float, rng: np.random.Generator) -> Image:
    """Darken by `amount` in the corners, with the square of the distance to the centre."""
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in image.shape[:2])
    falloff: Image = np.asarray((y[:, None] ** 2 + x**2) / 2, dtype=np.float32)
    return image * (1 - np.float32(amount) * falloff)[..., None]


def gamma(image: Image, octaves: float, rng: np.random.Generator) -> Image:
    """Raise to the power 2^(+-`octaves`), the sign at random."""
    return image ** np.float32(2.0 ** (octaves * rng.choice([-1, 1])))


def haze(image: Image, amount: float, rng: np.random.Generator) -> Image:
    """Mix with a smooth veil of light grey, `amount` of it on average."""
    height, width = image.shape[:2]
    y, x = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)
    slope_y, slope_x = rng.uniform(-0.3, 0.3, size=2).astype(np.float32)
    veil = np.clip(amount * (1 + slope_y * y + slope_x * x), 0, 1)[..., None]
    return image * (1 - veil) + np.float32(0.85) * veil


def banding(image: Image, bits: float, rng: np.random.Generator) -> Image:
    """Round each channel to `bits` bits, without dithering."""
    steps = np.float32(2**bits - 1)
    return np.rint(image * steps) / steps


def median_smoothing(image: Image, size: float, rng: np.random.Generator) -> Image:
    """Filter each channel by a median over `size` pixels, first of columns, then of rows."""
    for shape in ((int(size), 1, 1), (1, int(size), 1)):
        image = ndimage.median_filter(image, size=shape, mode="nearest")
    return image


def edge_preserving_smoothing(image: Image, epsilon: float, rng: np.random.Generator) -> Image:
    """Apply a guided filter on itself (He et al. 2010), radius 6, which smooths texture of variance below `epsilon`."""

    def mean(array: Image) -> Image:
        return np.asarray(ndimage.uniform_filter(array, size=(13, 13, 1), mode="nearest"), dtype=np.float32)

    average = mean(image)
    variance: Image = np.maximum(mean(image * image) - average * average, np.float32(0))
    gain: Image = variance / (variance + np.float32(epsilon))
    return mean(gain) * image + mean(average * (1 - gain))


def poisson_noise(image: Image, photons: float, rng: np.random.Generator) -> Image:
    """Add the shot noise of a sensor that counts `photons` at white."""
    return (rng.poisson(image * photons) / photons).astype(np.float32)


def correlated_noise(image: Image, deviation: float, rng: np.random.Generator) -> Image:
    """Add grain: Gaussian noise blurred with sigma 1.5, then scaled to a standard deviation of `deviation`."""
    grain = gaussian_blur(rng.standard_normal(image.shape, dtype=np.float32), 1.5)
    return image + np.float32(deviation) * grain / max(float(grain.std()), 1e-6)


def block_loss(image: Image, share: float, rng: np.random.Generator) -> Image:
    """Lose runs of 16x16 coding blocks, `share` of all: they show grey, or the column of pixels to their left."""
    height, width = image.shape[:2]
    rows, columns = -(-height // _CODING_BLOCK), -(-width // _CODING_BLOCK)
    out = image.copy()
    for _ in range(max(1, round(share * rows * columns / 4))):
        y, x = _CODING_BLOCK * rng.integers(rows), _CODING_BLOCK * rng.integers(columns)
        region = out[y : y + _CODING_BLOCK, x : x + 4 * _CODING_BLOCK]
        before = out[y : y + _CODING_BLOCK, max(0, x - 1) : max(1, x)]
        region[...] = before if rng.random() < 0.5 else 0.5
    return out


def row_jitter(image: Image, pixels: float, rng: np.random.Generator) -> Image:
    """Move each row sideways by a normally distributed offset of `pixels`, as a tape with bad timing shows it."""
    height, width = image.shape[:2]
    offsets = np.rint(pixels * rng.standard_normal(height)).astype(np.int64)
    columns = np.clip(np.arange(width) - offsets[:, None], 0, width - 1)
    return image[np.arange(height)[:, None], columns]


def interlacing(image: Image, pixels: float, rng: np.random.Generator) -> Image:
    """Move every other row sideways by `pixels`, as two fields of a moving scene are."""
    out = image.copy()
    columns = np.clip(np.arange(image.shape[1]) - int(pixels), 0, image.shape[1] - 1)
    out[1::2] = image[1::2][:, columns]
    return out


def chromatic_aberration(image: Image, pixels: float, rng: np.random.Generator) -> Image:
    """Magnify red and reduce blue, by `pixels` at the corners."""
    height, width = image.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    cy, cx = (height - 1) / 2, (width - 1) / 2
    out = image.copy()
    for channel, sign in ((0, -1), (2, 1)):
        zoom = np.float32(1 + sign * pixels / max(1.0, float(np.hypot(cy, cx))))
        out[..., channel] = sample(image, cy + (y - cy) * zoom, cx + (x - cx) * zoom)[..., channel]
    return out


def ghosting(image: Image, strength: float, rng: np.random.Generator) -> Image:
    """Mix in a second, displaced image at `strength`, as in a reflection or a doubled broadcast."""
    dy, dx = (int(v) for v in rng.integers(4, 16, size=2))
    ghost = np.stack([shifted(image[..., c], dy, dx) for c in range(3)], axis=-1)
    return image * np.float32(1 - strength) + np.float32(strength) * ghost
