"""FLIVE (LIVE-FB, PaQ-2-PiQ): whole images; the patches are not read."""

from iqametrics.datasets.release import DatasetSpec, Release, number, read_csv, rescale
from iqametrics.datasets.sample import Sample
from iqametrics.errors import DataError

_RANGE = (0.0, 100.0)
_SCORES, _TEST = "labels_image.csv", "labels640.csv"
TRAINING_FILES = ("labels=640_padded.csv", "labels<=640_padded.csv")
_VALID = {"true": "validation", "1": "validation", "false": "train", "0": "train"}


def read(release: Release, scores: str) -> list[Sample]:
    """Read the 39,810 images, with those parts of the official split whose files exist.

    An image that no such file lists has no split. In the release these are three; without the file of training and
    validation part, all images that are not in the test part.

    Raises:
        DataError: If a file is missing or is not the release's.
    """
    path = release.require(_SCORES, f"database/{_SCORES}")
    parts = _official_parts(release)
    folder = "database/" if release.find("database/voc_emotic_ava") or not release.find("voc_emotic_ava") else ""
    samples = []
    for line, row in read_csv(path, ("name", "mos")):
        where = f"{path}, line {line}"
        samples.append(
            Sample(
                image=release.path(folder + row["name"]),
                reference=None,
                mos=rescale(number(row["mos"], where), _RANGE, where),
                split=parts.get(row["name"].casefold()),
            )
        )
    return samples


def _official_parts(release: Release) -> dict[str, str]:
    parts = {}
    test = next((found for found in map(release.find, (_TEST, f"database/{_TEST}")) if found), None)
    if test:
        parts = {row["name_image"].casefold(): "test" for _, row in read_csv(test, ("name_image",))}
    candidates = [prefix + name for name in TRAINING_FILES for prefix in ("", "database/")]
    training = next((found for found in map(release.find, candidates) if found), None)
    for line, row in read_csv(training, ("name_image", "is_valid")) if training else ():
        name, valid = row["name_image"].casefold(), row["is_valid"].casefold()
        if valid not in _VALID:
            raise DataError(f"{training}, line {line}: is_valid is {row['is_valid']!r}; is this the original?")
        if parts.setdefault(name, _VALID[valid]) == "test":
            raise DataError(f"{training}, line {line}: {row['name_image']} is a test image; download the file again")
    return parts


SPEC = DatasetSpec(
    name="flive",
    title="FLIVE (LIVE-FB)",
    mode="nr",
    images=39_810,
    score_name="MOS",
    score_range=_RANGE,
    official_parts={"train": 30_253, "validation": 7_727, "test": 1_827},
    paper="Ying et al., From patches to pictures (PaQ-2-PiQ): mapping the perceptual space of picture quality, "
    "CVPR 2020",
    url="https://github.com/niu-haoran/FLIVE_Database",
    layout=(
        "database/{voc_emotic_ava,blur_dataset,EE371R}/, or these three in the root",
        "in the root or in database/: labels_image.csv (name,mos)",
        "labels640.csv (the test part) and labels=640_padded.csv (training and validation, by is_valid)",
    ),
    traps=("three images belong to no part of the official split",),
    reader=read,
)
