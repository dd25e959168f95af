"""Distortions: parameters against hand-worked properties and other libraries, damage that grows, determinism."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image as PilImage
from PIL import ImageCms
from scipy import ndimage

from iqametrics.datasets.distortions import DISTORTIONS, EXTRA_DISTORTIONS, LEVELS, distort, find_distortion
from iqametrics.datasets.distortions.arrays import convolve, lab_to_rgb, rgb_to_lab
from iqametrics.datasets.distortions.blur import disk_kernel, line_kernel
from iqametrics.datasets.distortions.tone import grey_levels
from iqametrics.errors import InputError, IqaError, MissingExtraError

ALL = {**DISTORTIONS, **EXTRA_DISTORTIONS}
NAMES = [entry.name for entry in ALL.values()]
# Documented in datasets.md: mean shift and contrast change run from one sign of the change to the other.
NOT_MONOTONE = {"mean_shift", "contrast_change"}


def rng(seed=0):
    return np.random.default_rng(seed)


def scene(height=120, width=160, seed=7):
    """Something like a photograph: a gradient, coloured shapes with sharp edges, fine texture, values off 0 and 1."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    image = np.stack([0.3 + 0.4 * x / width, 0.35 + 0.3 * y / height, 0.6 - 0.3 * x / width], axis=-1)
    for cy, cx, radius, colour in (
        (40, 50, 25, (0.8, 0.3, 0.2)),
        (80, 110, 30, (0.2, 0.5, 0.75)),
        (90, 30, 18, (0.7, 0.75, 0.2)),
    ):
        image[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = colour
    texture = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((height, width)), 1.0)
    image += 0.06 * (texture / texture.std())[..., None] * (x > width / 2)[..., None]
    return np.clip(image, 0.05, 0.95).astype(np.float32)


def psnr(a, b):
    return -10 * np.log10(max(float(np.mean((a.astype(np.float64) - b) ** 2)), 1e-10))


def apply(name, image, level, seed=0):
    try:
        return distort(image, name, level, rng(seed))
    except MissingExtraError as error:
        pytest.skip(str(error))


# ---- the contract of every type


@pytest.mark.parametrize("name", NAMES)
def test_any_image_stays_an_image_and_the_same_state_of_the_generator_gives_the_same(name):
    grey = np.repeat(scene(48, 56)[..., :1], 3, axis=2)
    pieces = [scene()[20 : 20 + height, 30 : 30 + width] for height, width in ((1, 1), (5, 3), (15, 33), (31, 47))]
    for image in (scene(96, 128), grey, *pieces):
        before = image.copy()
        for level in (1, 5):
            out = apply(name, image, level, seed=3)
            assert (out.shape, out.dtype) == (image.shape, np.float32)
            assert 0 <= out.min() <= out.max() <= 1  # and so no NaN
            np.testing.assert_array_equal(out, apply(name, image, level, seed=3))
        np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("name", ["white_noise", "motion_blur", "color_shift", "jitter", "color_block", "denoise"])
def test_another_seed_gives_another_image(name):
    assert not np.array_equal(apply(name, scene(), 4, seed=1), apply(name, scene(), 4, seed=2))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOT_MONOTONE])
def test_damage_grows_with_the_level(name):
    # Blocks and patches are counted by area: a small image has no room for five different counts.
    image = np.tile(scene(), (4, 4, 1)) if name in {"color_block", "non_eccentricity_patch"} else scene()
    # Where places are drawn at random the mean over draws is what must fall.
    values = [np.mean([psnr(apply(name, image, level, seed), image) for seed in range(3)]) for level in LEVELS]
    # Colour shift moves along edges: beyond the width of an edge there is little more to damage.
    slack = 1.0 if name in {"color_shift", "interlacing", "motion_blur"} else 0.1
    assert all(b < a + slack for a, b in itertools.pairwise(values)), values
    assert values[4] < values[0] - 1


@pytest.mark.parametrize("name", sorted(NOT_MONOTONE))
def test_middle_level_changes_next_to_nothing(name):
    image = scene()
    values = [psnr(apply(name, image, level), image) for level in LEVELS]
    assert values[0] < values[1] < values[2]
    assert values[3] > values[4]
    # Contrast's third level bends the curve by 0.05 at 0.3 and 0.7, its fourth by as much the other way.
    assert values[2] > values[3] - 0.5
    assert np.abs(apply(name, image, 3) - image).max() < 0.06


