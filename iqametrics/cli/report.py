"""`iqametrics report`: a run of `score`, or a folder that is scored for it, as one page that opens from the disk."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqametrics.cli.common import (
    EXIT_FAILED,
    EXIT_OK,
    UsageError,
    add_compute_options,
    check_output,
    complain,
    make_metrics,
    positive,
)
from iqametrics.cli.score import add_config_option, add_metric_option, check_metrics, score_with_progress, to_record
from iqametrics.errors import DataError, IqaError

if TYPE_CHECKING:
    from iqametrics.metric import Metric
    from iqametrics.report.records import Scores
    from iqametrics.report.write import Options

_EMBEDDED = 200
_SCORE_FILES = (".json", ".jsonl", ".csv")


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "report",
        help="write a page to look through scores and pictures",
        description="Write one HTML file to look through the scores and pictures of a run: worst first, sorted, "
        "filtered, at full size, against references, opinions or another run. It opens from the disk and asks for "
        "nothing but its pictures, to which it has relative links.",
        epilog="exit status: 0 written; 1 a picture could not be scored or a file not be read; 2 wrong usage.",
    )
    parser.add_argument(
        "scores",
        metavar="SCORES",
        help="what score or evaluate --save wrote (json, jsonl, csv); or a "
        "folder, picture or video, which is scored with --metric",
    )
    parser.add_argument("--against", metavar="OTHER", help="an earlier run, or another encoder's: the like of SCORES")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the page, such as report.html")
    parser.add_argument("--mos", type=Path, metavar="FILE", help="opinion scores: a CSV with the columns image,mos")
    parser.add_argument(
        "--root",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="folder that the paths in SCORES are relative to (default: here)",
    )
    add_page_options(parser)
    scored = parser.add_argument_group("where SCORES or OTHER is to be scored")
    add_metric_option(scored)
    references = scored.add_mutually_exclusive_group()
    references.add_argument("--ref", metavar="REF", help="reference of all the pictures, for full-reference metrics")
    references.add_argument("--ref-dir", metavar="DIR", help="folder of references, paired by name")
    scored.add_argument("--recursive", action="store_true", help="search folders with their subfolders")
    parser.add_argument("--quiet", action="store_true", help="no progress and no notes")
    add_config_option(parser)
    add_compute_options(parser)
    parser.set_defaults(run=run)


def add_page_options(parser: Any) -> None:
    """Add the options on what a page holds besides the scores."""
    parser.add_argument(
        "--embed",
        nargs="?",
        type=positive,
        const=_EMBEDDED,
        default=0,
        metavar="N",
        help=f"put copies of the N worst pictures by each metric into the page (N: {_EMBEDDED}), so that it can be "
        "passed on, and formats that browsers do not show are seen",
    )
    parser.add_argument(
        "--explain", type=positive, default=0, metavar="N", help="lay explanation maps over the N worst by each metric"
    )


def page_options(args: argparse.Namespace, root: Path) -> "Options":
    """Give what the options of `add_page_options` ask for."""
    from iqametrics.report.write import Options

    return Options(root=root, embed=args.embed, explain=args.explain)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    sides = [side for side in (args.scores, args.against) if side is not None]
    to_score = [side for side in sides if not _is_score_file(side)]
    _check(args, sides, to_score)
    from iqametrics.report.records import read_scores
    from iqametrics.report.write import with_opinions, write_report

    metrics = make_metrics(args.metric, args.device, args.dtype, quiet=args.quiet) if to_score else []
    runs = [_scored(side, metrics, args) if side in to_score else read_scores(Path(side)) for side in sides]
    first, other = runs[0], runs[1] if len(runs) > 1 else None
    if args.mos is not None:
        first = with_opinions(first, args.mos)
    notes: list[str] = []
    if args.explain and not metrics:
        metrics = _named(first, args)
    size = write_report(args.output, first, other, options=page_options(args, args.root), metrics=metrics, notes=notes)
    if not args.quiet:
        complain(f"{args.output}: {len(first.pictures):,} pictures, {size / 1e6:.1f} MB")
    errors = to_score and any(picture.error for found in runs for picture in found.pictures)
    return EXIT_FAILED if errors else EXIT_OK


def _is_score_file(path: str) -> bool:
    return not os.path.isdir(path) and Path(path).suffix.lower() in _SCORE_FILES


def _check(args: argparse.Namespace, sides: Sequence[str], to_score: Sequence[str]) -> None:
    """Refuse what cannot work before anything slow is imported."""
    check_output(args.output, "--output")
    if args.output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--output {args.output} would be a page; call it FILE.html")
    for side in sides:
        if not os.path.exists(side):
            raise DataError(f"{side}: there is no such file or folder; check the path")
        if os.path.isfile(os.path.join(side, "plan.json")):
            raise UsageError(f"{side} is the folder of a benchmark's run; use iqametrics benchmark report {side}")
    if not to_score:
        return
    asked = check_metrics(args.metric, "report")
    given = args.ref is not None or args.ref_dir is not None
    for metric in asked:
        if metric.spec.mode == "fr" and not given:
            raise UsageError(f"{metric.text} compares with a reference; give --ref or --ref-dir")
    if len(to_score) == len(sides) and args.root != Path():
        raise UsageError("--root is for the paths in SCORES; leave it out where all is scored here")


def _scored(given: str, metrics: "Sequence[Metric]", args: argparse.Namespace) -> "Scores":
    from iqametrics.cli.inputs import Inputs
    from iqametrics.report.records import collect

    inputs = Inputs([given], recursive=args.recursive, ref=args.ref, ref_dir=args.ref_dir)
    fingerprints = {metric.full_name: str(metric.fingerprint) for metric in metrics}
    rows = score_with_progress(list(metrics), inputs, args, total=inputs.count())
    found = collect(given, [to_record(row) | {"fingerprint": fingerprints[row.metric]} for row in rows])
    for line in [] if args.quiet else inputs.notes():
        complain(f"note: {line}")
    return found


def _named(scores: "Scores", args: argparse.Namespace) -> "list[Metric]":
    """Make the metrics of a file of scores, to explain its pictures; those that cannot be made are told."""
    found = []
    for name in scores.metrics:
        try:
            (metric,) = make_metrics([name], args.device, args.dtype, quiet=True)
        except IqaError as error:
            complain(f"note: {name} is not explained ({error})")
            continue
        metric.alias = name
        if str(metric.fingerprint) != scores.fingerprints.get(name, str(metric.fingerprint)):
            complain(f"note: {name} is not the one that made the scores (another fingerprint); its maps may not fit")
        found.append(metric)
    return found
