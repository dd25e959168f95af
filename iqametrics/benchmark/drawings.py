"""Drawings of a report's page, as SVG: spreads over splits, intervals, and cost against agreement."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from iqametrics.common.markup import html_text

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 480, 130, 14, 8, 36
_ROW = 26
_COST_HEIGHT = 300
_LETTERS = 18
_LETTER, _LINE = 6.6, 13.0


@dataclass(frozen=True, kw_only=True)
class Spread:
    """One row of a drawing of spreads.

    Attributes:
        name: What was measured.
        value: Its figure, or the mean over the splits.
        low: Lower end of its interval or of one standard deviation.
        high: Upper end.
        values: The figure of each split.
        paper: The paper's number.
        paper_std: The paper's standard deviation.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    values: tuple[float, ...] = ()
    paper: float | None = None
    paper_std: float | None = None

    def ends(self) -> list[float]:
        """Return all values that the drawing must hold."""
        printed = [] if self.paper is None else [self.paper - (self.paper_std or 0), self.paper + (self.paper_std or 0)]
        return [self.value, *self.values, *printed, *(end for end in (self.low, self.high) if end is not None)]


def spread_drawing(label: str, rows: Sequence[Spread]) -> str:
    """Draw one line a row: a dot a split, the mean with its interval, and the paper's number with its own.

    Args:
        label: What is drawn, for those who do not see it, and under the axis.
        rows: The rows, from above.
    """
    ends = [end for row in rows for end in row.ends()]
    ticks = _ticks(min(ends), max(ends), 6)
    low, high = min(ticks[0], *ends), max(ticks[-1], *ends)
    room = (high - low) * 0.03 or 0.01
    place = _Scale(low - room, high + room, _LEFT, _WIDTH - _RIGHT)
    height = _TOP + _ROW * len(rows) + _BOTTOM
    parts = [_vertical(place(tick), height - _BOTTOM, _text(tick, ticks)) for tick in ticks]
    for number, row in enumerate(rows):
        parts.append(_spread(row, place, _TOP + _ROW * (number + 0.5)))
    parts.append(_axis(label, (_LEFT + _WIDTH - _RIGHT) / 2, height))
    return _drawing(label, height, parts)


def _spread(row: Spread, place: "_Scale", y: float) -> str:
    name = row.name if len(row.name) <= _LETTERS else f"{row.name[: _LETTERS - 1]}\u2026"
    parts = [f'<text class="name" x="{_LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{html_text(name)}</text>']
    if row.paper is not None:
        std = row.paper_std or 0
        parts.append(_line(place(row.paper - std), place(row.paper + std), y - 6, "printed"))
        parts.append(_diamond(place(row.paper), y - 6))
    parts += [f'<circle class="split" cx="{place(value):.1f}" cy="{y + 3:.1f}" r="3"/>' for value in row.values]
    if row.low is not None and row.high is not None:
        parts.append(_line(place(row.low), place(row.high), y + 3, "interval"))
    parts.append(f'<circle class="mean" cx="{place(row.value):.1f}" cy="{y + 3:.1f}" r="4.5"/>')
    return f"<g><title>{html_text(_told(row))}</title>{''.join(parts)}</g>"


def _told(row: Spread) -> str:
    splits = f" over {len(row.values)} splits" if row.values else ""
    interval = "" if row.low is None or row.high is None else f", {row.low:.4f} to {row.high:.4f}"
    printed = "" if row.paper is None else f"; the paper has {row.paper:.3f}"
    return f"{row.name}: {row.value:.4f}{splits}{interval}{printed}"


@dataclass(frozen=True, kw_only=True)
class CostPoint:
    """A metric in the drawing of cost.

    Attributes:
        name: Its name.
        flops: Operations for one picture.
        parameters: Number of its parameters; its area.
        plcc: Its agreement.
    """

    name: str
    flops: float
    parameters: float
    plcc: float