def test_tables():
    assert list(DISTORTIONS) == list(range(1, 26))
    assert min(EXTRA_DISTORTIONS) == 101
    assert len(set(NAMES)) == len(ALL)
    # The map of datasets.md to LIQE's eleven names.
    classes = {
        "blur": {1, 2, 3},
        "color": {4, 5, 7, 8},
        "quantization": {6, 22},
        "jpeg2000 compression": {9},
        "jpeg compression": {10},
        "noise": {11, 12, 13, 14, 15},
        "overexposure": {16},
        "underexposure": {17},
        "other": {18},
        "spatial": {19, 20, 21, 23},
        "contrast": {24, 25},
    }
    assert {c: {d.id for d in DISTORTIONS.values() if d.liqe_class == c} for c in classes} == classes
    assert {entry.liqe_class for entry in ALL.values()} == set(classes)


@pytest.mark.parametrize(
    ("image", "kind", "level"),
    [
        (scene(), 26, 1),
        (scene(), "gausian_blur", 1),
        (scene(), 1, 0),
        (scene(), 1, 6),
        (scene()[..., 0], 1, 1),
        (scene()[..., :0], 1, 1),
        ((scene() * 255).astype(np.uint8), 1, 1),
        (scene() + 1, 1, 1),
        (scene() * np.nan, 1, 1),
    ],
)
def test_wrong_use_raises_ours(image, kind, level):
    with pytest.raises(InputError) as caught:
        distort(image, kind, level, rng())
    assert "\n" not in str(caught.value)


def test_missing_codec_says_so(monkeypatch):
    monkeypatch.setattr("PIL.features.get_supported", lambda: ["jpg"])
    with pytest.raises(MissingExtraError, match="JPEG2000"):
        distort(scene(), "jpeg2000", 1, rng())
    assert issubclass(MissingExtraError, IqaError)


# ---- blur


@pytest.mark.parametrize("level", [3, 5])
def test_gaussian_blur_equals_scipys(level):
    sigma = (0.1, 0.5, 1, 2, 5)[level - 1]
    image = scene().astype(np.float64)
    wanted = ndimage.gaussian_filter(
        image, (sigma, sigma, 0), mode="nearest", radius=(int(np.ceil(2 * sigma)),) * 2 + (0,)
    )
    np.testing.assert_allclose(distort(scene(), "gaussian_blur", level, rng()), wanted, atol=2e-6)


def test_fft_convolution_equals_direct():
    kernel = np.random.default_rng(0).random((7, 5)).astype(np.float32)
    wanted = np.stack([ndimage.convolve(scene()[..., c], kernel, mode="nearest") for c in range(3)], axis=-1)
    np.testing.assert_allclose(convolve(scene(), kernel), wanted, atol=2e-5)


@pytest.mark.parametrize("radius", [1, 2, 4, 6, 8])
def test_disk_has_its_area_and_symmetry(radius):
    kernel = disk_kernel(radius)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(kernel, kernel.T)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1])
    # The centre pixel is covered in full, so its weight is one over the area, pi r^2.
    assert 1 / kernel[radius, radius] == pytest.approx(np.pi * radius**2, rel=0.02)


def test_line_lies_along_its_angle():
    np.testing.assert_allclose(line_kernel(1, 0.7), [[1]])
    across = line_kernel(5, 0.0)
    np.testing.assert_allclose(across[2], np.full(5, 0.2), atol=1e-6)
    np.testing.assert_allclose(line_kernel(5, np.pi / 2)[:, 2], np.full(5, 0.2), atol=1e-6)


def test_motion_of_length_one_changes_nothing():
    np.testing.assert_allclose(distort(scene(), "motion_blur", 1, rng()), scene(), atol=1e-5)


# ---- colour


def test_lab_of_known_colours():
    # sRGB red, green, blue, white and mid grey in CIE Lab (D65), as tabulated by Lindbloom's calculator.
    rgb = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0.5, 0.5, 0.5]]], dtype=np.float32)
    lab = [[53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86], [100.0, 0.0, 0.0], [53.39, 0.0, 0.0]]
    np.testing.assert_allclose(rgb_to_lab(rgb)[0], lab, atol=0.05)


