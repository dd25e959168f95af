"""A report as Markdown, CSV, LaTeX or a self-contained HTML page."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from iqametrics.benchmark.lines import Line
from iqametrics.benchmark.page import report_page
from iqametrics.benchmark.plan import COMPARE
from iqametrics.benchmark.report import COMPARED, Report
from iqametrics.benchmark.variants import VariantLine
from iqametrics.common.markup import latex, markdown, plain, spreadsheet
from iqametrics.evaluation import Comparison

FORMATS = ("md", "csv", "latex", "html")

_CELLS = ("row", "column", "paper", "measured", "difference", "verdict", "splits", "after fit", "note")
_METRICS = ("metric", "dataset", "images", "SRCC", "95% interval", "PLCC", "PLCC after fit", "KRCC")
_VARIANTS_TITLE = (
    "Readings of the paper, on validation parts (its numbers are of test parts; an epoch is chosen by the same)"
)
_VARIANTS = ("row", "column", "reading", "in the table", "validation", "splits", "paper (test)")
_PAIRS_TITLE = "Differences in SRCC (paired bootstrap; Williams' test beside it; adjusted by Holm's rule)"
_PAIRS = ("dataset", "first", "second", "SRCC difference", "95% interval", "p", "p (Holm)", "Williams (Holm)")


def render(
    report: Report,
    form: str,
    plots: Mapping[str, str] | None = None,
    costs: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Write a report.

    Args:
        report: The report.
        form: One of `FORMATS`.
        plots: Scatter plots by caption, as `data:` addresses; in HTML only.
        costs: What `benchmark cost` measured, by metric; in HTML only.
    """
    if form == "csv":
        return _csv(report)
    if form == "latex":
        return _latex(report)
    if form == "html":
        return report_page(report, plots or {}, costs or {}, _tables(report)[1:] if report.variants else [])
    return _markdown(report)


def _csv(report: Report) -> str:
    """Return one line a cell at full precision, with how and where it was done in columns and without the prose."""
    text = io.StringIO()
    names = [field.name for field in fields(Line)]
    writer = csv.DictWriter(text, ["table", *names, "done_by"], lineterminator="\n")
    writer.writeheader()
    place = " | ".join(fact for fact in report.facts if fact.startswith("Commit "))
    for line in report.lines:
        row = {"table": report.id, **asdict(line), "done_by": place}
        # What is several stands in one column, with spaces.
        flat = {key: " ".join(map(str, value)) if isinstance(value, tuple) else value for key, value in row.items()}
        writer.writerow({name: spreadsheet(value) for name, value in flat.items()})
    return text.getvalue()


def _markdown(report: Report) -> str:
    parts = [f"# {markdown(f'{report.id}: {report.title}')}", *([markdown(report.paper)] if report.paper else [])]
    parts.append("\n".join(f"- {markdown(fact)}" for fact in report.facts))
    for title, head, rows in _tables(report):
        table = [[markdown(cell) for cell in row] for row in (head, *rows)]
        table.insert(1, ["---"] * len(head))
        lines = ["| " + " | ".join(row) + " |" for row in table]
        parts.append(f"## {title}\n\n" + "\n".join(lines))
    if made_with := _fingerprints(report):
        parts.append("## Fingerprints\n\n" + "\n".join(f"- {markdown(line)}" for line in made_with))
    if report.failures:
        parts.append("## Jobs that failed\n\n" + "\n".join(f"- {markdown(failure)}" for failure in report.failures))
    return "\n\n".join(parts) + "\n"


def _fingerprints(report: Report) -> list[str]:
    """Say what each row was made with."""
    found: dict[str, dict[str, None]] = {}
    for line in report.lines:
        if line.fingerprints:
            found.setdefault(line.row, {}).update(dict.fromkeys(line.fingerprints))
    return [f"{row}: {', '.join(texts)}" for row, texts in found.items()]


def _latex(report: Report) -> str:
    lines = [
        f"% {plain(fact)}"
        for fact in (
            f"{report.id}: {report.title}",
            report.paper,
            *report.facts,
            *report.failures,
            *_fingerprints(report),
        )
    ]
    for title, head, rows in _tables(report):
        lines += ["", f"% {plain(title)}", rf"\begin{{tabular}}{{{'l' * len(head)}}}", r"\hline"]
        body = [" & ".join(map(latex, row)) + r" \\" for row in (head, *rows)]
        lines += [body[0], r"\hline", *body[1:], r"\hline", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def _tables(report: Report) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return caption, header and rows of each table, as text."""
    if report.id != COMPARE:
        tables = [("Paper and measured", list(_CELLS), [_cells(line) for line in report.lines])]
        if report.variants:
            tables.append((_VARIANTS_TITLE, list(_VARIANTS), [_variant(line) for line in report.variants]))
        return tables
    keys = dict.fromkeys((line.row, line.place) for line in report.lines)
    rows = [_figures([line for line in report.lines if (line.row, line.place) == key]) for key in keys]
    tables = [("Agreement with the labels", list(_METRICS), rows)]
    if report.pairs:
        tables.append((_PAIRS_TITLE, list(_PAIRS), [_pair(*pair) for pair in report.pairs]))
    return tables


def _cells(line: Line) -> list[str]:
    return [
        line.row,
        f"{line.place} {line.statistic}",
        _spread(line.paper, line.paper_std, 3),
        _spread(line.measured, line.measured_std, 4),
        "" if line.difference is None else f"{line.difference:+.4f}",
        line.verdict,
        f"{line.n}/{line.planned}" if line.planned else "",
        _number(line.after_fit, 4),
        line.note,
    ]


def _variant(line: VariantLine) -> list[str]:
    return [
        line.row,
        f"{line.dataset} {line.statistic}",
        line.reading,
        "yes" if line.in_table else "",
        _spread(line.measured, line.spread, 4) or "not run",
        f"{line.n}/{line.planned}",
        _number(line.paper, 3),
    ]


def _figures(lines: Sequence[Line]) -> list[str]:
    """Put the results of one metric on one dataset into a row."""
    first = lines[0]
    if first.verdict == "not run":
        return [first.row, first.place, "", "not run", "", "", "", ""]
    # What does not exist, such as the correlation with a constant, is shown as such and not left out.
    texts = {line.statistic: _number(line.measured, 4) or "none" for line in lines}
    srcc, plcc, fit, krcc = (texts[name] for name in COMPARED)
    return [first.row, first.place, str(first.images), srcc, _interval(first.low, first.high), plcc, fit, krcc]


def _pair(dataset: str, pair: Comparison) -> list[str]:
    return [
        dataset,
        pair.a,
        pair.b,
        f"{pair.difference:+.4f}",
        _interval(pair.low, pair.high) or "none",
        *(_number(p, 4) or "none" for p in (pair.p_bootstrap, pair.p_bootstrap_holm, pair.p_williams_holm)),
    ]


def _spread(value: float | None, std: float | None, digits: int) -> str:
    text = _number(value, digits)
    return f"{text} ± {std:.{digits}f}" if text and std is not None else text


def _number(value: float | None, digits: int) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _interval(low: float | None, high: float | None) -> str:
    return f"{_number(low, 4)} to {_number(high, 4)}" if _number(low, 4) and _number(high, 4) else ""
