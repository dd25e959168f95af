"""Tables of human opinion that come with the package."""

import functools
import json
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class Opinion:
    """Human opinion on one distortion type at one level, in [0, 1], where 1 is best.

    Attributes:
        mean: Mean over photographs of the mean opinion score.
        std: Standard deviation over photographs of the mean opinion score.
    """

    mean: float
    std: float


@functools.cache
def kadid_opinions() -> dict[tuple[int, int], Opinion]:
    """Return KADID-10k's human scores by (type 1..25, level 1..5), mapped from 1..5 to [0, 1].

    The table is made by `weights/make_kadid_means.py`. It is not monotone in level for type 18 (mean shift, whose
    third level changes nothing) and 25 (contrast), nor quite for 5 (color shift).

    >>> round(kadid_opinions()[1, 1].mean, 2), round(kadid_opinions()[1, 5].mean, 2)
    (0.9, 0.08)
    """
    text = resources.files("iqametrics.datasets").joinpath("kadid_means.json").read_text(encoding="utf-8")
    table = json.loads(text)
    low, high = table["range"]
    return {
        (int(kind), level): Opinion((mean - low) / (high - low), std / (high - low))
        for kind, entry in table["types"].items()
        for level, (mean, std) in enumerate(zip(entry["mean"], entry["std"], strict=True), start=1)
    }
