"""The table of open results: a page asks for it by the comment `<!-- results -->`."""

from collections.abc import Iterable, Mapping
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from iqametrics.results.table import table_rows

_COMMENT = "<!-- results -->"
FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "open"
_HEAD = "| Metric | SRCC | PLCC | n | Trained on this | Paper, SRCC | Commit |\n|---|---|---|---|---|---|---|"


def leaderboard(rows: Iterable[Mapping[str, Any]], folder: str) -> str:
    """Write the table of each set of images as Markdown.

    Args:
        rows: What `table_rows` returns: sorted by images.
        folder: Address of the folder with the files, as seen from the page.
    """
    parts = []
    for title, group in groupby(rows, key=lambda row: row["data"]):
        found = list(group)
        labels = "Human opinions." if found[0]["labels"] == "human" else "**Made labels, no opinions of people.**"
        lines = "\n".join(_line(row, folder) for row in found)
        parts.append(f"## {title}\n\n{labels}\n\n:::{{container}} results\n{_HEAD}\n{lines}\n:::\n")
    return "\n".join(parts)


def _line(row: Mapping[str, Any], folder: str) -> str:
    cells = (
        f"[{row['metric']}]({folder}/{row['file']})",
        f"**{row['srcc']:.3f}** {_interval_text(row)}{_bar(row)}",
        f"{row['plcc']:.3f}",
        str(row["n"]),
        row["trained"],
        "none" if row["paper_srcc"] is None else f"{row['paper_srcc']:.3f}",
        f"`{(row['commit'] or 'none')[:7]}`",
    )
    return f"| {' | '.join(cells)} |"


def _interval_text(row: Mapping[str, Any]) -> str:
    low, high = row["srcc_low"], row["srcc_high"]
    return "" if low is None else f"({low:.3f} to {high:.3f})"


def _bar(row: Mapping[str, Any]) -> str:
    """Draw |SRCC| and its interval on a bar from 0 to 1."""
    place = abs(row["srcc"])
    low, high = sorted(abs(row[end] if row[end] is not None else row["srcc"]) for end in ("srcc_low", "srcc_high"))
    title = escape(f"SRCC {row['srcc']:.3f} {_interval_text(row)}".strip())
    span = f'<span style="left: {100 * low:.1f}%; width: {100 * (high - low):.1f}%"></span>'
    return f'<span class="interval" title="{title}">{span}<b style="left: {100 * place:.1f}%"></b></span>'


def _fill(_: Sphinx, __: str, source: list[str]) -> None:
    if _COMMENT in source[0]:
        rows = table_rows(sorted(FOLDER.glob("*.json")))
        source[0] = source[0].replace(_COMMENT, leaderboard(rows, "../benchmarks/results/open"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
