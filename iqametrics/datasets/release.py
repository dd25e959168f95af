"""A dataset's folder as users have it: files found without regard to case, score files read with line numbers.

This is what every dataset needs: `DatasetSpec`, its constants; `Release`, its folder; and readers for the three formats
of score files. SciPy and openpyxl are imported when a file needs them.
"""

import contextlib
import csv
import io
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from iqametrics.datasets.sample import Sample
from iqametrics.errors import DataError, MissingExtraError

_FOLDERS_LOOKED_INTO = 200
"""Largest number of subfolders of a wrong root that are searched for the right one."""


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """Constants of a dataset.

    Attributes:
        name: Short name, as on the command line.
        title: Name in the literature.
        mode: "fr" if each image has a pristine reference, else "nr".
        images: Number of scored images in the release.
        references: Number of references in the release, or None.
        score_name: The authors' name of a score: "MOS", "DMOS", "MOS z-score".
        score_range: The (worst, best) possible score, mapped onto (0, 1).
        score_variants: Other scores in the release by name, with their range; see `load_dataset(..., scores=NAME)`.
        spread: Meaning of `Sample.mos_std` in this dataset, or None if the release gives no spread.
        official_parts: Number of images in each part of the official split, or None.
        paper: Authors, title, venue and year.
        url: Where the dataset is distributed.
        layout: Accepted files and folders, one line each.
        traps: Common mistakes with this dataset, one line each.
        labels: Where distortion and scenes of each image are named, or None if they are not.
        reader: Function of a `Release` and the name of the scores that returns the samples, in the score file's order.
    """

    name: str
    title: str
    mode: Literal["fr", "nr"]
    images: int
    references: int | None = None
    score_name: str
    score_range: tuple[float, float]
    score_variants: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    spread: str | None = None
    official_parts: Mapping[str, int] | None = None
    paper: str
    url: str
    layout: tuple[str, ...]
    traps: tuple[str, ...] = ()
    labels: str | None = None
    reader: Callable[["Release", str], list[Sample]]

    @property
    def has_spread(self) -> bool:
        """Whether the samples have a `mos_std`."""
        return self.spread is not None

    def to_dict(self) -> dict[str, Any]:
        """Return all fields but the reader, ready for JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "mode": self.mode,
            "images": self.images,
            "references": self.references,
            "score_name": self.score_name,
            "score_range": list(self.score_range),
            "score_variants": {name: list(ends) for name, ends in self.score_variants.items()},
            "spread": self.spread,
            "official_parts": dict(self.official_parts) if self.official_parts else None,
            "paper": self.paper,
            "url": self.url,
            "layout": list(self.layout),
            "traps": list(self.traps),
            "labels": self.labels,
        }


class Release:
    """Root folder of a dataset, in which names are found without regard to case, exact ones first.

    Args:
        root: The folder.

    Raises:
        DataError: If it is no folder.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            problem = "is a file, not the dataset's folder" if self.root.exists() else "does not exist"
            raise DataError(f"{self.root}: {problem}; give the dataset's root folder")
        self._listings: dict[Path, dict[str, str]] = {}

    def find(self, relative: str) -> Path | None:
        """Return the file or folder of this relative name (with "/"), or None if there is none."""
        here = self.root
        for part in relative.split("/"):
            found = self._listing(here).get(part) or self._listing(here).get(part.casefold())
            if found is None:
                return None
            here = here / found
        return here

    def path(self, relative: str) -> Path:
        """Return the file of this relative name or, if it is missing, the path at which it was expected."""
        return self.find(relative) or self.root / relative

    def first(self, *relative: str) -> str:
        """Return the first of these names that exists, or the very first if none does."""
        return next((name for name in relative if self.find(name) is not None), relative[0])

    def require(self, *relative: str) -> Path:
        """Return the first of these files that exists.

        Raises:
            DataError: If none does; the message names them, and a folder above or below that has one.
        """
        for name in relative:
            path = self.find(name)
            if path is not None and path.is_file():
                return path
        hint = self._hint(relative)
        raise DataError(f"{self.root}: holds no {' or '.join(relative)}; {hint}")

    def _hint(self, relative: Sequence[str]) -> str:
        """Search the folders one level below and the one above for the right root, and return advice."""
        try:
            below = sorted(entry for entry in self.root.iterdir() if entry.is_dir())[:_FOLDERS_LOOKED_INTO]
        except OSError:
            below = []
        for folder in [*below, self.root.resolve().parent]:
            with contextlib.suppress(DataError):  # skip a folder that cannot be listed
                other = Release(folder)
                if any(other.find(name) is not None for name in relative):
                    return f"{folder} does, give that as the root"
        return "give the dataset's root folder"

    def _listing(self, folder: Path) -> dict[str, str]:
        """Return the names in a folder, each by itself and by its lower case."""
        if folder not in self._listings:
            try:
                names = sorted(entry.name for entry in os.scandir(folder))
            except NotADirectoryError:
                names = []
            except OSError as error:
                raise DataError(f"{folder}: cannot be listed ({error.strerror}); check its rights") from error
            self._listings[folder] = {name.casefold(): name for name in names} | {name: name for name in names}
        return self._listings[folder]


def rescale(score: float, ends: tuple[float, float], where: str) -> float:
    """Map a score from (worst, best) onto (0, 1).

    Raises:
        DataError: If it is outside that range, as with another scale or a damaged file.

    >>> rescale(25.0, (100.0, 0.0), "dmos.csv")
    0.75
    """
    worst, best = ends
    mos = (score - worst) / (best - worst)
    if not 0 <= mos <= 1:
        low, high = sorted(ends)
        raise DataError(f"{where}: score {score:g} is outside [{low:g}, {high:g}]; is this the original score file?")
    return mos + 0.0  # no negative zero


