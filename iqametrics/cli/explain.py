"""`iqametrics explain`: where a score came from."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqametrics.cli.common import (
    EXIT_OK,
    METRIC,
    METRIC_HELP,
    UsageError,
    add_view_option,
    check_metric_name,
    check_output,
    make_metrics,
)
from iqametrics.cli.output import printable
from iqametrics.common.devices import AUTO, DEVICES

if TYPE_CHECKING:
    from iqametrics.images.explanation import Explanation


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "explain",
        help="show where a score came from",
        description="Score a picture and keep what the metric tells of the score: facts, and maps laid over the "
        "picture. What the maps mean is in docs/explain.md.",
    )
    parser.add_argument("image", metavar="IMAGE", help="the picture")
    parser.add_argument("--metric", required=True, metavar=METRIC, help=METRIC_HELP)
    parser.add_argument("--ref", metavar="REF", help="its reference, for a full-reference metric")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FOLDER|FILE.html",
        help="folder for explanation.json and PNG files, or one page with everything in it",
    )
    parser.add_argument(
        "--figure", type=Path, metavar="FILE", help="the paper's figure of maps as one picture too, PNG or JPEG"
    )
    add_view_option(parser)
    parser.add_argument("--device", choices=DEVICES, default=AUTO, help="(default: auto)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    check_metric_name(args.metric)
    if args.output.suffix.lower() == ".html":
        check_output(args.output, "--output")
    elif args.output.exists() and not args.output.is_dir():
        raise UsageError(f"--output {args.output} is a file; give a folder, or a file that ends in .html")
    check_output(args.figure, "--figure")
    metric: Any = make_metrics([args.metric], args.device, "float32", view=args.view)[0]
    if not hasattr(metric, "explain"):
        raise UsageError(f"{metric.full_name} does not explain its scores; bpclip-fr, bpclip-nr and pfd-iqa do")
    if metric.mode == "fr" and args.ref is None:
        raise UsageError(f"{metric.full_name} compares with a reference; give --ref")
    if metric.mode == "nr" and args.ref is not None:
        raise UsageError(f"{metric.full_name} takes no reference; leave out --ref")
    explain = metric.tile_scores if args.view == "native" else metric.explain
    explanation: Explanation = explain(args.image, *([args.ref] if args.ref is not None else []))
    files = explanation.save(args.output)
    if args.figure is not None:
        explanation.save_figure(args.figure)
    for name, text in explanation.facts().items():
        print(printable(f"{name}: {text}"))
    print(printable(f"written: {args.output} ({len(files)} file{'s' if len(files) > 1 else ''})"))
    return EXIT_OK
