"""LIVE Image Quality Assessment Database, release 2."""

from iqametrics.datasets.release import DatasetSpec, Release, cell_text, number, read_mat, rescale
from iqametrics.datasets.sample import Sample
from iqametrics.errors import DataError

# Folder, number of images (copies of the references among them), and LIQE's name; the 982 scores run in this order.
_FOLDERS = (
    ("jp2k", 227, "jpeg2000 compression"),
    ("jpeg", 233, "jpeg compression"),
    ("wn", 174, "noise"),
    ("gblur", 174, "blur"),
    ("fastfading", 174, "jpeg2000 compression"),
)
_REALIGNED = (115.0, -5.0)
_ORIGINAL = (100.0, 0.0)


def read(release: Release, scores: str) -> list[Sample]:
    """Read the 779 distorted images; the 203 copies of references are left out.

    Args:
        release: The dataset's folder.
        scores: Name of the scores: "realigned" (`dmos_realigned.mat`) or "original" (`dmos.mat`, no spread).

    Raises:
        DataError: If a file is missing or is not the release's.
    """
    if scores == "original":
        path, ends = release.require("dmos.mat"), _ORIGINAL
        values, copies = read_mat(path, "dmos", "orgs")
        spread = None
    else:
        path, ends = release.require("dmos_realigned.mat"), _REALIGNED
        values, spread, copies = read_mat(path, "dmos_new", "dmos_std", "orgs")
    names_path = release.require("refnames_all.mat")
    (names,) = read_mat(names_path, "refnames_all")
    entries = [(folder, index, liqe) for folder, count, liqe in _FOLDERS for index in range(1, count + 1)]
    for array, file in ((values, path), (copies, path), (names, names_path)):
        if len(array) != len(entries):
            raise DataError(f"{file}: {len(array)} entries where the release has {len(entries)}; download it again")
    samples = []
    for row, (folder, index, liqe) in enumerate(entries):
        where = f"{path}, entry {row + 1}"
        if number(copies[row], where):
            continue
        samples.append(
            Sample(
                image=release.path(f"{folder}/img{index}.bmp"),
                reference=release.path(f"refimgs/{cell_text(names[row])}"),
                mos=rescale(number(values[row], where), ends, where),
                mos_std=None if spread is None else number(spread[row], where) / abs(ends[0] - ends[1]),
                distortion=folder,
                liqe_class=liqe,
            )
        )
    return samples


SPEC = DatasetSpec(
    name="live",
    title="LIVE (release 2)",
    mode="fr",
    images=779,
    references=29,
    score_name="DMOS",
    score_range=_REALIGNED,
    score_variants={"original": _ORIGINAL},
    spread="dmos_std of the realigned scores, 1.1 to 5.4 on their scale: of the mean, it seems, not of single opinions",
    paper="Sheikh, Sabir and Bovik, A statistical evaluation of recent full reference image quality assessment "
    "algorithms, IEEE Transactions on Image Processing 15(11), 2006",
    url="https://live.ece.utexas.edu/research/quality/subjective.htm",
    layout=(
        "refimgs/NAME.bmp",
        "jp2k/img1..227.bmp, jpeg/img1..233.bmp, wn/, gblur/, fastfading/img1..174.bmp",
        "dmos_realigned.mat (default) or, with scores = original, dmos.mat",
        "refnames_all.mat",
    ),
    traps=(
        "DMOS falls with quality; MOS here is 1 - (DMOS + 5)/120, a fixed range: the realigned scores have none",
        "982 entries, of which 203 are copies of references and left out",
    ),
    labels="scenes by LIQE's authors, in the package; labels.tsv in the root takes their place",
    reader=read,
)
