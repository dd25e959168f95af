"""`iqametrics info`: all that is known of one metric and its checkpoint."""

import argparse
import json
from collections.abc import Iterator
from math import isfinite
from typing import Any

from iqametrics.baselines import is_baseline, licence
from iqametrics.cli.common import EXIT_OK, METRIC, METRIC_HELP, check_metric_name
from iqametrics.cli.output import printable
from iqametrics.registry import MetricInfo, metric_info


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "info",
        help="tell what is known of a metric",
        description="Tell mode, direction, range, paper, checkpoint, training data, licence and results of a metric.",
    )
    parser.add_argument("name", metavar=METRIC, help=METRIC_HELP)
    parser.add_argument("--format", choices=("table", "json"), default="table", help="form of the output")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    check_metric_name(args.name)
    info = metric_info(args.name)
    if args.format == "json":
        # JSON has no infinity; an end of the range that is open or unknown is null.
        ends = [end if isfinite(end) else None for end in info.score_range]
        terms = {"licence": licence(info.name)} if is_baseline(info.name) else {}
        print(json.dumps({**info.to_dict(), "score_range": ends, **terms}, indent=2, allow_nan=False))
        return EXIT_OK
    lines = list(_lines(info))
    width = max(len(label) for label, _ in lines)
    for label, value in lines:
        print(printable(f"{label:<{width}}  {value}".rstrip()))
    return EXIT_OK


def _lines(info: MetricInfo) -> Iterator[tuple[str, str]]:
    low, high = (f"{end:g}" if isfinite(end) else "open" for end in info.score_range)
    yield "name", info.full_name
    yield "mode", "fr: compares with a reference" if info.mode == "fr" else "nr: needs no reference"
    yield "better", "higher" if info.higher_is_better else "lower"
    yield "range", f"{low} to {high}, {'never left' if info.range_is_bound else 'nominal: scores may leave it'}"
    yield "differentiable", "yes" if info.differentiable else "no"
    yield "paper", info.paper
    yield "", info.paper_url
    if is_baseline(info.name):
        yield "checkpoint", f"that of {info.name.partition('/')[0]}, which fetches it where it needs one"
        yield "licence", f"{licence(info.name)} (the package; weights may have another)"
        return
    if info.checkpoint is None:
        yield "checkpoint", "none in this version"
        return
    yield "checkpoint", f"{info.checkpoint.file}, {info.checkpoint.bytes / 1e6:.1f} MB, {info.checkpoint.source}"
    if info.checkpoint.repo is not None:
        yield "", f"{info.checkpoint.repo}@{info.checkpoint.revision}"
    yield "sha256", info.checkpoint.sha256
    yield "others", ", ".join(tag for tag in info.tags if tag != info.tag) or "none"
    yield "licence", info.checkpoint.licence
    for name in ("sizing", "training", "results", "sources"):
        yield from _nested(name, info.metadata.get(name))


def _nested(label: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _nested(f"{label}.{key}", part)
    elif isinstance(value, list):
        for part in value:
            yield from _nested(label, part)
    elif value is not None:
        yield label, f"{value:.4g}" if isinstance(value, float) else str(value)
