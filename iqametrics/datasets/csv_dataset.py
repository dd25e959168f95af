"""Any dataset as a CSV file: one row an image, with its score."""

import contextlib
import csv
import io
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from iqametrics.common.files import read_text
from iqametrics.datasets.sample import Sample
from iqametrics.errors import DataError

_REQUIRED = ("image", "mos")
_OPTIONAL = ("reference", "kind", "level", "distortion", "split", "group", "mos_std")
_NAMED_AT_MOST = 3
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
RANGE_OPTION = "mos_range=(1, 5)"
"""How the range of the scores is given in Python."""


def read_csv_dataset(
    path: str | Path,
    root: str | Path | None = None,
    *,
    mos_range: tuple[float, float] | None = None,
    range_option: str = RANGE_OPTION,
) -> list[Sample]:
    """Read a CSV with `image,mos` and, if wanted, `reference,kind,level,distortion,split,group,mos_std`.

    Other columns are ignored, as are empty lines. The file is UTF-8, with or without a byte-order mark; names that hold
    commas are quoted.

    Args:
        path: The CSV.
        root: Folder that relative file names start from; the CSV's own folder if None.
        mos_range: (worst, best) of the scores, mapped onto (0, 1); (100, 0) turns a DMOS around. None takes the scores
            as they are, which must lie in [0, 1].
        range_option: How the caller was given the range, for the message that a score lies outside [0, 1].

    Returns:
        Samples in the order of the file.

    Raises:
        DataError: If there is no such file, it is no CSV in UTF-8, lacks a column, has a score that is no finite number
            or out of range, or an image twice, or files do not exist; with the line number where there is one.
    """
    low, high = _checked_range(mos_range)
    rows = _scored_rows(Path(path), mos_range)
    outside = next((row for row in rows if not min(low, high) <= row.score <= max(low, high)), None)
    if outside is not None:
        remedy = "check the score or the range" if mos_range else f"say what the scale is, e.g. {range_option}"
        raise DataError(
            f"{outside.where}: mos {outside.score:g} is outside [{min(low, high):g}, {max(low, high):g}]; {remedy}"
        )
    base = Path(root) if root is not None else Path(path).parent
    samples = _samples(rows, base, low, high)
    _check_files(samples, Path(path), base, allowed=0)
    return samples


def read_csv_opinions(path: str | Path, root: str | Path | None = None) -> tuple[list[Sample], tuple[float, float]]:
    """Read a CSV whose scores are on a scale that nobody stated, for figures that need none.

    Files that do not exist are left to whoever reads them, unless all of them are missing.

    Args:
        path: The CSV, see `read_csv_dataset`.
        root: Folder that relative file names start from; the CSV's own folder if None.

    Returns:
        Samples in the order of the file, and what 0 and 1 are on the scale of the file: its least and greatest score.

    Raises:
        DataError: If it cannot be read, as for `read_csv_dataset`.
    """
    rows = _scored_rows(Path(path), None)
    low, high = min(row.score for row in rows), max(row.score for row in rows)
    span = (low - 1, low + 1) if low == high else (low, high)
    base = Path(root) if root is not None else Path(path).parent
    samples = _samples(rows, base, *span)
    _check_files(samples, Path(path), base, allowed=len(samples) - 1)
    return samples, span


def image_names(path: Path) -> list[str]:
    """Return the names in a CSV's column `image`, as far as the file can be read."""
    names: list[str] = []
    with contextlib.suppress(DataError):  # told by whoever reads the scores
        names.extend(row["image"] for _, row in _rows(path))
    return names


@dataclass(frozen=True)
class _Row:
    """A row whose score is a finite number; `where` names file and line."""

    line: int
    where: str
    cells: dict[str, str]
    score: float


def _scored_rows(path: Path, mos_range: tuple[float, float] | None) -> list[_Row]:
    """Read all rows, every score a number: one that is none says more than the scale that the others are on."""
    allowed = "a plain number such as 3.5"
    if mos_range is not None:
        allowed = "a plain number from {:g} (worst) to {:g} (best)".format(*mos_range)
    rows = []
    for line, cells in _rows(path):
        where = f"{path}, line {line}"
        if not cells["image"]:
            raise DataError(f"{where}: the image's name is empty; fill it in or remove the row")
        rows.append(_Row(line, where, cells, _number(cells["mos"], "mos", where, allowed)))
    if not rows:
        raise DataError(f"{path}: no rows below the header; add at least one image")
    return rows


