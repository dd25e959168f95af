"""The tables of BPCLIP's paper, numbers in the CSV beside this file, and the rows that the method fills."""

from pathlib import Path

from iqametrics.spec import Mode, PaperTable, Protocol, TableRow

_PAPER = "BPCLIP: A Bottom-up Image Quality Assessment from Distortion to Semantics Based on CLIP, ICME 2025"
_METRICS: dict[Mode, str] = {"fr": "bpclip-fr", "nr": "bpclip-nr"}
_ABLATION = "bpclip-table6"


def _table(name: str, title: str, protocol: Protocol, *, mode: Mode = "nr", is_cost: bool = False) -> PaperTable:
    return PaperTable(
        id=name,
        title=title,
        paper=_PAPER,
        file=Path(__file__).parent / f"{name}.csv",
        protocol=protocol,
        shares={"fr": "6:2:2", "nr": "8:2"},
        mode=mode,
        is_cost=is_cost,
    )


def _row(table: str, row: str, *changes: str) -> TableRow:
    return TableRow(table=table, row=row, metrics=_METRICS, changes=changes)


TABLES = (
    _table("bpclip-table2", "Full-reference benchmarks", "6:2:2", mode="fr"),
    _table("bpclip-table3", "Full reference, trained on KADID-10k and tested on other datasets", "cross", mode="fr"),
    _table("bpclip-table4", "No-reference benchmarks", "8:2"),
    _table("bpclip-table5", "KonIQ-10k, official split", "official"),
    _table(_ABLATION, "Ablation of BPCLIP; its numbers are lost", "6:2:2"),
    _table("bpclip-fig5", "Cost against PLCC on CSIQ; its numbers are only in the picture", "6:2:2", is_cost=True),
)

ROWS = (
    *(_row(f"bpclip-table{number}", "BPCLIP") for number in (2, 3, 4, 5)),
    _row(_ABLATION, "BPCLIP"),
    _row(_ABLATION, "without information branch (MSCA)", "model.information_branch=false"),
    _row(_ABLATION, "without weight branch", "model.weight_branch=false"),
    _row(_ABLATION, "without text encoder", "model.text_anchors=false"),
    _row(_ABLATION, "progressive propagation", 'model.propagation="progressive"'),
    _row(_ABLATION, "cosine similarity", 'model.similarity="cosine"'),
    _row(_ABLATION, "scaled cosine similarity", 'model.similarity="scaled_cosine"'),
)
