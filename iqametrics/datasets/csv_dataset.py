"""Any dataset as a CSV file: one row an image, with its score."""

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path

from iqametrics.datasets.sample import Sample
from iqametrics.errors import DataError

_REQUIRED = ("image", "mos")
_OPTIONAL = ("reference", "kind", "level", "distortion", "split", "group", "mos_std")
_NAMED_AT_MOST = 3


def read_csv_dataset(
    path: str | Path, root: str | Path | None = None, *, mos_range: tuple[float, float] | None = None
) -> list[Sample]:
    """Read a CSV with ``image,mos`` and, if wanted, ``reference,kind,level,distortion,split,group,mos_std``.

    Other columns are ignored, as are empty lines. The file is UTF-8, with or without a byte-order mark; names that hold
    commas are quoted.

    Args:
        path: the CSV.
        root: folder that relative file names start from; the CSV's own folder if None.
        mos_range: (worst, best) of the scores, mapped onto (0, 1); (100, 0) turns a DMOS around. None takes the scores
            as they are, which must lie in [0, 1].

    Returns:
        Samples in the order of the file.

    Raises:
        DataError: no such file, not a CSV in UTF-8, a missing column, a score that is no finite number or out of range,
            an image twice, files that do not exist; with the line number where there is one.
    """
    path = Path(path)
    base = Path(root) if root is not None else path.parent
    low, high = _checked_range(mos_range)
    samples: list[Sample] = []
    seen: dict[tuple[Path, Path | None], int] = {}
    for line, row in _rows(path):
        where = f"{path}, line {line}"
        sample = _sample(row, base, where, low, high, given=mos_range is not None)
        first = seen.setdefault((sample.image, sample.reference), line)
        if first != line:
            raise DataError(f"{where}: {row['image']} already stands in line {first}; keep one of them")
        samples.append(sample)
    if not samples:
        raise DataError(f"{path}: no rows below the header; add at least one image")
    _check_files(samples, path, base)
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
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8 CSV") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in _REQUIRED if name not in header]
        if missing:
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
            yield reader.line_num, {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not a CSV row ({error}); check the quotes") from error


def _sample(row: dict[str, str], base: Path, where: str, low: float, high: float, *, given: bool) -> Sample:
    if not row["image"]:
        raise DataError(f"{where}: the image's name is empty; fill it in or remove the row")
    score = _number(row["mos"], "mos", where)
    mos = (score - low) / (high - low)
    if not 0 <= mos <= 1:
        remedy = (
            "check the score or the range"
            if given
            else "say what the scale is with mos_range=(worst, best), e.g. mos_range=(1, 5), or --mos-range 1 5"
        )
        raise DataError(f"{where}: mos {score:g} is outside [{min(low, high):g}, {max(low, high):g}]; {remedy}")
    return Sample(
        image=base / row["image"],
        reference=base / row["reference"] if row.get("reference") else None,
        mos=mos,
        distortion=row.get("distortion") or None,
        level=_integer(row.get("level", ""), "level", where),
        group=row.get("group") or None,
        kind=_integer(row.get("kind", ""), "kind", where),
        split=row.get("split") or None,
        mos_std=_spread(row.get("mos_std", ""), abs(high - low), where),
    )


def _spread(cell: str, span: float, where: str) -> float | None:
    """Standard deviation of the opinions, brought to the scale of the scores."""
    if not cell:
        return None
    value = _number(cell, "mos_std", where)
    if value < 0:
        raise DataError(f"{where}: mos_std {value:g} is below 0; correct it or leave it empty")
    return value / span


def _number(cell: str, column: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        raise DataError(f"{where}: {column} {cell!r} is not a number; correct it or remove the row") from None
    if not math.isfinite(value):
        raise DataError(f"{where}: {column} is {value}; correct it or remove the row")
    return value


def _integer(cell: str, column: str, where: str) -> int | None:
    if not cell:
        return None
    value = _number(cell, column, where)
    if value != int(value):
        raise DataError(f"{where}: {column} {cell!r} is not a whole number; correct it")
    return int(value)


def _check_files(samples: list[Sample], path: Path, base: Path) -> None:
    """Name the first few of all missing files at once: a wrong root is seen at a glance."""
    wanted = dict.fromkeys(file for s in samples for file in (s.image, s.reference) if file is not None)
    missing = [str(file) for file in wanted if not file.is_file()]
    if missing:
        named = ", ".join(missing[:_NAMED_AT_MOST]) + (", ..." if len(missing) > _NAMED_AT_MOST else "")
        raise DataError(
            f"{path}: {len(missing)} of {len(wanted)} files do not exist ({named}); names are relative to {base}, "
            "give another root"
        )
