"""TID2013, the Tampere Image Database."""

import re

from iqametrics.datasets.release import DatasetSpec, Release, number, read_lines, rescale
from iqametrics.datasets.sample import Sample
from iqametrics.errors import DataError

_RANGE = (0.0, 9.0)
_NAME = re.compile(r"i(\d\d)_(\d\d)_(\d)\.bmp", re.IGNORECASE)
# The 24 types in the order of their numbers: the paper's name, and LIQE's.
_TYPES = (
    ("additive gaussian noise", "noise"),
    ("noise in color components", "noise"),
    ("spatially correlated noise", "noise"),
    ("masked noise", "noise"),
    ("high frequency noise", "noise"),
    ("impulse noise", "noise"),
    ("quantization noise", "quantization"),
    ("gaussian blur", "blur"),
    ("image denoising", "noise"),
    ("jpeg compression", "jpeg compression"),
    ("jpeg2000 compression", "jpeg2000 compression"),
    ("jpeg transmission errors", "jpeg compression"),
    ("jpeg2000 transmission errors", "jpeg2000 compression"),
    ("non eccentricity pattern noise", "spatial"),
    ("local block-wise distortions", "spatial"),
    ("mean shift", "other"),
    ("contrast change", "contrast"),
    ("change of color saturation", "color"),
    ("multiplicative gaussian noise", "noise"),
    ("comfort noise", "noise"),
    ("lossy compression of noisy images", "noise"),
    ("image color quantization with dither", "quantization"),
    ("chromatic aberrations", "color"),
    ("sparse sampling and reconstruction", "other"),
)


def read(release: Release, scores: str) -> list[Sample]:
    """Read the 3000 images, with their spread if `mos_std.txt` exists.

    Raises:
        DataError: If a file is missing or is not the release's.
    """
    path = release.require("mos_with_names.txt")
    rows = read_lines(path)
    spread_path = release.find("mos_std.txt")
    spreads = read_lines(spread_path) if spread_path else None
    if spreads is not None and len(spreads) != len(rows):
        raise DataError(f"{spread_path}: {len(spreads)} lines where {path.name} has {len(rows)}; download it again")
    samples = []
    for index, (line, text) in enumerate(rows):
        where = f"{path}, line {line}"
        score, _, name = text.partition(" ")
        found = _NAME.fullmatch(name.strip())
        if found is None or not 1 <= int(found[2]) <= len(_TYPES):
            raise DataError(f"{where}: {text!r} is not a score and iRR_TT_L.bmp; is this the original score file?")
        distortion, liqe = _TYPES[int(found[2]) - 1]
        samples.append(
            Sample(
                image=release.path(f"distorted_images/{name.strip()}"),
                reference=release.path(f"reference_images/I{found[1]}.BMP"),
                mos=rescale(number(score, where), _RANGE, where),
                mos_std=None if spreads is None else number(spreads[index][1], f"{spread_path}, line {line}") / 9,
                distortion=distortion,
                level=int(found[3]),
                liqe_class=liqe,
            )
        )
    return samples


SPEC = DatasetSpec(
    name="tid2013",
    title="TID2013",
    mode="fr",
    images=3000,
    references=25,
    score_name="MOS",
    score_range=_RANGE,
    spread="mos_std.txt, where it is there: of the mean, not of single opinions",
    paper="Ponomarenko et al., Image database TID2013: peculiarities, results and perspectives, Signal Processing: "
    "Image Communication 30, 2015",
    url="https://www.ponomarenko.info/tid2013.htm",
    layout=(
        "reference_images/I01.BMP",
        "distorted_images/iRR_TT_L.bmp",
        "mos_with_names.txt",
        "mos_std.txt (optional, same order)",
    ),
    traps=("file names mix upper and lower case; they are found without regard to case",),
    reader=read,
)
