"""KonIQ-10k, photographs from the web."""

from iqametrics.datasets.release import DatasetSpec, Release, number, read_csv, rescale
from iqametrics.datasets.sample import Sample
from iqametrics.errors import DataError

_RANGE = (0.0, 100.0)
_WITH_SETS = "koniq10k_distributions_sets.csv"
_WITHOUT_SETS = "koniq10k_scores_and_distributions.csv"
_PARTS = {"training": "train", "validation": "validation", "test": "test"}


def read(release: Release, scores: str) -> list[Sample]:
    """Read the 10,073 images, with the official split if the file that has it exists.

    Raises:
        DataError: If a file is missing or is not the release's.
    """
    path = release.require(_WITH_SETS, _WITHOUT_SETS)
    with_sets = path.name.casefold() == _WITH_SETS
    # In the file with the split, "MOS" is the z-score; in the other it is the mean of 1..5, beside the z-score.
    score = "mos" if with_sets else "mos_zscore"
    folder = release.first("1024x768", "512x384")
    samples = []
    for line, row in read_csv(path, ("image_name", score, "sd", *(["set"] if with_sets else []))):
        where = f"{path}, line {line}"
        if with_sets and row["set"] not in _PARTS:
            raise DataError(f"{where}: set {row['set']!r} is none of {', '.join(_PARTS)}; is this the original?")
        samples.append(
            Sample(
                image=release.path(f"{folder}/{row['image_name']}"),
                reference=None,
                mos=rescale(number(row[score], where), _RANGE, where),
                mos_std=number(row["sd"], where) / 4,
                split=_PARTS[row["set"]] if with_sets else None,
            )
        )
    return samples


SPEC = DatasetSpec(
    name="koniq10k",
    title="KonIQ-10k",
    mode="nr",
    images=10_073,
    score_name="MOS z-score",
    score_range=_RANGE,
    spread="standard deviation of the opinions 1..5, over 4: near the scale of the z-scores, not the same",
    official_parts={"train": 7058, "validation": 1000, "test": 2015},
    paper="Hosu, Lin, Sziranyi and Saupe, KonIQ-10k: an ecologically valid database for deep learning of blind image "
    "quality assessment, IEEE Transactions on Image Processing 29, 2020",
    url="https://database.mmsp-kn.de/koniq-10k-database.html",
    layout=(
        "1024x768/NAME.jpg or, where that is missing, 512x384/NAME.jpg",
        f"{_WITH_SETS} (official split), else {_WITHOUT_SETS} (no split)",
    ),
    traps=('"MOS" is the z-score 0..100 in one score file and the mean 1..5 in the other; both give the z-score here',),
    labels="distortion and scenes by LIQE's authors, in the package; labels.tsv in the root takes their place",
    reader=read,
)
