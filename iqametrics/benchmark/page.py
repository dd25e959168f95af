"""A report as one page in the house style: matrices, verdicts, spreads, cost, and how it was done."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from iqametrics.benchmark.drawings import CostPoint, Spread, cost_drawing, spread_drawing
from iqametrics.benchmark.lines import Line
from iqametrics.benchmark.matrix import SIGNIFICANT, compare_matrix, pair_matrix, paper_matrix, ranked
from iqametrics.benchmark.plan import COMPARE
from iqametrics.benchmark.report import Report
from iqametrics.common.files import read_text
from iqametrics.common.markup import html_text
from iqametrics.errors import DataError
from iqametrics.report.page import static_page

_SIZES = {"paper": "untrained", "lite": "lite"}
_VERDICTS = (
    ("within", "=", "within the paper's spread"),
    ("above", "\u25b2", "above it"),
    ("below", "\u25bc", "below it"),
    ("not-comparable", "\u2260", "not comparable"),
)


def report_page(
    report: Report,
    plots: Mapping[str, str],
    costs: Mapping[str, Mapping[str, Any]],
    tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]],
) -> str:
    """Write the page.

    Args:
        report: The report.
        plots: Scatter plots by caption, as `data:` addresses.
        costs: What `benchmark cost` measured, by metric.
        tables: Further tables: title, headings and rows.
    """
    parts = [_head(report), _figures(report)]
    parts.append(_compared(report) if report.id == COMPARE else _paper(report))
    parts += _spreads(report)
    parts += _costs(report, costs)
    parts += [_panel(title, "", _plain(head, rows)) for title, head, rows in tables]
    if report.failures:
        parts.append(_panel("Jobs that failed", "", _list(report.failures)))
    if plots:
        parts.append(
            _panel("Score against opinion", "", f'<div class="scatter">{"".join(map(_plot, plots.items()))}</div>')
        )
    parts.append(_panel("How it was done", "", _list(report.facts)))
    parts.append(_fingerprints(report.lines))
    content = "\n".join(part for part in parts if part)
    return static_page(f"{report.id}: {report.title}", content, ("house.css", "benchmark.css"))


def read_costs(path: Path) -> dict[str, dict[str, Any]]:
    """Read what `benchmark cost --output` wrote, by metric.

    Raises:
        DataError: If the file cannot be read or is another.
    """
    text = read_text(path, error=DataError)
    try:
        return {row["metric"]: row for row in json.loads(text)["rows"] if row["flops"]}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is not what iqametrics benchmark cost --output writes; give such a file") from error


def _head(report: Report) -> str:
    paper = f'<p class="lead">{html_text(report.paper)}</p>' if report.paper else ""
    name = html_text(f"{report.id}: {report.title}")
    return f'<header class="top"><div><p class="kicker">iqametrics benchmark</p><h1>{name}</h1>{paper}</div></header>'


def _figures(report: Report) -> str:
    counts = Counter(line.verdict for line in report.lines)
    found = re.match(r"(\d+) of (\d+) jobs", report.facts[0])
    figures = [("Jobs finished", found[1], f"of {found[2]}")] if found else []
    figures.append(("Metrics" if report.id == COMPARE else "Rows", str(len({line.row for line in report.lines})), ""))
    figures.append(("Datasets", str(len({line.place for line in report.lines})), ""))
    for name in ("within", "above", "below", "not comparable", "not run"):
        if counts[name]:
            figures.append((name.capitalize(), str(counts[name]), "cells"))
    if report.failures:
        figures.append(("Failed", str(len(report.failures)), "jobs"))
    items = "".join(
        f'<div class="figure"><dt>{label}</dt><dd>{value}</dd><small>{note}</small></div>'
        for label, value, note in figures
    )
    return f'<section class="figures" aria-label="Figures"><dl>{items}</dl></section>'


def _paper(report: Report) -> str:
    legend = "".join(
        f'<span class="badge {kind}"><span aria-hidden="true">{mark}</span> {words}</span>'
        for kind, mark, words in _VERDICTS
    )
    caption = (
        "Measured: mean ± sample standard deviation over the splits; below it the paper's number and the difference. "
        "Faint: the paper's number alone, not run here."
    )
    return _panel(
        "Paper and measured",
        caption,
        f'<p class="legend">{legend}</p>{paper_matrix(report.lines)}{_notes(report.lines)}',
    )


def _notes(lines: Sequence[Line]) -> str:
    """Tell once what the notes of cells say."""
    notes: dict[str, list[str]] = {}
    for line in lines:
        for note in filter(None, line.note.split("; ")):
            notes.setdefault(note, []).append(f"{line.row} on {line.place}")
    items = [f"{note}: {', '.join(dict.fromkeys(cells))}" for note, cells in notes.items()]
    return f"<details><summary>Notes on cells</summary>{_list(items)}</details>" if items else ""


def _compared(report: Report) -> str:
    parts = [
        _panel(
            "Agreement with the labels",
            "The best on the first dataset is on top. Under SRCC its 95% bootstrap interval.",
            compare_matrix(report.lines),
        )
    ]
    for dataset in dict.fromkeys(name for name, _ in report.pairs):
        pairs = [pair for name, pair in report.pairs if name == dataset]
        caption = (
            f"Row minus column. Coloured: p below {SIGNIFICANT} by the paired bootstrap, adjusted by Holm's rule; the "
            "rest may be chance. A cell's tip has the interval and Williams' test."
        )
        matrix = pair_matrix(ranked(report.lines, dataset), pairs)
        parts.append(_panel(f"Differences in SRCC on {dataset}", caption, matrix))
    return "\n".join(parts)


def _spreads(report: Report) -> list[str]:
    """Draw the splits of each column that has some; for a comparison the intervals."""
    parts = []
    for place, name in dict.fromkeys((line.place, line.statistic) for line in report.lines):
        lines = [line for line in report.lines if (line.place, line.statistic) == (place, name)]
        rows = [
            _spread(line)
            for line in lines
            if line.measured is not None and (len(line.values) > 1 or line.low is not None)
        ]
        if rows:
            rows.sort(key=lambda row: -row.value)
            title = f"{name.upper()} on {place.replace('->', ' → ')}"
            parts.append(f"<figure><h3>{html_text(title)}</h3>{spread_drawing(title, rows)}</figure>")
    if not parts:
        return []
    caption = (
        "Each metric's SRCC with its 95% bootstrap interval."
        if report.id == COMPARE
        else "A faint dot a split, the mean with one standard deviation; the diamond is the paper's number."
    )
    return [_panel("Spreads", caption, f'<div class="drawings">{"".join(parts)}</div>')]


def _spread(line: Line) -> Spread:
    value, std = line.measured or 0.0, line.measured_std
    low, high = (line.low, line.high) if std is None else (value - std, value + std)
    return Spread(
        name=line.row, value=value, low=low, high=high, values=line.values, paper=line.paper, paper_std=line.paper_std
    )


def _costs(report: Report, costs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    parts = []
    for place in dict.fromkeys(line.place for line in report.lines):
        points = [
            CostPoint(name=line.row, flops=cost["flops"], parameters=cost["parameters"], plcc=line.measured)
            for line in report.lines
            if (line.place, line.statistic) == (place, "plcc") and line.measured is not None
            for cost in [costs.get(_costed(line))]
            if cost is not None
        ]
        if len(points) > 1:
            title = f"Cost against PLCC on {place}"
            parts.append(f"<figure><h3>{html_text(title)}</h3>{cost_drawing(title, points)}</figure>")
    if not parts:
        return []
    caption = "Operations for one picture, on a logarithmic axis; the area of a point grows with its parameters."
    return [_panel("Cost", caption, f'<div class="drawings">{"".join(parts)}</div>')]


def _costed(line: Line) -> str:
    """Name the metric as `benchmark cost` does: a trained model costs what an untrained one of its size does."""
    found = re.fullmatch(r"(.+) \((paper|lite|finished)\)", line.metric)
    if found is None:
        return line.row
    return f"{found[1]}.{_SIZES[found[2]]}" if found[2] in _SIZES else found[1]


def _fingerprints(lines: Sequence[Line]) -> str:
    found: dict[str, dict[str, None]] = {}
    for line in lines:
        if line.fingerprints:
            found.setdefault(line.row, {}).update(dict.fromkeys(line.fingerprints))
    if not found:
        return ""
    items = "".join(
        f"<dt>{html_text(row)}</dt>" + "".join(f"<dd><code>{html_text(text)}</code></dd>" for text in texts)
        for row, texts in found.items()
    )
    return _panel(
        "Fingerprints", "Weights, version and preprocessing of each metric that was run.", f"<dl>{items}</dl>"
    )


def _panel(title: str, caption: str, content: str) -> str:
    told = f'<p class="caption">{html_text(caption)}</p>' if caption else ""
    return (
        f'<section class="panel" aria-label="{html_text(title)}"><h2>{html_text(title)}</h2>{told}{content}</section>'
    )


def _plain(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    first = "".join(f'<th scope="col">{html_text(cell)}</th>' for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{html_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{first}</tr></thead><tbody>{body}</tbody></table></div>'


def _plot(item: tuple[str, str]) -> str:
    caption, address = html_text(item[0]), item[1]
    return f'<figure><img alt="{caption}" src="{address}"><figcaption>{caption}</figcaption></figure>'


def _list(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{html_text(line)}</li>" for line in lines) + "</ul>"
