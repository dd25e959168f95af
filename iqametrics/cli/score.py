"""`iqametrics score`: images in, one row an image and metric out."""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqametrics.cli.common import (
    EXIT_BELOW,
    EXIT_FAILED,
    EXIT_OK,
    METRIC,
    METRIC_HELP,
    UsageError,
    add_compute_options,
    check_metric_name,
    complain,
    finite,
    make_metrics,
)
from iqametrics.cli.output import FORMATS, open_rows
from iqametrics.registry import metric_spec

if TYPE_CHECKING:
    from iqametrics.metric import Metric
    from iqametrics.scoring import Item, Row

COLUMNS = ("image", "reference", "metric", "score", "error")
_EPILOG = """\
exit status: 0 all scored; 1 an image could not be scored (its row says why); 2 wrong usage;
3 all scored, but a score fails --fail-below; 130 interrupted (the rows so far are written)."""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "score",
        help="score images",
        description="Score images. Rows come in the order of the images; a bad file is reported and the rest scored.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="file, folder, or - for paths on stdin, one a line")
    parser.add_argument(
        "--metric",
        action="append",
        required=True,
        metavar=METRIC,
        help=f"{METRIC_HELP}; may be repeated",
    )
    references = parser.add_mutually_exclusive_group()
    references.add_argument("--ref", metavar="REF", help="reference of all the images, for full-reference metrics")
    references.add_argument(
        "--ref-dir", metavar="DIR", help="folder of references, paired by relative path, then by unique stem"
    )
    parser.add_argument("--recursive", action="store_true", help="search folders with their subfolders")
    parser.add_argument("--format", choices=FORMATS, default="table", help="form of the output (default: table)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there, whole or not at all, not on stdout")
    parser.add_argument(
        "--fail-below", type=finite, metavar="X", help="status 3 when a score is worse than X, whatever the direction"
    )
    add_compute_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    _check(args)
    from iqametrics.cli.inputs import find_items

    stdin = (line for line in sys.stdin)
    items: Iterable[Item] = find_items(
        args.images, stdin=stdin, recursive=args.recursive, ref=args.ref, ref_dir=args.ref_dir
    )
    if "-" not in args.images:
        items = list(items)
    metrics = make_metrics(args.metric, args.device, args.dtype)
    failed = below = False
    with open_rows(args.format, COLUMNS, args.output) as writer:
        for row in score_with_progress(metrics, items, args):
            writer.write(to_record(row))
            failed |= row.error is not None
            below |= args.fail_below is not None and _is_worse(row, metrics, args.fail_below)
    if failed:
        return EXIT_FAILED
    return EXIT_BELOW if below else EXIT_OK


def score_with_progress(metrics: "list[Metric]", items: "Iterable[Item]", args: argparse.Namespace) -> "Iterator[Row]":
    """Score items, with errors as lines on stderr and a progress bar where that is a terminal."""
    from tqdm import tqdm

    from iqametrics.scoring import score_items

    total = len(items) * len(metrics) if isinstance(items, list) else None
    rows = score_items(metrics, items, batch_size=args.batch_size, workers=args.workers)
    # Rows that go to a terminal as they come would run into the bar.
    shown = getattr(args, "format", "table") == "table" or getattr(args, "output", None) or not sys.stdout.isatty()
    last = None
    with tqdm(total=total, unit="score", leave=False, disable=None if shown else True) as bar:
        for row in rows:
            if row.error is not None and (row.image, row.error) != last:
                last = (row.image, row.error)
                bar.clear()
                complain(row.error if row.image in row.error else f"{row.image}: {row.error}")
            bar.update()
            yield row


def to_record(row: "Row") -> dict[str, Any]:
    """Turn a row into what is written."""
    record = {"image": row.image, "reference": row.reference, "metric": row.metric, "score": row.score}
    return record if row.error is None else {**record, "error": row.error}


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot work before anything slow is imported."""
    for name in args.metric:
        check_metric_name(name)
    full_reference = [name for name in args.metric if metric_spec(name).mode == "fr"]
    given = "--ref" if args.ref is not None else "--ref-dir" if args.ref_dir is not None else None
    if full_reference and given is None:
        raise UsageError(f"{full_reference[0]} compares with a reference; give --ref or --ref-dir")
    if given and not full_reference:
        raise UsageError(f"{' and '.join(args.metric)} takes no reference; leave out {given}")
    if args.images.count("-") > 1:
        raise UsageError("- (paths on stdin) can be given once only")
    if args.output is not None and (args.output.is_dir() or not args.output.parent.is_dir()):
        raise UsageError(f"--output {args.output} is a folder or lies in one that does not exist; give a file")


def _is_worse(row: "Row", metrics: "list[Metric]", limit: float) -> bool:
    higher_is_better = {metric.full_name: metric.higher_is_better for metric in metrics}[row.metric]
    return row.score is not None and (row.score < limit if higher_is_better else row.score > limit)