def number(value: object, where: str) -> float:
    """Read a finite number from a cell.

    Raises:
        DataError: If it is none.
    """
    try:
        result = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise DataError(f"{where}: {value!r} is not a number; is this the original score file?") from None
    if not math.isfinite(result):
        raise DataError(f"{where}: {value!r} is not a finite number; is this the original score file?")
    return result


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Read a text file; return line number and stripped text of each line that is not empty.

    Raises:
        DataError: If it cannot be read or is not UTF-8.
    """
    return [(line, text.strip()) for line, text in enumerate(_text(path).splitlines(), start=1) if text.strip()]


def read_csv(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Read a CSV; return line number and stripped cells, by lower-case column name, of each row that is not empty.

    Args:
        path: The file, in UTF-8, with or without a byte-order mark, with any line ends.
        columns: Names in lower case that the header must have, among others.

    Raises:
        DataError: If the file cannot be read, lacks a column, or a row lacks cells.
    """
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    rows = []
    try:
        header = [name.strip().casefold() for name in next(reader, [])]
        missing = [name for name in columns if name not in header]
        if missing:
            raise DataError(f"{path}, line 1: no column {' or '.join(missing)} among {header}; is this the original?")
        needed = 1 + max(header.index(name) for name in columns)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) < needed:
                raise DataError(f"{path}, line {reader.line_num}: only {len(cells)} cells; is the file complete?")
            rows.append((reader.line_num, {n: c.strip() for n, c in zip(header, cells, strict=False) if n}))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not a CSV row ({error}); is the file complete?") from error
    return rows


def read_mat(path: Path, *names: str) -> list[Any]:
    """Read variables of a MATLAB file as one-dimensional arrays.

    Raises:
        DataError: If the file cannot be read or lacks a variable.
    """
    from scipy.io import loadmat

    try:
        content = loadmat(path, variable_names=names)
        found = [content[name].ravel() for name in names if name in content]
    except Exception as error:  # on a damaged file SciPy may raise anything
        raise DataError(f"{path}: not a readable MATLAB file ({_short(error)}); download it again") from error
    if len(found) < len(names):
        missing = [name for name in names if name not in content]
        raise DataError(f"{path}: no variable {' or '.join(missing)}; is this the original score file?")
    return found


def cell_text(cell: Any) -> str:
    """Return the text in a cell of a MATLAB cell array, however deeply it is wrapped."""
    while not isinstance(cell, str):
        if getattr(cell, "size", 0) != 1:
            raise DataError(f"a cell of the score file holds no single text but {cell!r}; is this the original?")
        cell = cell.ravel()[0]
    return str(cell)


def read_xlsx(path: Path, columns: Sequence[str], sheet: str | None = None) -> list[tuple[int, dict[str, Any]]]:
    """Read a sheet; return row number and cells, by lower-case column name, of each row whose first column is filled.

    The header is the first row that has all of the columns, wherever in the sheet it begins.

    Args:
        path: The workbook.
        columns: Names in lower case that the header must have.
        sheet: Name of the sheet; None for the first.

    Raises:
        DataError: If the file cannot be read, or has no such sheet or header.
        MissingExtraError: If openpyxl is not installed.
    """
    return _below_header(path, read_sheet(path, sheet), columns)


def read_sheet(path: Path, sheet: str | None = None) -> list[tuple[Any, ...]]:
    """Read the cells of a sheet, row by row.

    Args:
        path: The workbook.
        sheet: Name of the sheet; None for the first.

    Raises:
        DataError: If the file cannot be read, or has no such sheet.
        MissingExtraError: If openpyxl is not installed.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise MissingExtraError(
            f'{path}: reading .xlsx needs openpyxl; install it with: pip install "iqametrics[datasets]"'
        ) from error
    try:
        # openpyxl warns of styles and the like; no score depends on them.
        with warnings.catch_warnings(), path.open("rb") as stream:
            warnings.simplefilter("ignore")
            book = openpyxl.load_workbook(stream, read_only=True, data_only=True)
            names = book.sheetnames
            wanted = names[0] if sheet is None else sheet
            if wanted in names:
                # Some programs write a wrong extent; nothing beyond it would be read.
                book[wanted].reset_dimensions()
                table = list(book[wanted].iter_rows(values_only=True))
            book.close()
    except Exception as error:  # on a damaged file openpyxl may raise anything
        raise DataError(f"{path}: not a readable .xlsx file ({_short(error)}); download it again") from error
    if wanted not in names:
        raise DataError(f"{path}: no sheet {sheet} among {names}; is this the original score file?")
    return table


def _below_header(path: Path, table: list[Any], columns: Sequence[str]) -> list[tuple[int, dict[str, Any]]]:
    for top, cells in enumerate(table, start=1):
        header = [str(cell).strip().casefold() if cell is not None else "" for cell in cells]
        if set(columns) <= set(header):
            below = list(enumerate(table[top:], start=top + 1))
            break
    else:
        raise DataError(f"{path}: no row has the columns {', '.join(columns)}; is this the original score file?")
    positions = {name: header.index(name) for name in columns}
    rows = []
    for line, cells in below:
        found = {name: cells[at] if at < len(cells) else None for name, at in positions.items()}
        if found[columns[0]] is not None:
            rows.append((line, found))
    return rows


def _text(path: Path) -> str:
    try:
        # newline="": a line end within quotes belongs to the cell.
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return stream.read()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); is this the original score file?") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its rights") from error


def _short(error: Exception) -> str:
    """Return the first line of another library's error, shortened."""
    return (str(error).splitlines() or [""])[0][:120] or type(error).__name__
