"""The tables of the methods' papers, as printed, with all compared methods; no torch.

Each method declares its paper's tables. The numbers of one stand in a CSV file, one cell a line, typed once. Comment
lines on top of a file say which headers slipped in text recognition and were set right, and which numbers are kept as
printed though they look like slips.
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
        row: method, or variant of an ablation, without the paper's citation mark.
        train: dataset that the method was trained on where it is not the one it is tested on, else "".
        dataset: dataset that it was tested on, by this package's name, or "average".
        statistic: "plcc", "srcc"; for an average "mean" or "std"; for the cost "flops", "parameters".
        value: the number; None where the paper prints "-" or its numbers are lost.
        std: printed standard deviation over the splits, if any.
        note: what is to be known of the number.
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
        """Return what `benchmark show --format json` gives; `dataset` is the place."""
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
        id: what the command line calls it.
        title: what it compares.
        paper: title, venue and year.
        protocol: shares of training, validation and test part, the dataset's own split, or another dataset.
        shares: how a dataset with ("fr") and without ("nr") references is split, where its own split is not used.
        mode: which kind its compared methods are: some names mean a method of either kind.
        is_cost: whether it is about cost, which is measured and not trained for.
        cells: its numbers, row by row.
        comments: what was set right or looks like a slip of the paper.
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
        """Return what `benchmark list --format json` gives."""
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
    """Give a table of a paper, with the rows that other methods add to it.

    Raises:
        DataError: there is no such table, or its file cannot be read.

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
    """Whether the images of a dataset have references ("fr") or not ("nr")."""
    from iqametrics.datasets.catalogue import dataset_spec

    return dataset_spec(name).mode


@lru_cache(maxsize=64)
def _read_file(path: Path) -> tuple[tuple[Cell, ...], tuple[str, ...]]:
    """Read the cells and the comments of a table's file.

    Raises:
        DataError: it cannot be read, or is not such a file.
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
    """Give the cells of a row that the paper does not have: those of the datasets that the row's metrics can do."""
    places = {(cell.train, cell.dataset, cell.statistic): None for cell in table.cells}
    for train, dataset, statistic in places:
        if dataset != AVERAGE and dataset_mode(train or dataset) in row.metrics:
            yield Cell(row=row.row, train=train, dataset=dataset, statistic=statistic, value=None, std=None, note="")


def choose(wanted: Sequence[str], known: Sequence[str], what: str) -> list[str]:
    """Give the wanted names, or all known ones where none is wanted, in the order of the known.

    Raises:
        DataError: a name that is not known.
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
