"""One scored image, whatever dataset it is from."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """One scored image.

    Attributes:
        image: File of the image to score.
        reference: File of its pristine original, or None.
        mos: Mean opinion score in [0, 1], 1 the best.
        distortion: The dataset's own name of the distortion type, if known.
        level: Level of the distortion, if known.
        group: Images of one group must stay on one side of a split (scene, burst).
        kind: Number of the distortion type in KADID-10k's order or this package's, if it is one of those.
        split: Part of the dataset's own split, if it has one ("train", "validation", "test").
        mos_std: Standard deviation of the opinions behind `mos`, on the scale of `mos`, if the dataset gives it.
        liqe_class: Which of LIQE's eleven distortion names covers the type, if known.
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
