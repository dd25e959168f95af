"""One scored image, whatever dataset it is from."""

from dataclasses import dataclass
from pathlib import Path

LIQE_CLASSES = (
    "jpeg2000 compression",
    "jpeg compression",
    "noise",
    "blur",
    "color",
    "contrast",
    "overexposure",
    "underexposure",
    "spatial",
    "quantization",
    "other",
)
"""LIQE's eleven names of distortions (Zhang et al., CVPR 2023), which cover the types of every dataset."""


@dataclass(frozen=True)
class Sample:
    """One scored image.

    Attributes:
        image: file of the image to score.
        reference: file of its pristine original, or None.
        mos: mean opinion score in [0, 1], 1 the best.
        distortion: the dataset's own name of the distortion type, if known.
        level: level of the distortion, if known.
        group: images of one group must stay on one side of a split (scene, burst).
        kind: number of the distortion type in KADID-10k's order or this package's, if it is one of those.
        split: part of the dataset's own split, if it has one ("train", "validation", "test").
        mos_std: standard deviation of the opinions behind `mos`, on the scale of `mos`, if the dataset gives it.
        liqe_class: which of LIQE's eleven distortion names covers the type, if known.
    """

    image: Path
    reference: Path | None
    mos: float
    distortion: str | None = None
    level: int | None = None
    group: str | None = None
    kind: int | None = None
    split: str | None = None
    mos_std: float | None = None
    liqe_class: str | None = None