def test_lab_of_littlecms_is_near():
    """LittleCMS (D50 white, 8 bits) agrees on lightness."""
    transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    pixels = np.rint(scene() * 255).astype(np.uint8)
    theirs = np.asarray(ImageCms.applyTransform(PilImage.fromarray(pixels), transform))[..., 0] / 255 * 100
    ours = rgb_to_lab(pixels.astype(np.float32) / 255)[..., 0]
    assert np.abs(theirs - ours).mean() < 2


def test_lab_there_and_back():
    np.testing.assert_allclose(lab_to_rgb(rgb_to_lab(scene())), scene(), atol=2e-5)


def test_lab_saturation_keeps_lightness_and_scales_chroma():
    dull = (0.4 + 0.1 * scene()).astype(np.float32)
    before, after = rgb_to_lab(dull), rgb_to_lab(distort(dull, "color_saturation_2", 2, rng()))
    np.testing.assert_allclose(after[..., 0], before[..., 0], atol=0.05)
    np.testing.assert_allclose(after[..., 1:], 2 * before[..., 1:], atol=0.1)
    np.testing.assert_allclose(distort(scene(), "color_saturation_2", 1, rng()), scene(), atol=2e-5)


def test_hsv_saturation_equals_colorsys():
    import colorsys

    pixels = scene()[::40, ::40].reshape(-1, 3)
    for level, factor in ((1, 0.4), (3, 0.1), (4, 0)):
        ours = distort(scene()[::40, ::40], "color_saturation_1", level, rng()).reshape(-1, 3)
        for mine, rgb in zip(ours, pixels, strict=True):
            h, s, v = colorsys.rgb_to_hsv(*map(float, rgb))
            np.testing.assert_allclose(mine, colorsys.hsv_to_rgb(h, s * factor, v), atol=1e-5)
    red = np.array([[[0.6, 0.2, 0.2]]], dtype=np.float32)
    # S = 2/3, times -0.4: V (1 - S f) with f = (0, 1, 1) gives 0.6 (1 + 4/15) = 0.76.
    np.testing.assert_allclose(distort(red, "color_saturation_1", 5, rng())[0, 0], [0.6, 0.76, 0.76], atol=1e-6)


@pytest.mark.parametrize(("level", "colours"), list(zip(LEVELS, (64, 48, 32, 16, 8), strict=True)))
def test_color_quantization_counts_colours(level, colours):
    out = np.rint(distort(scene(), "color_quantization", level, rng()) * 255).astype(np.uint8)
    count = len(np.unique(out.reshape(-1, 3), axis=0))
    assert colours / 2 < count <= colours


def test_color_shift_moves_green_alone_and_only_at_edges():
    image = scene()
    image[60:, :] = 0.5
    out = distort(image, "color_shift", 4, rng())
    np.testing.assert_array_equal(out[..., [0, 2]], image[..., [0, 2]])
    assert np.abs(out[..., 1] - image[..., 1]).max() > 0.1
    np.testing.assert_allclose(out[90:], image[90:], atol=1e-6)


def test_color_diffusion_keeps_lightness_where_the_gamut_allows():
    dull = (0.45 + 0.05 * scene()).astype(np.float32)
    before, after = rgb_to_lab(dull), rgb_to_lab(distort(dull, "color_diffusion", 1, rng()))
    np.testing.assert_allclose(after[..., 0], before[..., 0], atol=0.1)
    assert after[..., 1].std() < before[..., 1].std()


# ---- compression


@pytest.mark.parametrize(("level", "quality"), list(zip(LEVELS, (43, 36, 24, 7, 4), strict=True)))
def test_jpeg_equals_pillows(level, quality):
    pixels = np.rint(scene() * 255).astype(np.uint8)
    buffer = io.BytesIO()
    PilImage.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    wanted = np.asarray(PilImage.open(buffer), dtype=np.float32) / 255
    np.testing.assert_array_equal(distort(pixels.astype(np.float32) / 255, "jpeg", level, rng()), wanted)


def test_jpeg2000_reaches_its_ratio(monkeypatch):
    sizes = []
    opened = PilImage.open

    def spy(buffer):
        sizes.append(len(buffer.getvalue()))
        return opened(buffer)

    monkeypatch.setattr("PIL.Image.open", spy)
    noisy = np.random.default_rng(0).random((384, 512, 3)).astype(np.float32)
    for level, ratio in zip(LEVELS, (16, 32, 45, 120, 400), strict=True):
        apply("jpeg2000", noisy, level)
        assert noisy.size / sizes[-1] == pytest.approx(ratio, rel=0.15)


