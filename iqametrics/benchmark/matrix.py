"""Matrices of a report's page: a paper's table as printed with what was measured, and metrics against each other."""

import math
from collections.abc import Iterable, Mapping, Sequence

from iqametrics.benchmark.lines import Line
from iqametrics.common.markup import html_text
from iqametrics.evaluation import Comparison

SIGNIFICANT = 0.05
"""Adjusted p-value below which a difference is coloured."""
_NONE = "\u2013"
_MARKS = {"within": "=", "above": "\u25b2", "below": "\u25bc", "not comparable": "\u2260", "no paper value": ""}
_STATISTICS = ("srcc", "plcc", "plcc_logistic", "krcc")
_HEADS = {
    "srcc": "SRCC",
    "plcc": "PLCC",
    "plcc_logistic": "PLCC after fit",
    "krcc": "KRCC",
    "mean": "mean",
    "std": "std",
}


def paper_matrix(lines: Sequence[Line]) -> str:
    """Lay the cells of a paper's table out as the paper does, rows against datasets and statistics."""
    places = {place: [s for p, s in _columns(lines) if p == place] for place, _ in _columns(lines)}
    cells = {(line.row, line.place, line.statistic): line for line in lines}
    rows = [
        f'<tr{_ours(lines, row)}><th scope="row">{html_text(row)}</th>'
        + "".join(_cell(cells.get((row, *column))) for column in _columns(lines))
        + "</tr>"
        for row in dict.fromkeys(line.row for line in lines)
    ]
    return _table(_heads(places), rows)


def _ours(lines: Iterable[Line], row: str) -> str:
    return ' class="measured"' if any(line.row == row and line.planned for line in lines) else ""


def _columns(lines: Iterable[Line]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((line.place, line.statistic) for line in lines))


def _heads(places: Mapping[str, Sequence[str]]) -> str:
    first = "".join(
        f'<th scope="colgroup" colspan="{len(found)}">{html_text(place.replace("->", " → "))}</th>'
        for place, found in places.items()
    )
    second = "".join(
        f'<th scope="col">{html_text(_HEADS.get(name, name))}</th>' for found in places.values() for name in found
    )
    return f'<tr><td rowspan="2"></td>{first}</tr><tr>{second}</tr>'


def _cell(line: Line | None) -> str:
    if line is None:
        return "<td></td>"
    note = f' title="{html_text(line.note)}"' if line.note else ""
    printed = _number(line.paper, 3) + _std(line.paper_std, 3)
    if line.measured is None:
        waits = " planned" if line.planned else ""
        return f'<td class="quiet{waits}"{note}>{printed or _NONE}<span class="off-screen">, not run</span></td>'
    kind = line.verdict.replace(" ", "-")
    difference = "" if line.difference is None else f"{line.difference:+.4f}".replace("-", "\u2212")
    mark = f'<span class="mark" aria-hidden="true">{_MARKS.get(line.verdict, "")}</span> ' if line.verdict else ""
    words = f'<span class="off-screen">{html_text(line.verdict)}</span>' if line.verdict else ""
    below = f"paper {printed}" if printed else "no paper value" if line.verdict == "no paper value" else ""
    return (
        f'<td class="{kind}"{note}><strong>{_number(line.measured, 4)}</strong>'
        f"<small>{_std(line.measured_std, 4).strip()}</small>"
        f"<small>{below}</small><small>{mark}{difference}{words}</small></td>"
    )


def compare_matrix(lines: Sequence[Line]) -> str:
    """Lay finished metrics out against datasets, the best by the first dataset's SRCC on top."""
    places = list(dict.fromkeys(line.place for line in lines))
    cells = {(line.row, line.place, line.statistic): line for line in lines}
    order = ranked(lines, places[0]) if places else []
    order += [row for row in dict.fromkeys(line.row for line in lines) if row not in order]
    rows = [
        f'<tr><th scope="row">{html_text(row)}</th>'
        + "".join(_figure(cells.get((row, place, name)), name) for place in places for name in _STATISTICS)
        + "</tr>"
        for row in order
    ]
    return _table(_heads(dict.fromkeys(places, _STATISTICS)), rows)


def ranked(lines: Iterable[Line], place: str) -> list[str]:
    """List the metrics that have an SRCC on a dataset, the best first."""
    found = [line for line in lines if line.place == place and line.statistic == "srcc" and _known(line.measured)]
    return [line.row for line in sorted(found, key=lambda line: -(line.measured or 0))]


def _figure(line: Line | None, name: str) -> str:
    if line is None or line.verdict == "not run":
        return f'<td class="quiet">{"not run" if line else ""}</td>'
    if not _known(line.measured):
        return '<td class="quiet">none</td>'
    if name != "srcc":
        return f"<td>{_number(line.measured, 4)}</td>"
    interval = f"{_number(line.low, 3)} to {_number(line.high, 3)}" if _known(line.low) and _known(line.high) else ""
    share = 100 * max(0.0, min(1.0, line.measured or 0))
    return (
        f'<td class="bar" style="--share:{share:.1f}%"><strong>{_number(line.measured, 4)}</strong>'
        f"<small>{interval}</small></td>"
    )


def pair_matrix(order: Sequence[str], pairs: Iterable[Comparison]) -> str:
    """Lay the differences of all pairs of metrics out: row minus column, coloured where it is significant."""
    found = {(pair.a, pair.b): pair for pair in pairs}
    heads = "".join(
        f'<th scope="col" title="{html_text(name)}">{number}<span class="off-screen"> {html_text(name)}</span></th>'
        for number, name in enumerate(order, start=1)
    )
    rows = [
        f'<tr><th scope="row">{number} {html_text(row)}</th>'
        + "".join(_pair(row, column, found) for column in order)
        + "</tr>"
        for number, row in enumerate(order, start=1)
    ]
    return _table(f"<tr><td></td>{heads}</tr>", rows, kind="pairs")


def _pair(row: str, column: str, found: Mapping[tuple[str, str], Comparison]) -> str:
    if row == column:
        return '<td class="self"></td>'
    turned = (row, column) not in found
    pair = found.get((column, row) if turned else (row, column))
    if pair is None:
        return "<td></td>"
    sign = -1 if turned else 1
    low, high = (-pair.high, -pair.low) if turned else (pair.low, pair.high)
    difference = sign * pair.difference
    sure = _known(pair.p_bootstrap_holm) and pair.p_bootstrap_holm < SIGNIFICANT
    kind = ("above" if difference > 0 else "below") if sure else "quiet"
    told = (
        f"{row} minus {column}: {difference:+.4f} (95% interval {low:+.4f} to {high:+.4f}); p {pair.p_bootstrap:.4f}, "
        f"by Holm {pair.p_bootstrap_holm:.4f}; Williams, by Holm, {pair.p_williams_holm:.4f}"
    )
    return f'<td class="{kind}" title="{html_text(told)}">{f"{difference:+.3f}".replace("-", chr(0x2212))}</td>'


def _table(head: str, rows: Sequence[str], kind: str = "matrix") -> str:
    body = "".join(rows)
    table = f'<table class="{kind}"><thead>{head}</thead><tbody>{body}</tbody></table>'
    return f'<div class="scroll" tabindex="0">{table}</div>'


def _known(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _std(value: float | None, digits: int) -> str:
    return "" if value is None else f" ±\N{NO-BREAK SPACE}{value:.{digits}f}"
