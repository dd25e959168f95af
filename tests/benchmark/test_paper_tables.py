"""The typed numbers against the papers' text, cell by cell and both ways; skipped where that text is not at hand."""

import os
import re
from pathlib import Path

import pytest
from places import ROOT

from iqametrics.benchmark.tables import AVERAGE, list_tables, paper_table

FOLDER = Path(os.environ.get("IQAMETRICS_PAPERS") or ROOT.parent / "shared/papers")

pytestmark = pytest.mark.skipif(
    not (FOLDER / "bpclip.md").is_file(),
    reason="the papers' text is not at hand; name its folder in IQAMETRICS_PAPERS",
)

BOTH = ("plcc", "srcc")


def both(*datasets, train=""):
    return [(f"{train}->{name}" if train else name, statistic) for name in datasets for statistic in BOTH]


# Paper, first cell of the first and last row, number of leading cells that are no numbers, columns.
TABLES = {
    "bpclip-table2": ("bpclip", "PSNR", "std", 1, both("live", "csiq", "tid2013", "kadid10k")),
    "bpclip-table3": ("bpclip", "PieAPP [20]", "BPCLIP", 1, both("live", "csiq", "tid2013", train="kadid10k")),
    "bpclip-table4": ("bpclip", "DIIVINE [33]", "std", 1, both("clive", "koniq10k", "spaq")),
    "pfd-table1": (
        "pfd-iqa",
        "DIIVINE [Saad <i>et al.</i> , 2012]",
        "PFD-IQA (ours)",
        1,
        both("live", "csiq", "tid2013", "kadid10k", "clive", "koniq10k", "flive", "spaq"),
    ),
    "pfd-table2": (
        "pfd-iqa",
        "DBCNN",
        "PFD-IQA",
        1,
        [
            (place, "srcc")
            for place in (
                *("flive->koniq10k", "flive->clive", "clive->koniq10k"),
                *("koniq10k->clive", "live->csiq", "csiq->live"),
            )
        ],
    ),
    "pfd-table3": (
        "pfd-iqa",
        "<i>a)</i>",
        "<i>d)</i>",
        3,
        [*both("live", "csiq", "tid2013", "kadid10k", "clive"), (AVERAGE, "mean")],
    ),
    "pfd-table4": ("pfd-iqa", "<i>a)</i>", "<i>d)</i>", 3, [*both("clive", "koniq10k"), (AVERAGE, "std")]),
    "pfd-table5": ("pfd-iqa", "1", "10", 1, [*both("live", "clive"), (AVERAGE, "mean")]),
}
FIRST_VALUE = {  # tells tables apart whose rows begin alike
    "bpclip-table3": "0.908",
    "bpclip-table4": "0.591",
    "pfd-table2": "0.716",
    "pfd-table3": "0.966",
    "pfd-table4": "0.881",
}


def lines(paper):
    return (FOLDER / f"{paper}.md").read_text(encoding="utf-8").splitlines()


def printed(table_id):
    """Values of each row of a printed table, and the line of spreads if there is one."""
    paper, first, last, leading, _ = TABLES[table_id]
    found, spreads = {}, None
    begun = False
    for line in lines(paper):
        cells = line.split("\t")
        begun = begun or (cells[0] == first and cells[leading] == FIRST_VALUE.get(table_id, cells[leading]))
        if not begun:
            continue
        values = [value(cell) for cell in cells[leading:] if cell.strip()]
        if cells[0] == "std":
            spreads = values
        else:
            found[name(cells[0])] = values
        if cells[0] == last:
            return found, spreads
    raise AssertionError(f"{table_id} is not in {paper}.md")


def name(cell):
    text = re.sub(r"</?\w+>", "", cell)
    return re.sub(r"\s*(\[.*?\]|\(ours\)|\))", "", text).strip()


def value(cell):
    """The number of a cell, without emphasis, sign of spread and gain over another row."""
    text = re.sub(r"<sub>.*?</sub>|</?\w+>|\$|\\pm|±", "", cell).strip()
    return None if text == "-" else float(text)


@pytest.mark.parametrize("table_id", TABLES)
def test_every_number_is_the_printed_one(table_id):
    rows, spreads = printed(table_id)
    table = paper_table(table_id)
    columns = TABLES[table_id][-1]
    assert table.rows == list(rows)
    assert table.columns == [" ".join(column) for column in columns]
    expected = {
        (row, *column): number for row, numbers in rows.items() for column, number in zip(columns, numbers, strict=True)
    }
    assert {(cell.row, cell.place, cell.statistic): cell.value for cell in table.cells} == expected
    assert len(table.cells) == len(expected)
    for cell in table.cells:
        last = spreads is not None and cell.row == list(rows)[-1]
        assert cell.std == (spreads[columns.index((cell.place, cell.statistic))] if last else None)


def test_the_table_with_methods_as_columns():
    names, plcc, srcc = (
        next(line.split("\t")[1:] for line in lines("bpclip") if line.startswith(start))
        for start in ("Method\tDIIVINE", "PLCC\t", "SRCC\t")
    )
    expected = {(name(n), s): float(v) for s, row in (("plcc", plcc), ("srcc", srcc)) for n, v in zip(names, row)}  # noqa: B905
    table = paper_table("bpclip-table5")
    assert {(cell.row, cell.statistic): cell.value for cell in table.cells} == expected
    assert {cell.place for cell in table.cells} == {"koniq10k"}


def test_gains_of_the_ablation_are_kept_in_the_notes():
    line = next(line for line in lines("pfd-iqa") if line.startswith("<i>d)</i>"))
    gains = re.findall(r"<sub>(.*?)</sub>", line)
    notes = [cell.note for cell in paper_table("pfd-table3").cells if cell.row == "d"]
    assert len(gains) == len(notes) == 11
    assert all(f"printed with {gain}" in note for gain, note in zip(gains, notes, strict=True))


def test_no_table_is_left_out():
    """The two without a check have no numbers in the text."""
    assert set(list_tables()) - set(TABLES) == {"bpclip-table5", "bpclip-table6", "bpclip-fig5"}
    captions = {match[1] for line in lines("bpclip") if (match := re.match(r"TABLE ([IV]+):", line))}
    assert captions == {"I", "II", "III", "IV", "V", "VI"}  # I is about the datasets
    assert sum(bool(re.match(r"Table \d:", line)) for line in lines("pfd-iqa")) == 5
