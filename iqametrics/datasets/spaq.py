"""SPAQ, photographs from smartphones."""

from iqametrics.datasets.release import DatasetSpec, Release, number, read_csv, read_xlsx, rescale
from iqametrics.datasets.sample import Sample

_RANGE = (0.0, 100.0)
_WORKBOOK = "MOS and Image attribute scores.xlsx"
_COLUMNS = ("image name", "mos")


def read(release: Release, scores: str) -> list[Sample]:
    """Read the 11,125 images, from the release's workbook or, if there is none, a CSV of its first two columns.

    Raises:
        DataError: If a file is missing or is not the release's.
        MissingExtraError: If there is a workbook and openpyxl is not installed.
    """
    path = release.require(f"Annotations/{_WORKBOOK}", _WORKBOOK, "names_and_mos.csv")
    rows = read_xlsx(path, _COLUMNS) if path.suffix.casefold() == ".xlsx" else read_csv(path, _COLUMNS)
    samples = []
    for line, row in rows:
        where = f"{path}, line {line}"
        samples.append(
            Sample(
                image=release.path(f"TestImage/{str(row['image name']).strip()}"),
                reference=None,
                mos=rescale(number(row["mos"], where), _RANGE, where),
            )
        )
    return samples


SPEC = DatasetSpec(
    name="spaq",
    title="SPAQ",
    mode="nr",
    images=11_125,
    score_name="MOS",
    score_range=_RANGE,
    paper="Fang, Zhu, Zeng, Ma and Wang, Perceptual quality assessment of smartphone photography, CVPR 2020",
    url="https://github.com/h4nwei/SPAQ",
    layout=(
        "TestImage/00001.jpg",
        f"Annotations/{_WORKBOOK} or the same file in the root (needs the extra [datasets]), "
        "else names_and_mos.csv with its columns Image name,MOS",
    ),
    traps=("photographs of up to many megapixels; papers scale the shorter side (BPCLIP: 448)",),
    reader=read,
)
