"""One image with its opinion score, of any dataset."""

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
    """One image with its opinion score.

    Attributes:
        image: File of the image.
        reference: File of its reference, or None.
        mos: Mean opinion score in [0, 1], where 1 is best.
        distortion: The dataset's own name of the distortion type, if known; of a photograph the one that LIQE's
            authors gave it.
        level: Level of the distortion, if known.
        group: Group of images that must stay on one side of a split, such as a scene or a burst.
        kind: Number of the distortion type, in KADID-10k's order or among this package's further types, if it has one.
        split: Part of the dataset's own split, if it has one ("train", "validation", "test").
        mos_std: Standard deviation of the opinions behind `mos`, on the scale of `mos`, if the dataset gives it.
        liqe_class: The one of LIQE's eleven distortion names that covers the type, if known.
        scenes: Up to three of LIQE's nine names of scenes, if known.
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
    scenes: tuple[str, ...] = ()
