"""`iqametrics info`: all that is known of one metric and its checkpoint."""

import argparse
import json
from collections.abc import Iterator
from math import isfinite
from typing import Any

from iqametrics.baselines import is_baseline, licence
from iqametrics.cli.about import about
from iqametrics.cli.cite import bibtex, methods_line
from iqametrics.cli.common import EXIT_OK, METRIC, METRIC_HELP, check_metric_name, complain
from iqametrics.cli.output import printable
from iqametrics.registry import MetricInfo, bare_name_note, metric_info


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "info",
        help="tell what is known of a metric",
        description="Tell what a metric judges, what a good score is, how well it agrees with people and on what, what "
        "it does not see, its size and speed; with --all also the settings and all else that its checkpoint records.",
    )
    parser.add_argument("name", metavar=METRIC, help=METRIC_HELP)
    parser.add_argument("--all", action="store_true", dest="whole", help="the checkpoint's whole record too")
    parser.add_argument(
        "--cite", action="store_true", help="a line for a paper's section on methods, and BibTeX of the method"
    )
    parser.add_argument("--format", choices=("table", "json"), default="table", help="form of the output")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    check_metric_name(args.name)
    info = metric_info(args.name)
    if (note := bare_name_note(args.name)) is not None:
        complain(f"note: {note}")
    if args.cite:
        print(printable(methods_line(info)))
        print()
        print(*map(printable, bibtex(info).splitlines()), sep="\n")
        return EXIT_OK
    if args.format == "json":
        # JSON has no infinity; an end of the range that is open or unknown is null.
        ends = [end if isfinite(end) else None for end in info.score_range]
        terms = {"licence": licence(info.name)} if is_baseline(info.name) else {}
        print(json.dumps({**info.to_dict(), "score_range": ends, **terms}, indent=2, allow_nan=False))
        return EXIT_OK
    for line in about(info):
        print(line)
    if not args.whole:
        if info.metadata:
            print(printable(f"(settings, digests, all figures: iqametrics info {args.name} --all)"))
        return EXIT_OK
    print()
    lines = list(_lines(info))
    width = max(len(label) for label, _ in lines)
    for label, value in lines:
        print(printable(f"{label:<{width}}  {value}".rstrip()))
    return EXIT_OK


def _lines(info: MetricInfo) -> Iterator[tuple[str, str]]:
    low, high = (f"{end:g}" if isfinite(end) else "open" for end in info.score_range)
    yield "name", info.full_name
    yield "fingerprint", str(info.fingerprint)
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