# ---- noise


@pytest.mark.parametrize(("level", "variance"), list(zip(LEVELS, (0.001, 0.002, 0.003, 0.005, 0.01), strict=True)))
def test_white_noise_has_its_variance(level, variance):
    flat = np.full((128, 128, 3), 0.5, dtype=np.float32)
    noise = distort(flat, "white_noise", level, rng()) - 0.5
    # 49,152 values: the standard error of a variance is sqrt(2/n), 0.6 %.
    assert noise.var() == pytest.approx(variance, rel=0.03)
    assert np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1] == pytest.approx(0, abs=0.03)


def test_color_noise_has_its_variance_in_ycbcr():
    flat = np.full((128, 128, 3), 0.5, dtype=np.float32)
    noise = distort(flat, "color_noise", 5, rng()) - 0.5
    y = noise @ np.array([0.299, 0.587, 0.114])
    cb = (noise[..., 2] - y) / 1.772
    cr = (noise[..., 0] - y) / 1.402
    for plane in (y, cb, cr):
        assert plane.var() == pytest.approx(0.003, rel=0.04)


def test_impulse_noise_has_its_density():
    flat = np.full((200, 200, 3), 0.5, dtype=np.float32)
    out = distort(flat, "impulse_noise", 5, rng())
    assert np.mean(out == 0) == pytest.approx(0.015, rel=0.1)
    assert np.mean(out == 1) == pytest.approx(0.015, rel=0.1)
    assert np.mean(out == 0.5) == pytest.approx(0.97, rel=0.01)


def test_multiplicative_noise_grows_with_the_square_of_the_signal():
    for value in (0.2, 0.4):
        flat = np.full((128, 128, 3), value, dtype=np.float32)
        assert distort(flat, "multiplicative_noise", 4, rng()).var() == pytest.approx(0.02 * value**2, rel=0.05)


def test_denoise_removes_most_of_its_noise():
    flat = np.full((128, 128, 3), 0.5, dtype=np.float32)
    assert distort(flat, "denoise", 1, rng()).var() < 0.05 * 0.01
    smooth = scene()
    noisy = np.clip(smooth + 0.1 * np.random.default_rng(0).standard_normal(smooth.shape), 0, 1)
    assert psnr(distort(smooth, "denoise", 1, rng()), smooth) > psnr(noisy, smooth) + 4


# ---- tone


@pytest.mark.parametrize(
    ("name", "amounts", "sign"),
    [("brighten", (0.1, 0.2, 0.4, 0.7, 1.1), 1), ("darken", (0.05, 0.1, 0.2, 0.4, 0.8), -1)],
)
def test_tone_curves_pass_their_points(name, amounts, sign):
    ramp = np.repeat(np.linspace(0, 1, 257, dtype=np.float32)[None, :, None], 3, axis=2)
    for level, amount in zip(LEVELS, amounts, strict=True):
        out = distort(ramp, name, level, rng())[0, :, 0]
        assert out[0] == pytest.approx(0, abs=1e-6)
        assert out[128] == pytest.approx(min(1, 0.5 + sign * amount / 2), abs=2e-3)
        assert out[256] == pytest.approx(1, abs=1e-6)
        assert np.all(np.diff(out) >= -1e-6)


def test_contrast_curve_passes_its_points():
    pair = np.repeat(np.array([[0, 0.3, 0.7, 1]], dtype=np.float32)[..., None], 3, axis=2)
    for level, amount in zip(LEVELS, (0.3, 0.15, 0, -0.4, -0.6), strict=True):
        out = distort(pair, "contrast_change", level, rng())[0, :, 0]
        np.testing.assert_allclose(out, [0, 0.25 - amount / 4, 0.75 + amount / 4, 1], atol=2e-3)


@pytest.mark.parametrize(("level", "shift"), list(zip(LEVELS, (0.15, 0.08, 0, -0.08, -0.15), strict=True)))
def test_mean_shift_is_exact_before_clipping(level, shift):
    image = (0.2 + 0.6 * scene()).astype(np.float32)
    np.testing.assert_allclose(distort(image, "mean_shift", level, rng()), image + shift, atol=1e-6)


