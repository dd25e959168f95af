"""CSIQ, the Categorical Subjective Image Quality database."""

from collections.abc import Iterator
from pathlib import Path

from iqametrics.datasets.release import DatasetSpec, Release, number, read_lines, read_xlsx, rescale
from iqametrics.datasets.sample import Sample
from iqametrics.errors import DataError

_WORKBOOKS = ("csiq.DMOS.xlsx", "csiq.beta.xlsx")
_TEXT = "csiq_label.txt"
_RANGE = (1.0, 0.0)
# By the workbook's name of a type: its name in the file names, and LIQE's name.
_TYPES = {
    "noise": ("AWGN", "noise"),
    "jpeg": ("JPEG", "jpeg compression"),
    "jpeg2000": ("jpeg2000", "jpeg2000 compression"),
    "fnoise": ("fnoise", "noise"),
    "blur": ("BLUR", "blur"),
    "contrast": ("contrast", "contrast"),
}
_BY_FILE = {in_name.casefold(): (in_name, liqe) for in_name, liqe in _TYPES.values()}


def read(release: Release, scores: str) -> list[Sample]:
    """Read the 866 images, from the release's workbook or, if there is none, from the common text file.

    Raises:
        DataError: If a file is missing or is not the release's.
        MissingExtraError: If there is a workbook and openpyxl is not installed.
    """
    path = release.require(*_WORKBOOKS, _TEXT)
    rows = _text_rows if path.name.casefold() == _TEXT else _workbook_rows
    together = release.find("dst_imgs_all") is not None
    samples = []
    for name, in_name, level, dmos, spread, where in rows(path):
        key = in_name.casefold()
        if key not in _BY_FILE:
            raise DataError(f"{where}: unknown distortion type {in_name!r}; is this the original score file?")
        in_name, liqe = _BY_FILE[key]
        folder = "dst_imgs_all" if together else f"dst_imgs/{key}"
        samples.append(
            Sample(
                image=release.path(f"{folder}/{name}.{in_name}.{level}.png"),
                reference=release.path(f"src_imgs/{name}.png"),
                mos=rescale(dmos, _RANGE, where),
                mos_std=spread,
                distortion=in_name,
                level=level,
                liqe_class=liqe,
            )
        )
    return samples


_Row = tuple[str, str, int, float, float | None, str]


def _workbook_rows(path: Path) -> Iterator[_Row]:
    columns = ("image", "dst_type", "dst_lev", "dmos_std", "dmos")
    for line, cells in read_xlsx(path, columns, "all_by_image"):
        where = f"{path}, row {line}"
        # The image called 1600 is a number there, and "jpeg 2000" is written with a space.
        kind = str(cells["dst_type"]).replace(" ", "").casefold()
        in_name = _TYPES[kind][0] if kind in _TYPES else str(cells["dst_type"])
        level, dmos, spread = (number(cells[name], where) for name in ("dst_lev", "dmos", "dmos_std"))
        yield str(cells["image"]).removesuffix(".0"), in_name, int(level), dmos, spread, where


def _text_rows(path: Path) -> Iterator[_Row]:
    for line, text in read_lines(path):
        where = f"{path}, line {line}"
        name, _, score = text.rpartition(" ")
        parts = name.strip().split(".")
        if len(parts) != 4 or not parts[2].isdecimal():
            raise DataError(f"{where}: {text!r} is not NAME.TYPE.LEVEL.png and a score; is this the original?")
        yield parts[0], parts[1], int(parts[2]), number(score, where), None, where


SPEC = DatasetSpec(
    name="csiq",
    title="CSIQ",
    mode="fr",
    images=866,
    references=30,
    score_name="DMOS",
    score_range=_RANGE,
    spread="dmos_std of the workbook; the text file has none",
    paper="Larson and Chandler, Most apparent distortion: full-reference image quality assessment and the role of "
    "strategy, Journal of Electronic Imaging 19(1), 2010",
    url="https://s2.smu.edu/~eclarson/csiq.html",
    layout=(
        "src_imgs/NAME.png",
        "dst_imgs/{awgn,blur,contrast,fnoise,jpeg,jpeg2000}/NAME.TYPE.LEVEL.png, or all of them in dst_imgs_all/",
        "csiq.DMOS.xlsx or csiq.beta.xlsx (needs the extra [datasets]), else csiq_label.txt",
    ),
    traps=("DMOS falls with quality",),
    labels="scenes by LIQE's authors, in the package; labels.tsv in the root takes their place",
    reader=read,
)
