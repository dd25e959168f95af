"""The tables of PFD-IQA's paper, numbers in the CSV beside this file, and the rows that the method fills."""

from pathlib import Path

from iqametrics.spec import Mode, PaperTable, Protocol, TableRow

_PAPER = "Feature Denoising Diffusion Model for Blind Image Quality Assessment, AAAI 2025"
_METRICS: dict[Mode, str] = {"fr": "pfd-iqa", "nr": "pfd-iqa"}


def _table(name: str, title: str, protocol: Protocol) -> PaperTable:
    return PaperTable(id=name, title=title, paper=_PAPER, file=Path(__file__).parent / f"{name}.csv", protocol=protocol)


def _row(table: str, row: str, *changes: str) -> TableRow:
    return TableRow(table=table, row=row, metrics=_METRICS, changes=changes)


TABLES = (
    _table("pfd-table1", "No-reference benchmarks, synthetic and authentic", "8:2"),
    _table("pfd-table2", "No reference, trained on one dataset and tested on another", "cross"),
    _table("pfd-table3", "Ablation of PDA and PDR", "8:2"),
    _table("pfd-table4", "Ablation of ANA and PPA", "8:2"),
    _table("pfd-table5", "Number of sampling steps", "8:2"),
)

ROWS = (
    _row("pfd-table1", "PFD-IQA"),
    _row("pfd-table2", "PFD-IQA"),
    _row("pfd-table3", "a", "model.use_pda=false", "model.use_pdr=false"),
    _row("pfd-table3", "b", "model.use_pdr=false"),
    _row("pfd-table3", "c", "model.use_pda=false"),
    _row("pfd-table3", "d"),
    _row("pfd-table4", "a", "model.use_ana=false", "model.use_ppa=false"),
    _row("pfd-table4", "b", "model.use_ppa=false"),
    _row("pfd-table4", "c", "model.use_ana=false"),
    _row("pfd-table4", "d"),
    *(_row("pfd-table5", steps, f"model.sampling_steps={steps}") for steps in ("1", "3", "5", "10")),
)
