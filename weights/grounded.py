"""Labels for kinds of damage that nobody has scored, from kinds that people have scored and classical metrics.

An ensemble of classical full-reference metrics (`iqametrics.datasets.content_shift`) is one number for a pair: the mean
over its metrics of the share of scored pairs that the metric finds worse. Its relation to the labels of scored pairs is
fitted twice, by a curve that never falls (isotonic regression): for all kinds together, and for the kinds that damage a
picture most alike. The label is the mean of what both curves say: an ensemble alone mistakes one kind for another far
more than it mistakes levels.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression
from scipy.stats import percentileofscore

Numbers = npt.NDArray[np.float64]

NEAREST: dict[str, tuple[str, ...]] = {
    "webp": ("jpeg", "jpeg2000"),
    "avif": ("jpeg2000", "jpeg"),
    "jpeg_resaved": ("jpeg",),
    "bilinear_upscale": ("gaussian_blur",),
    "bicubic_upscale": ("gaussian_blur",),
    "lanczos_upscale": ("gaussian_blur",),
    "halo": ("high_sharpen",),
    "ringing": ("jpeg2000", "gaussian_blur"),
    "salt_and_pepper": ("impulse_noise",),
    "color_temperature": ("color_saturation_2", "mean_shift"),
    "vignetting": ("darken",),
    "gamma": ("brighten", "darken"),
    "haze": ("brighten", "contrast_change"),
    "banding": ("quantization", "color_quantization"),
    "median_smoothing": ("denoise", "gaussian_blur"),
    "edge_preserving_smoothing": ("denoise", "color_quantization"),
    "poisson_noise": ("white_noise", "multiplicative_noise"),
    "correlated_noise": ("white_noise", "color_noise"),
    "block_loss": ("color_block", "non_eccentricity_patch"),
    "row_jitter": ("jitter",),
    "interlacing": ("jitter", "motion_blur"),
    "chromatic_aberration": ("color_shift",),
    "ghosting": ("motion_blur", "color_shift"),
}
"""Of each further kind, the kinds of KADID-10k that damage a picture most alike."""


def grounded_labels(
    kinds: Sequence[str],
    values: Numbers,
    scored_kinds: Sequence[str],
    scored_values: Numbers,
    scored_labels: Numbers,
    *,
    without: Sequence[str] = (),
) -> Numbers:
    """Compute a label in [0, 1] for each pair of a further kind.

    Args:
        kinds: Kind of each pair to label, keys of `NEAREST`.
        values: Values of the ensemble's metrics for it, (pairs, metrics), higher is better.
        scored_kinds: Kind of each scored pair.
        scored_values: As `values`, of the scored pairs.
        scored_labels: Their labels.
        without: Scored kinds that must teach nothing.
    """
    allowed = np.array([kind not in without for kind in scored_kinds])
    known, labels = scored_values[allowed], scored_labels[allowed]
    names = [kind for kind in scored_kinds if kind not in without]
    standing, wanted = _standing(known, known), _standing(values, known)
    of_all = _curve(standing, labels)
    found = np.empty(len(kinds))
    for kind in dict.fromkeys(kinds):
        chosen = [index for index, one in enumerate(kinds) if one == kind]
        near = [index for index, name in enumerate(names) if name in NEAREST[kind]]
        alike = _curve(standing[near], labels[near]) if near else of_all
        found[chosen] = (np.interp(wanted[chosen], *of_all) + np.interp(wanted[chosen], *alike)) / 2
    return np.clip(found, 0, 1)


def _standing(values: Numbers, known: Numbers) -> Numbers:
    """Give the mean over metrics of the share of known values that lie below each value."""
    columns = zip(values.T, known.T, strict=True)
    return np.mean([percentileofscore(column, value) / 100 for value, column in columns], axis=0)


def _curve(standing: Numbers, labels: Numbers) -> tuple[Numbers, Numbers]:
    """Fit labels that never fall with the standing; give both, sorted, as `numpy.interp` takes them."""
    order = np.argsort(standing, kind="stable")
    return standing[order], isotonic_regression(labels[order]).x
