"""The tables of the methods' papers, as printed, with all compared methods; no torch.

Each method declares its paper's tables. The numbers of a table are in a CSV file, one cell a line.
Comment lines at its top say which headers were corrected after text recognition, and which numbers are kept as printed
although they look like slips of the paper.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from iqametrics.common.suggest import did_you_mean
from iqametrics.errors import DataError
from iqametrics.methods import paper_tables, table_rows
from iqametrics.spec import Mode, PaperTable, Protocol, Shares, TableRow

AVERAGE = "average"
"""In place of a dataset: a column over all datasets of a table."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One printed number.

    Attributes:
        row: Method, or variant of an ablation, without the paper's citation mark.
        train: Dataset that the method was trained on; "" where it is the one that it is tested on.
        dataset: Dataset that it was tested on, by this package's name, or "average".
        statistic: "plcc", "srcc"; for an average "mean" or "std"; for the cost "flops", "parameters".
        value: The number; None where the paper prints "-" or its numbers are lost.
        std: Printed standard deviation over the splits, if any.
        note: Remark on the number.
    """

    row: str
    train: str
    dataset: str
    statistic: str
    value: float | None
    std: float | None
    note: str

    @property
    def place(self) -> str:
        """Name of the dataset; "kadid10k->live" for trained on the first and tested on the second."""
        return f"{self.train}->{self.dataset}" if self.train else self.dataset

    def to_dict(self) -> dict[str, Any]:
        """Return the cell as `benchmark show --format json` prints it; its `dataset` is `place`."""
        return {
            "row": self.row,
            "dataset": self.place,
            "statistic": self.statistic,
            "value": self.value,
            "std": self.std,
        }


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of a paper.

    Attributes:
        id: Its name on the command line.
        title: What it compares.
        paper: Title, venue and year.
        protocol: Shares of the training, validation and test parts; the dataset's own split; or across datasets.
        shares: How a dataset with ("fr") and without ("nr") references is split, where its own split is not used.
        mode: Kind of its compared methods, since some names mean a method of either kind.
        is_cost: Whether it is about cost, which needs no training.
        cells: Its numbers, row by row.
        comments: What was corrected, or looks like a slip of the paper.
    """

    id: str
    title: str
    paper: str
    protocol: Protocol
    shares: Mapping[Mode, Shares]
    mode: Mode
    is_cost: bool
    cells: tuple[Cell, ...]
    comments: tuple[str, ...]

    @property
    def rows(self) -> list[str]:
        """Names of the rows, in the paper's order."""
        return list(dict.fromkeys(cell.row for cell in self.cells))

    @property
    def datasets(self) -> list[str]:
        """Datasets that the table is trained or tested on, in the paper's order."""
        names = (name for cell in self.cells for name in (cell.train, cell.dataset))
        return [name for name in dict.fromkeys(names) if name not in ("", AVERAGE)]

    @property
    def columns(self) -> list[str]:
        """Columns as "place statistic", in the paper's order."""
        return list(dict.fromkeys(f"{cell.place} {cell.statistic}" for cell in self.cells))

    def summary(self) -> dict[str, Any]:
        """Return the table as `benchmark list --format json` prints it."""
        return {
            "id": self.id,
            "title": self.title,
            "paper": self.paper,
            "datasets": self.datasets,
            "rows": self.rows,
            "columns": self.columns,
        }


def list_tables() -> list[str]:
    """List the ids of the tables, in the papers' order."""
    return list(paper_tables())


def paper_table(table_id: str) -> Table:
    """Return a table of a paper, with the rows that other methods add to it.

    Raises:
        DataError: If there is no such table, or its file cannot be read.

    >>> table = paper_table("pfd-table5")
    >>> table.rows, table.datasets
    (['1', '3', '5', '10'], ['live', 'clive'])
    """
    known = paper_tables()
    if table_id not in known:
        hint = did_you_mean(table_id, known, end=" ")
        raise DataError(f"no table {table_id!r}; {hint}known are {', '.join(known)}")
    table = _read(known[table_id])
    added = [cell for row in table_rows(table_id).values() if row.row not in table.rows for cell in _blank(table, row)]
    return replace(table, cells=(*table.cells, *added))


def dataset_mode(name: str) -> Mode:
    """Tell whether the images of a dataset have references ("fr") or not ("nr")."""
    from iqametrics.datasets.catalogue import dataset_spec

    return dataset_spec(name).mode


@lru_cache(maxsize=64)
def _read_file(path: Path) -> tuple[tuple[Cell, ...], tuple[str, ...]]:
    """Read the cells and the comments of a table's file.

    Raises:
        DataError: If the file cannot be read, or is not a table.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        records = csv.DictReader(line for line in lines if not line.startswith("#"))
        cells = tuple(_cell(record) for record in records)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is not a readable table ({error}); see iqametrics.spec.PaperTable") from error
    return cells, tuple(line.removeprefix("#").strip() for line in lines if line.startswith("#"))


def _read(table: PaperTable) -> Table:
    cells, comments = _read_file(table.file)
    return Table(
        id=table.id,
        title=table.title,
        paper=table.paper,
        protocol=table.protocol,
        shares=table.shares,
        mode=table.mode,
        is_cost=table.is_cost,
        cells=cells,
        comments=comments,
    )


def _blank(table: Table, row: TableRow) -> Iterator[Cell]:
    """Yield the empty cells of a row that the paper does not have, for the datasets that its metrics can score."""
    places = {(cell.train, cell.dataset, cell.statistic): None for cell in table.cells}
    for train, dataset, statistic in places:
        if dataset != AVERAGE and dataset_mode(train or dataset) in row.metrics:
            yield Cell(row=row.row, train=train, dataset=dataset, statistic=statistic, value=None, std=None, note="")


def choose(wanted: Sequence[str], known: Sequence[str], what: str) -> list[str]:
    """Return the wanted names in the order of the known ones; all of them where none is wanted.

    Raises:
        DataError: If a name is not known.
    """
    for name in wanted:
        if name not in known:
            hint = did_you_mean(name, known, end=" ")
            raise DataError(f"no {what} {name!r} here; {hint}known are {', '.join(known)}")
    return [name for name in known if not wanted or name in wanted]


def _cell(record: dict[str, str]) -> Cell:
    return Cell(
        row=record["row"],
        train=record["train"],
        dataset=record["dataset"],
        statistic=record["statistic"],
        value=_number(record["value"]),
        std=_number(record["std"]),
        note=record["note"],
    )


def _number(text: str) -> float | None:
    return float(text) if text else None
