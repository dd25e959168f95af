"""`iqametrics export`: a metric as a file for other runtimes."""

import argparse
import re
import sys
import time
from pathlib import Path
from typing import Any

from iqametrics.cli.common import (
    EXIT_OK,
    METRIC,
    METRIC_HELP,
    UsageError,
    check_metric_name,
    check_output,
    complain,
    make_metrics,
)
from iqametrics.cli.output import printable
from iqametrics.registry import metric_info


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "export",
        help="write a metric as a file for other runtimes",
        description="Write a metric as ONNX or pt2: RGB in [0, 1] in, a score out, for any number and size of "
        "pictures, with everything in between in the file. It is compared with the metric before it is kept. "
        "docs/export.md shows how it is run from Python, C++ and JavaScript.",
    )
    parser.add_argument("metric", metavar=METRIC, help=METRIC_HELP)
    parser.add_argument("--format", choices=("onnx", "pt2"), default="onnx", help="(default: onnx)")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--output", type=Path, metavar="FILE", help="file to write")
    where.add_argument("--web", type=Path, metavar="FOLDER", help="write a page that scores pictures dropped on it")
    parser.add_argument(
        "--runtime",
        type=Path,
        default=Path("node_modules/onnxruntime-web"),
        metavar="FOLDER",
        help="with --web: onnxruntime-web as npm has installed it (default: node_modules/onnxruntime-web)",
    )
    parser.add_argument("--size", type=size, metavar="HxW", help="only pictures of this height and width")
    parser.set_defaults(run=run)


def size(text: str) -> tuple[int, int]:
    """Parse a height and a width, "384x512".

    Raises:
        ArgumentTypeError: If it is none.
    """
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text} is no size; write height and width as 384x512")
    return int(found[1]), int(found[2])


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    check_metric_name(args.metric)
    check_output(args.output, "--output")
    if args.web is not None and (args.size is not None or args.format != "onnx"):
        raise UsageError("--web writes ONNX for pictures of any size; leave out --size and --format")
    from iqametrics.exporting.export import export_metric
    from iqametrics.exporting.web import export_page, read_runtime

    runtime = None if args.web is None else read_runtime(args.runtime)
    metric = make_metrics([args.metric], "cpu", "float32")[0]
    if sys.stderr.isatty():
        complain("note: tracing takes a minute or two; the file is then compared with the metric")
    start = time.perf_counter()
    licence = metric_info(args.metric).metadata.get("licence")
    if runtime is None:
        done = export_metric(metric, args.output, format=args.format, size=args.size, licence=licence)
    else:
        done = export_page(metric, args.web, runtime, licence=licence)
    print(printable(f"{metric.full_name}, {done.record['fingerprint']}"))
    target = args.output or args.web / "index.html"
    print(printable(f"written: {target} ({done.bytes / 1e6:.1f} MB, {time.perf_counter() - start:.0f} s)"))
    sizes = ", ".join(f"{count} of {width}x{height}" for count, height, width in done.proof.cases)
    print(f"proven with {done.proof.runtime}: largest difference of a score {done.proof.largest:.1e} on {sizes}")
    print(printable(f"licence: {done.record['licence']}"))
    return EXIT_OK