def _samples(rows: list[_Row], base: Path, low: float, high: float) -> list[Sample]:
    samples: list[Sample] = []
    seen: dict[tuple[Path, Path | None], int] = {}
    for row in rows:
        sample = _sample(row, base, low, high)
        first = seen.setdefault((sample.image, sample.reference), row.line)
        if first != row.line:
            raise DataError(f"{row.where}: {row.cells['image']} already stands in line {first}; keep one of them")
        samples.append(sample)
    return samples


def _checked_range(mos_range: tuple[float, float] | None) -> tuple[float, float]:
    if mos_range is None:
        return 0.0, 1.0
    low, high = (float(value) for value in mos_range)
    if not (math.isfinite(low) and math.isfinite(high)) or low == high:
        raise DataError(f"mos_range {mos_range}: give two different numbers, the worst score and the best")
    return low, high


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number (of the row's last line) and stripped cells of each row, after checking the header."""
    text = read_text(path, error=DataError)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in _REQUIRED if name not in header]
        if missing:
            _check_separator(path, ",".join(header))
            raise DataError(f"{path}, line 1: no column {' or '.join(missing)} among {header}; name it in the header")
        repeated = sorted({n for n in header if n in _REQUIRED + _OPTIONAL and header.count(n) > 1})
        if repeated:
            raise DataError(f"{path}, line 1: column {repeated[0]} stands there twice; keep one of them")
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) < len(header):
                raise DataError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells where the header has {len(header)}; "
                    "fill the row up with commas"
                )
            if any(cell.strip() for cell in cells[len(header) :]):
                raise DataError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells where the header has {len(header)} "
                    f"({cells[len(header) - 1]!r}, {cells[len(header)]!r}); a number takes a point and no comma, and "
                    "a name that holds one stands in quotes"
                )
            yield reader.line_num, {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not a CSV row ({error}); check the quotes") from error


def _check_separator(path: Path, header: str) -> None:
    """Tell where a spreadsheet has separated the columns by something else than commas."""
    for sign, name in _OTHER_SEPARATORS.items():
        if set(_REQUIRED) <= {cell.strip() for cell in header.split(sign)}:
            raise DataError(
                f"{path}, line 1: the columns are separated by {name}; save the file with commas between the columns, "
                "and with points in the numbers"
            )


def _sample(row: _Row, base: Path, low: float, high: float) -> Sample:
    cells, where = row.cells, row.where
    return Sample(
        image=base / cells["image"],
        reference=base / cells["reference"] if cells.get("reference") else None,
        mos=(row.score - low) / (high - low),
        distortion=cells.get("distortion") or None,
        level=_integer(cells.get("level", ""), "level", where),
        group=cells.get("group") or None,
        kind=_integer(cells.get("kind", ""), "kind", where),
        split=cells.get("split") or None,
        mos_std=_spread(cells.get("mos_std", ""), abs(high - low), where),
    )


def _spread(cell: str, span: float, where: str) -> float | None:
    """Standard deviation of the opinions, brought to the scale of the scores."""
    if not cell:
        return None
    value = _number(cell, "mos_std", where, "a plain number such as 0.8")
    if value < 0:
        raise DataError(f"{where}: mos_std {value:g} is below 0; correct it or leave it empty")
    return value / span


def _number(cell: str, column: str, where: str, allowed: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(
            f"{where}: {column} {cell!r} is not a number; write {allowed}, without unit or comma, or remove the row"
        )
    return value


def _integer(cell: str, column: str, where: str) -> int | None:
    if not cell:
        return None
    value = _number(cell, column, where, "a whole number")
    if value != int(value):
        raise DataError(f"{where}: {column} {cell!r} is not a whole number; correct it")
    return int(value)


def _check_files(samples: list[Sample], path: Path, base: Path, *, allowed: int) -> None:
    """Refuse more missing images than are allowed.

    The first few missing files are named at once: a wrong root is seen at a glance.
    """
    wanted = dict.fromkeys(file for s in samples for file in (s.image, s.reference) if file is not None)
    missing = {file: str(file) for file in wanted if not os.path.isfile(file)}
    windows = next((file for file in missing if "\\" in _below(file, base) and os.sep == "/"), None)
    if windows is not None:
        name = _below(windows, base)
        slashes = name.replace("\\", "/")
        raise DataError(
            f"{path}: {name} is written with backslashes, which separate folders on Windows only; write {slashes}"
        )
    if sum(s.image in missing or s.reference in missing for s in samples) > allowed:
        named = ", ".join([*missing.values()][:_NAMED_AT_MOST]) + (", ..." if len(missing) > _NAMED_AT_MOST else "")
        raise DataError(
            f"{path}: {len(missing)} of {len(wanted)} files do not exist ({named}); names are relative to {base}, "
            "give another root"
        )


def _below(file: Path, base: Path) -> str:
    return str(file.relative_to(base) if file.is_relative_to(base) else file)
