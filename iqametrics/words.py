"""Words that are true of a picture, by the features of a backbone.

A linear readout of mean and standard deviation of each channel of the levels, fitted to photographs with known damage
(`weights/make_words.py`). It stands beside the metrics and changes no score. For each word it is stored how well the
word tells its damage from clean and otherwise damaged pictures; what does that badly is never said.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from safetensors.torch import load
from torch import Tensor

from iqametrics.novelty import pooled_features
from iqametrics.weights.manifest import WEIGHTS_FOLDER, base_bytes

SUFFIX = "_words"
"""Ends the name of the base file that holds the readout of a backbone's features."""
WORDS = (
    "blurry",
    "noisy",
    "blocky",
    "overexposed",
    "underexposed",
    "hazy",
    "colorless",
    "color-shifted",
    "banded",
    "oversharpened",
)
"""The words, in the order of the readout's rows."""
DAMAGE: dict[str, tuple[str, ...]] = {
    "blurry": ("gaussian_blur", "lens_blur", "motion_blur", "bicubic_upscale"),
    "noisy": ("white_noise", "color_noise", "poisson_noise", "correlated_noise"),
    "blocky": ("jpeg", "jpeg_resaved"),
    "overexposed": ("brighten",),
    "underexposed": ("darken",),
    "hazy": ("haze",),
    "colorless": ("color_saturation_1",),
    "color-shifted": ("color_temperature",),
    "banded": ("banding", "quantization"),
    "oversharpened": ("high_sharpen", "halo"),
}
"""The words, and the kinds of damage (`iqametrics.datasets.distortions`) that make each true."""
NONE, UNKNOWN = -1, -2
"""In place of a word's index: nothing is wrong with a picture; nothing is known of it."""
LEAST_AUC = 0.9
"""Area under the ROC curve below which a word is not said."""


def word_of(kind: str | None) -> int:
    """Return the index of the word that a kind of damage makes true, `NONE` without damage, else `UNKNOWN`."""
    if kind is None:
        return NONE
    return next((index for index, word in enumerate(WORDS) if kind in DAMAGE[word]), UNKNOWN)


class WordReadout:
    """Readout of the words that are true of a picture.

    Args:
        tensors: `mean` and `scale` (C,) of the features; `weights` (W, C) and `bias` (W,) of the logits of the W words;
            `thresholds` (W,), the logits that 1 good photograph in 50 exceeds; `auc` (W,), measured on pictures that
            nothing was fitted to.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = {name: tensor.float() for name, tensor in tensors.items()}

    @property
    def auc(self) -> dict[str, float]:
        """Area under the ROC curve of each word."""
        return dict(zip(WORDS, self._tensors["auc"].tolist(), strict=True))

    def numbers_of(self, pooled: Tensor) -> Tensor:
        """Compute the logits (N, W) of what `pooled_features` gave."""
        held = {name: tensor.to(pooled.device) for name, tensor in self._tensors.items()}
        return (pooled - held["mean"]) / held["scale"] @ held["weights"].T + held["bias"]

    def words(self, levels: Sequence[Tensor]) -> list[dict[str, float]]:
        """Tell which words are true of each of N pictures, the surest first.

        Args:
            levels: Levels of the pictures, (N, C_i, H_i, W_i) each.

        Returns:
            For each picture the words whose logit is above 0 and above their threshold, with the probability that it
            stands for; none that tells its damage with an AUC below `LEAST_AUC`.
        """
        numbers = self.numbers_of(pooled_features(levels))
        # More likely than not, and more likely than of nearly all good photographs.
        least = self._tensors["thresholds"].clamp(min=0)
        heard = (numbers > least.to(numbers.device)) & self._true.to(numbers.device)
        found = []
        for row, said in zip(numbers.sigmoid().tolist(), heard.tolist(), strict=True):
            named = {word: share for word, share, is_said in zip(WORDS, row, said, strict=True) if is_said}
            found.append(dict(sorted(named.items(), key=lambda pair: -pair[1])))
        return found

    @property
    def _true(self) -> Tensor:
        return self._tensors["auc"] >= LEAST_AUC


@lru_cache(maxsize=4)
def find_words(backbone: str, folder: Path = WEIGHTS_FOLDER) -> WordReadout | None:
    """Find the readout of a bundled backbone; None where there is none.

    Raises:
        WeightsError: If the manifest or the file is damaged.
    """
    content = base_bytes(backbone + SUFFIX, folder)
    return None if content is None else WordReadout(load(content))
