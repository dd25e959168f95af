"""`iqametrics compare`: the pictures of one folder against those of another, such as two encoders' outputs."""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqametrics.cli.common import (
    EXIT_BELOW,
    EXIT_FAILED,
    EXIT_OK,
    UsageError,
    add_compute_options,
    add_view_option,
    check_output,
    complain,
    make_metrics,
)
from iqametrics.cli.output import FORMATS, TableWriter, open_rows, open_text
from iqametrics.cli.score import (
    add_config_option,
    add_html_option,
    add_metric_option,
    check_metrics,
    fingerprint_column,
    score_with_progress,
    to_record,
)
from iqametrics.errors import InputError
from iqametrics.gate.change import FEW, TIE, Change, measure_change

if TYPE_CHECKING:
    from iqametrics.cli.inputs import ReferenceFolder
    from iqametrics.metric import Metric
    from iqametrics.scoring import Item, Row

COLUMNS = ("image", "metric", "score_a", "score_b", "difference", "better", "prefer_b", "error")
_SUMMARY = (
    "metric",
    "n",
    "mean_a",
    "mean_b",
    "difference",
    "low",
    "high",
    "p_value",
    "wins",
    "losses",
    "ties",
    "worse",
)


@dataclass(frozen=True)
class PicturePair:
    """A picture in both folders.

    Attributes:
        name: Path from the folders, as in A.
        a: What to score of A.
        b: What to score of B; where there is none, an item with the error.
    """

    name: str
    a: "Item"
    b: "Item"


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "compare",
        help="compare the scores of two folders of pictures",
        description="Score the pictures of A and B, paired by name, and tell how B differs from A: picture by picture, "
        "and on average with a 95% bootstrap interval, Wilcoxon's signed-rank test, wins and losses of B.",
        epilog="exit status: 0 done; 1 a picture has no partner or could not be scored; 2 wrong usage; 3 B is worse "
        "(--fail-if-worse).",
    )
    parser.add_argument("a", metavar="A", help="folder, or one picture: what was there before")
    parser.add_argument("b", metavar="B", help="folder, or one picture: what is asked about")
    add_metric_option(parser)
    references = parser.add_mutually_exclusive_group()
    references.add_argument("--ref", metavar="REF", help="reference of all the pictures, for full-reference metrics")
    references.add_argument("--ref-dir", metavar="DIR", help="folder of references, paired by name")
    parser.add_argument("--recursive", action="store_true", help="search the folders with their subfolders")
    parser.add_argument("--format", choices=FORMATS, default="table", help="form of the output (default: table)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there, whole or not at all, not on stdout")
    add_html_option(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress and no notes")
    parser.add_argument(
        "--meaning",
        action="store_true",
        help="a column that says how likely people prefer the picture of B, where that is known of the metric",
    )
    parser.add_argument(
        "--fail-if-worse",
        action="store_true",
        help="status 3 where B is worse by a metric: the mean, with its whole interval",
    )
    add_config_option(parser)
    add_view_option(parser)
    add_compute_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    _check(args)
    pairs, notes = _pairs(args)
    metrics = make_metrics(args.metric, args.device, args.dtype, quiet=args.quiet, view=args.view)
    items = [item for pair in pairs for item in (pair.a, pair.b)]
    rows = list(score_with_progress(metrics, items, args, total=len(items)))
    # Rows come image by image, and within an image metric by metric.
    sides = [rows[start : start + len(metrics)] for start in range(0, len(rows), len(metrics))]
    of_a, of_b = sides[::2], sides[1::2]
    changes = [_change(number, metric, of_a, of_b) for number, metric in enumerate(metrics)]
    records = [
        _record(pair.name, a, b, metric, meaning=args.meaning)
        for pair, a_rows, b_rows in zip(pairs, of_a, of_b, strict=True)
        for a, b, metric in zip(a_rows, b_rows, metrics, strict=True)
    ]
    known = [change for change in changes if change is not None]
    _write(args, records, known)
    if args.html is not None and known:
        _write_html(args, of_a, of_b, metrics)
    for note in [] if args.quiet else notes:
        complain(f"note: {note}")
    if not args.quiet and any(change.n < FEW for change in known):
        complain(f"note: fewer than {FEW} pictures: the interval of their mean difference says little")
    if any("error" in record for record in records):
        return EXIT_FAILED
    return EXIT_BELOW if args.fail_if_worse and any(change.worse for change in known) else EXIT_OK


def _check(args: argparse.Namespace) -> None:
    asked = check_metrics(args.metric, "compare")
    given = "--ref" if args.ref is not None else "--ref-dir" if args.ref_dir is not None else None
    for metric in asked:
        if metric.spec.mode == "fr" and given is None:
            raise UsageError(f"{metric.text} compares with a reference; give --ref or --ref-dir")
    if given and all(metric.spec.mode == "nr" for metric in asked):
        raise UsageError(f"{' and '.join(args.metric)} takes no reference; leave out {given}")
    if os.path.isdir(args.a) != os.path.isdir(args.b):
        raise UsageError(f"{args.a} and {args.b}: one is a folder and one is not; give two folders or two pictures")
    check_output(args.output, "--output")
    check_output(args.html, "--html")


def _pairs(args: argparse.Namespace) -> tuple[list[PicturePair], list[str]]:
    """Pair the pictures of A and B by name, those without a partner with an error; and tell what was passed over."""
    from iqametrics.cli.inputs import Inputs, ReferenceFolder
    from iqametrics.scoring import Item

    before = Inputs([args.a], recursive=args.recursive, ref=args.ref, ref_dir=args.ref_dir)
    found = list(before)
    if not os.path.isdir(args.a):
        other = Item(args.b, found[0].reference, reference_error=found[0].reference_error)
        return [PicturePair(args.a, found[0], other)], []
    after = Inputs([args.b], recursive=args.recursive)
    partners = ReferenceFolder(str(Path(args.b)))
    pairs = [_pair(item, Path(args.a), partners) for item in found]
    for item in after:
        if item.image not in partners.used and item.error is None:
            missing = Item(item.image, error=f"{item.image}: has no partner in {args.a}; put it there by the same name")
            pairs.append(PicturePair(Path(item.image).relative_to(args.b).as_posix(), missing, missing))
    return pairs, [*before.notes(), *after.notes()]


def _pair(item: "Item", folder: Path, partners: "ReferenceFolder") -> PicturePair:
    from iqametrics.scoring import Item

    if item.error is not None:
        return PicturePair(item.image, item, item)
    name = Path(item.image).relative_to(folder)
    try:
        other = Item(partners.partner(name), item.reference, reference_error=item.reference_error)
    except InputError as error:
        other = Item(str(Path(partners.root) / name), error=str(error))
    return PicturePair(name.as_posix(), item, other)


def _change(
    number: int, metric: "Metric", of_a: "Sequence[Sequence[Row]]", of_b: "Sequence[Sequence[Row]]"
) -> Change | None:
    """Measure how B differs on the pictures that both have a score for; None where there is none."""
    both = [(a[number], b[number]) for a, b in zip(of_a, of_b, strict=True)]
    scored = [(a, b) for a, b in both if a.score is not None and b.score is not None]
    if not scored:
        return None
    return measure_change(
        metric.full_name,
        [a.score for a, _ in scored if a.score is not None],
        [b.score for _, b in scored if b.score is not None],
        higher_is_better=metric.higher_is_better,
    )


def _record(name: str, a: "Row", b: "Row", metric: "Metric", *, meaning: bool) -> dict[str, Any]:
    record: dict[str, Any] = {"image": name, "metric": a.metric, "score_a": a.score, "score_b": b.score}
    record["fingerprint"] = str(metric.fingerprint)
    if a.score is None or b.score is None:
        return {**record, "difference": None, "better": None, "error": a.error or b.error}
    difference = b.score - a.score
    gain = difference if metric.higher_is_better else -difference
    record |= {"difference": difference, "better": "tie" if abs(gain) <= TIE else "b" if gain > 0 else "a"}
    if meaning and metric.meaning is not None:
        record["prefer_b"] = round(metric.meaning.preference(b.score, a.score), 4)
    return record


def _write(args: argparse.Namespace, records: Sequence[dict[str, Any]], changes: Sequence[Change]) -> None:
    """Write pictures and summary: both in a table or JSON; in CSV and JSON Lines the summary goes to stderr."""
    if args.format == "json":
        with open_text(args.output) as stream:
            whole = {"a": args.a, "b": args.b, "summary": [c.to_dict() for c in changes], "pictures": records}
            stream.write(json.dumps(whole, indent=2, allow_nan=False) + "\n")
        return
    if args.format == "table":
        with open_text(args.output) as stream:
            _write_tables(stream, records, changes)
        return
    columns = [column for column in COLUMNS if column != "prefer_b" or args.meaning]
    with open_rows(args.format, [*columns, *fingerprint_column(args.format)], args.output) as writer:
        for record in records:
            writer.write(record)
    for change in changes:
        complain(_sentence(change))


def _write_html(
    args: argparse.Namespace,
    of_a: "Sequence[Sequence[Row]]",
    of_b: "Sequence[Sequence[Row]]",
    metrics: "Sequence[Metric]",
) -> None:
    """Write the page of B set against A."""
    from iqametrics.report.records import collect
    from iqametrics.report.write import Options, write_report

    made = {metric.full_name: str(metric.fingerprint) for metric in metrics}
    a, b = (
        collect(title, [to_record(row) | {"fingerprint": made[row.metric]} for rows in side for row in rows])
        for title, side in ((args.a, of_a), (args.b, of_b))
    )
    write_report(args.html, b, a, options=Options(root=Path()))


def _write_tables(stream: Any, records: Sequence[dict[str, Any]], changes: Sequence[Change]) -> None:
    pictures = TableWriter(stream, COLUMNS)
    for record in records:
        pictures.write({**record, "fails": record["better"] == "a" or None})
    pictures.finish()
    if changes:
        stream.write("\nB against A (differences are B minus A):\n")
    summary = TableWriter(stream, _SUMMARY)
    for change in changes:
        summary.write({**change.to_dict(), "worse": "yes" if change.worse else "no"})
    summary.finish()


def _sentence(change: Change) -> str:
    spread = f"95% interval {change.low:+.4f} to {change.high:+.4f}, p {change.p_value:.2g}"
    return (
        f"{change.metric}: {change.difference:+.4f} on average over {change.n} pictures ({spread}), "
        f"{change.wins} better, {change.losses} worse, {change.ties} equal"
    )
