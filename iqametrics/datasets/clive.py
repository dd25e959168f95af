"""CLIVE, the LIVE In the Wild Image Quality Challenge Database (LIVEC)."""

from iqametrics.datasets.release import DatasetSpec, Release, cell_text, number, read_mat, rescale
from iqametrics.datasets.sample import Sample
from iqametrics.errors import DataError

_RANGE = (0.0, 100.0)
_TRAINING_IMAGES = 7


def read(release: Release, scores: str) -> list[Sample]:
    """Read the 1,162 test images; the first seven entries, which trained the observers, are left out.

    Raises:
        DataError: If a file is missing or is not the release's.
    """
    arrays = {}
    for name in ("AllImages_release", "AllMOS_release", "AllStdDev_release"):
        path = release.require(f"Data/{name}.mat")
        (arrays[name],) = read_mat(path, name)
    names = [cell_text(cell) for cell in arrays["AllImages_release"]]
    path = release.path("Data/AllImages_release.mat")
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise DataError(f"{path.parent}: the files have different numbers of entries, {lengths}; download them again")
    training = names[:_TRAINING_IMAGES]
    if [name.casefold() for name in training] != [f"t{index}.bmp" for index in range(1, _TRAINING_IMAGES + 1)]:
        raise DataError(f"{path}: the first 7 entries are {training}, not t1.bmp to t7.bmp; is this the original?")
    samples = []
    for row in range(_TRAINING_IMAGES, len(names)):
        where = f"{path.parent}/AllMOS_release.mat, entry {row + 1}"
        samples.append(
            Sample(
                image=release.path(f"Images/{names[row]}"),
                reference=None,
                mos=rescale(number(arrays["AllMOS_release"][row], where), _RANGE, where),
                mos_std=number(arrays["AllStdDev_release"][row], where.replace("MOS", "StdDev")) / 100,
            )
        )
    return samples


SPEC = DatasetSpec(
    name="clive",
    title="CLIVE (LIVE In the Wild)",
    mode="nr",
    images=1162,
    score_name="MOS",
    score_range=_RANGE,
    spread="standard deviation of the opinions",
    paper="Ghadiyaram and Bovik, Massive online crowdsourced study of subjective and objective picture quality, IEEE "
    "Transactions on Image Processing 25(1), 2016",
    url="https://live.ece.utexas.edu/research/ChallengeDB/index.html",
    layout=("Images/NAME (.bmp and .JPG)", "Data/AllImages_release.mat, AllMOS_release.mat, AllStdDev_release.mat"),
    traps=("1,169 entries; the first 7 trained the observers and are left out",),
    labels="distortion and scenes by LIQE's authors, in the package; labels.tsv in the root takes their place",
    reader=read,
)
