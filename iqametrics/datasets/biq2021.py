"""BIQ2021, a set of photographs with blind quality scores."""

from iqametrics.datasets.release import DatasetSpec, Release, number, read_csv, rescale
from iqametrics.datasets.sample import Sample

_RANGE = (0.0, 1.0)
_TRAIN, _TEST = "Train (Images and MOS).csv", "Test (Images and MOS).csv"
_SUBSET = "train_subset.csv"


def read(release: Release, scores: str) -> list[Sample]:
    """Read the training and test part, or a declared subset of the training part.

    `train_subset.csv` (`image,mos`, names relative to the root) is read if both of the release's files are missing; all
    of its images count as training images.

    Raises:
        DataError: If a file is missing or is not the release's; one of the release's two files alone is not enough.
    """
    if release.find(_TRAIN) is None and release.find(_TEST) is None and release.find(_SUBSET) is not None:
        files = [(release.require(_SUBSET), "image", "", "train")]
    else:
        release.require(_TRAIN, _SUBSET)
        files = [
            (release.require(_TRAIN), "image name", "Images/", "train"),
            (release.require(_TEST), "image name", "Images/", "test"),
        ]
    samples = []
    for path, column, folder, part in files:
        for line, row in read_csv(path, (column, "mos")):
            where = f"{path}, line {line}"
            samples.append(
                Sample(
                    image=release.path(folder + row[column]),
                    reference=None,
                    mos=rescale(number(row["mos"], where), _RANGE, where),
                    split=part,
                )
            )
    return samples


SPEC = DatasetSpec(
    name="biq2021",
    title="BIQ2021",
    mode="nr",
    images=12_000,
    score_name="MOS",
    score_range=_RANGE,
    official_parts={"train": 10_000, "test": 2_000},
    paper="Ahmed and Asif, BIQ2021: a large-scale blind image quality assessment database, Journal of Electronic "
    "Imaging 31(5), 2022",
    url="https://github.com/nisarahmedrana/BIQ2021",
    layout=(
        "Images/ss01 (1).jpg",
        f"{_TRAIN} and {_TEST}; or, for a part of the training images, {_SUBSET} (image,mos)",
    ),
    traps=("bursts of one scene are on both sides of the official split and of a random one",),
    reader=read,
)
