"""Every table of both papers, as printed, with all compared methods; no torch.

The numbers stand in `paper/ID.csv`, one cell a line, typed once. Comment lines on top of a file say which headers
slipped in text recognition and were set right, and which numbers are kept as printed though they look like slips.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from iqametrics.common.suggest import did_you_mean
from iqametrics.errors import DataError

PAPER_FOLDER = Path(__file__).parent / "paper"
AVERAGE = "average"
"""In place of a dataset: a column over all datasets of a table."""

Protocol = Literal["6:2:2", "8:2", "official", "cross"]

_PAPERS = {
    "bpclip": "BPCLIP: A Bottom-up Image Quality Assessment from Distortion to Semantics Based on CLIP, ICME 2025",
    "pfd": "Feature Denoising Diffusion Model for Blind Image Quality Assessment, AAAI 2025",
}
_TITLES: dict[str, tuple[str, Protocol]] = {
    "bpclip-table2": ("Full-reference benchmarks", "6:2:2"),
    "bpclip-table3": ("Full reference, trained on KADID-10k and tested on other datasets", "cross"),
    "bpclip-table4": ("No-reference benchmarks", "8:2"),
    "bpclip-table5": ("KonIQ-10k, official split", "official"),
    "bpclip-table6": ("Ablation of BPCLIP; its numbers are lost", "6:2:2"),
    "bpclip-fig5": ("Cost against PLCC on CSIQ; its numbers are only in the picture", "6:2:2"),
    "pfd-table1": ("No-reference benchmarks, synthetic and authentic", "8:2"),
    "pfd-table2": ("No reference, trained on one dataset and tested on another", "cross"),
    "pfd-table3": ("Ablation of PDA and PDR", "8:2"),
    "pfd-table4": ("Ablation of ANA and PPA", "8:2"),
    "pfd-table5": ("Number of sampling steps", "8:2"),
}


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
        id: e.g. "bpclip-table2".
        title: what it compares.
        paper: title, venue and year.
        protocol: shares of training, validation and test part, the dataset's own split, or another dataset.
        cells: its numbers, row by row.
        comments: what was set right or looks like a slip of the paper.
    """

    id: str
    title: str
    paper: str
    protocol: Protocol
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
    return list(_TITLES)


@lru_cache(maxsize=32)
def paper_table(table_id: str) -> Table:
    """Give a table of a paper.

    Raises:
        DataError: there is no such table.

    >>> table = paper_table("pfd-table5")
    >>> table.rows, table.datasets
    (['1', '3', '5', '10'], ['live', 'clive'])
    """
    if table_id not in _TITLES:
        hint = did_you_mean(table_id, _TITLES, end=" ")
        raise DataError(f"no table {table_id!r}; {hint}known are {', '.join(_TITLES)}")
    title, protocol = _TITLES[table_id]
    lines = (PAPER_FOLDER / f"{table_id}.csv").read_text(encoding="utf-8").splitlines()
    return Table(
        id=table_id,
        title=title,
        paper=_PAPERS[table_id.partition("-")[0]],
        protocol=protocol,
        cells=tuple(_cell(record) for record in csv.DictReader(line for line in lines if not line.startswith("#"))),
        comments=tuple(line.removeprefix("#").strip() for line in lines if line.startswith("#")),
    )


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