@pytest.mark.parametrize(("level", "count"), list(zip(LEVELS, (20, 16, 13, 10, 7), strict=True)))
def test_quantization_counts_levels(level, count):
    assert len(np.unique(distort(scene(), "quantization", level, rng()))) <= count


def test_grey_levels_finds_the_clusters():
    histogram = np.zeros(256, dtype=np.int64)
    histogram[[10, 12, 200, 202, 90]] = [5, 5, 1, 3, 7]
    table = grey_levels(histogram, 3)
    # Class means by hand: 11, 90 and (200 + 3 * 202) / 4.
    np.testing.assert_allclose(table[[10, 12, 90, 200, 202]] * 255, [11, 11, 90, 201.5, 201.5], atol=1e-3)


def test_sharpening_overshoots_edges_and_leaves_flat_parts():
    step = np.full((40, 80, 3), 0.4, dtype=np.float32)
    step[:, 40:] = 0.6
    out = distort(step, "high_sharpen", 1, rng())
    np.testing.assert_allclose(out[:, [0, 79]], step[:, [0, 79]], atol=1e-6)
    # At the pixel beside the edge the Gaussian (sigma 3) takes a share q from the other side: overshoot 0.2 q.
    taps = np.exp(-(np.arange(-6, 7) ** 2) / 18)
    share = taps[:6].sum() / taps.sum()
    assert out[20, 40, 0] == pytest.approx(0.6 + 0.2 * share, abs=1e-4)


# ---- spatial


def test_jitter_moves_by_its_amount_only():
    """A pixel that all offsets leave within reach shows a mean of its neighbourhood; a flat image stays flat."""
    flat = np.full((32, 32, 3), 0.3, dtype=np.float32)
    np.testing.assert_allclose(distort(flat, "jitter", 5, rng()), flat, atol=1e-6)
    ramp = np.repeat(np.linspace(0, 1, 201, dtype=np.float32)[None, :, None], 3, axis=2).repeat(50, axis=0)
    moved = (distort(ramp, "jitter", 3, rng()) - ramp)[:, 50:150] * 200
    # On a ramp each of the five passes adds a normal offset of 0.2 px, averaged with those of its neighbours.
    assert 0.2 < moved.std() < 0.2 * np.sqrt(5)


def test_patches_come_from_the_image_and_from_nearby():
    y, x = np.mgrid[0:96, 0:96]
    image = np.stack([y / 96, x / 96, np.full((96, 96), 0.5)], axis=-1).astype(np.float32)
    out = distort(image, "non_eccentricity_patch", 5, rng())
    moved = np.rint((out - image)[..., :2] * 96)
    assert np.abs(moved).max() <= 8
    assert (moved != 0).any()


def test_pixelate_keeps_that_many_columns():
    image = (np.random.default_rng(0).permutation(30_000).reshape(100, 100, 3) / 30_000).astype(np.float32)
    for level, strength in zip(LEVELS, (0.01, 0.05, 0.1, 0.2, 0.5), strict=True):
        out = distort(image, "pixelate", level, rng())
        assert len(np.unique(out[..., 0])) == round(100 * (0.95 - strength**0.6)) ** 2
        assert set(np.unique(out)) <= set(np.unique(image))


def test_color_blocks_are_flat_and_32_wide():
    image = scene(200, 300)
    out = distort(image, "color_block", 1, rng(5))
    changed = np.any(out != image, axis=2)
    assert 32 * 32 <= changed.sum() <= 2 * 32 * 32
    assert len(np.unique(out[changed], axis=0)) <= 2


def test_find_distortion_by_id_and_name():
    assert find_distortion(10) is find_distortion("jpeg")
    assert find_distortion(101).name == "webp"


def test_blocks_are_as_dense_in_any_size():
    grey = np.full((384, 512, 3), 0.5, np.float32)
    rng = np.random.default_rng
    changed = [np.mean(distort(grey[:h, :w], "color_block", 5, rng(0)) != 0.5) for h, w in ((384, 512), (192, 256))]
    assert changed[0] == pytest.approx(10 * 32 * 32 / (384 * 512), rel=0.25)
    # A quarter of the area holds round(10 / 4) = 2 blocks.
    assert changed[1] == pytest.approx(2 * 32 * 32 / (192 * 256), rel=0.25)
