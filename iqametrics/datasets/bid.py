"""BID, the Blurred Image Database: photographs, most of them blurred by the camera."""

from iqametrics.datasets.release import DatasetSpec, Release, number, read_sheet, rescale
from iqametrics.datasets.sample import Sample
from iqametrics.errors import DataError

_RANGE = (0.0, 5.0)
_WORKBOOK = "DatabaseGrades.xlsx"


def read(release: Release, scores: str) -> list[Sample]:
    """Read the 586 images: the first column of the workbook is the number of an image, the second its mean grade.

    Raises:
        DataError: If a file is missing or is not the release's.
        MissingExtraError: If openpyxl is not installed.
    """
    path = release.require(_WORKBOOK, f"ImageDatabase/{_WORKBOOK}")
    first, *rows = read_sheet(path) or [()]
    if isinstance(next(iter(first), None), int | float):
        raise DataError(f"{path}, row 1: is no header but an image; is this the original score file?")
    folder = "ImageDatabase/" if release.find("ImageDatabase") else ""
    samples = []
    for line, cells in enumerate(rows, start=2):
        image, grade, *_ = (*cells, None, None)
        if image is None:
            continue
        where = f"{path}, row {line}"
        samples.append(
            Sample(
                image=release.path(f"{folder}DatabaseImage{int(number(image, where)):04d}.JPG"),
                reference=None,
                mos=rescale(number(grade, where), _RANGE, where),
            )
        )
    return samples


SPEC = DatasetSpec(
    name="bid",
    title="BID",
    mode="nr",
    images=586,
    score_name="MOS",
    score_range=_RANGE,
    paper="Ciancio, da Costa, da Silva, Said, Samadani and Obrador, No-reference blur assessment of digital pictures "
    "based on multifeature classifiers, IEEE Transactions on Image Processing 20(1), 2011",
    url="http://www.lps.ufrj.br/profs/eduardo/ImageDatabase.htm",
    layout=(
        "DatabaseImage0001.JPG and so on, in the root or in ImageDatabase/",
        f"{_WORKBOOK} (number, mean grade)",
    ),
    traps=("the numbers of the images have gaps: they are in the workbook, not the rows",),
    labels="distortion and scenes by LIQE's authors, in the package; labels.tsv in the root takes their place",
    reader=read,
)