def cost_drawing(label: str, points: Sequence[CostPoint]) -> str:
    """Draw PLCC over operations on a logarithmic axis; the area of a point grows with the parameters.

    Args:
        label: What is drawn, for those who do not see it.
        points: The metrics; what has no operations that can be counted is left out by the caller.
    """
    powers = [math.log10(point.flops) for point in points]
    values = [point.plcc for point in points]
    x = _Scale(math.floor(min(powers) - 0.15), math.ceil(max(powers) + 0.15), 56, _WIDTH - 24)
    ticks = _ticks(min(values), max(values), 5)
    spare = (max(values) - min(values)) * 0.12 or 0.02
    y = _Scale(min(values) - spare, max(values) + spare, _COST_HEIGHT - 44, 18)
    parts = []
    for tick in ticks:
        if y.low <= tick <= y.high:
            parts.append(f'<line class="grid" x1="56" x2="{_WIDTH - 24}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
            parts.append(f'<text x="48" y="{y(tick) + 4:.1f}" text-anchor="end">{_text(tick, ticks)}</text>')
    for power in range(int(x.low), int(x.high) + 1):
        parts.append(_vertical(x(power), _COST_HEIGHT - 44, _operations(10.0**power)))
    largest = max(point.parameters for point in points) or 1
    discs = [_Disc(x(math.log10(p.flops)), y(p.plcc), 4 + 14 * math.sqrt(p.parameters / largest)) for p in points]
    boxes = [_Box(disc.x - disc.radius, disc.y - disc.radius, 2 * disc.radius, 2 * disc.radius) for disc in discs]
    for point, disc in zip(points, discs, strict=True):
        parts.append(_cost_point(point, disc, boxes))
    parts.append(_axis("operations for one picture", (56 + _WIDTH - 24) / 2, _COST_HEIGHT))
    parts.append(f'<text class="axis" transform="translate(12 {_COST_HEIGHT / 2 - 20}) rotate(-90)">PLCC</text>')
    return _drawing(label, _COST_HEIGHT, parts)


@dataclass(frozen=True)
class _Disc:
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class _Box:
    x: float
    y: float
    width: float
    height: float

    def meets(self, other: "_Box") -> bool:
        return (
            abs(self.x + self.width / 2 - other.x - other.width / 2) < (self.width + other.width) / 2
            and abs(self.y + self.height / 2 - other.y - other.height / 2) < (self.height + other.height) / 2
        )


def _cost_point(point: CostPoint, disc: _Disc, taken: list[_Box]) -> str:
    """Draw a point with its name where there is room for it; its tip has all figures in any case."""
    told = f"{point.name}: PLCC {point.plcc:.4f}, {_operations(point.flops)}, {point.parameters / 1e6:.1f} M parameters"
    circle = f'<circle class="cost" cx="{disc.x:.1f}" cy="{disc.y:.1f}" r="{disc.radius:.1f}"/>'
    return f"<g><title>{html_text(told)}</title>{circle}{_name(point.name, disc, taken)}</g>"


def _name(name: str, disc: _Disc, taken: list[_Box]) -> str:
    width, reach = len(name) * _LETTER, disc.radius + 4
    starts = [(disc.x + reach, 0.0), (disc.x - reach - width, 0.0)]
    starts += [(disc.x - width / 2, side * (reach + _LINE / 2)) for side in (-1, 1)]
    starts += [(start, shift) for shift in (-_LINE, _LINE) for start, _ in starts[:2]]
    for start, shift in starts:
        box = _Box(start, disc.y + shift - _LINE / 2, width, _LINE)
        inside = start > 0 and start + width < _WIDTH and box.y > 0 and box.y + _LINE < _COST_HEIGHT - _BOTTOM
        if inside and not any(box.meets(other) for other in taken):
            taken.append(box)
            y = disc.y + shift + 4
            middle = f'x="{start + width / 2:.1f}" y="{y:.1f}" text-anchor="middle"'
            return f'<text class="name" {middle}>{html_text(name)}</text>'
    return ""


def _operations(flops: float) -> str:
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if flops >= factor * 0.999:
            return f"{flops / factor:.3g} {letter}"
    return f"{flops:.0f}"


class _Scale:
    """From values to places along one side of a drawing."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high, self._start, self._end = low, high, start, end

    def __call__(self, value: float) -> float:
        return self._start + (value - self.low) / (self.high - self.low) * (self._end - self._start)


def _ticks(low: float, high: float, wanted: int) -> list[float]:
    """Return round numbers within an interval, about as many as asked for."""
    rough = (high - low or 0.01) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _text(value: float, ticks: Sequence[float]) -> str:
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 0.1
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:.{digits}f}".replace("-", "\u2212")


def _vertical(x: float, base: float, text: str) -> str:
    return (
        f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{base}"/>'
        f'<text x="{x:.1f}" y="{base + 15}" text-anchor="middle">{text}</text>'
    )


def _line(x1: float, x2: float, y: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _diamond(x: float, y: float) -> str:
    return (
        f'<path class="printed" d="M{x - 4:.1f} {y:.1f}L{x:.1f} {y - 4:.1f}L{x + 4:.1f} {y:.1f}L{x:.1f} {y + 4:.1f}Z"/>'
    )


def _axis(text: str, x: float, height: float) -> str:
    return f'<text class="axis" x="{x:.1f}" y="{height - 3}" text-anchor="middle">{html_text(text)}</text>'


def _drawing(label: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg class="drawing" role="img" aria-label="{html_text(label)}" viewBox="0 0 {_WIDTH} {height:.0f}">'
        f"{''.join(parts)}</svg>"
    )
