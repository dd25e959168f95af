"""`iqametrics evaluate`: agreement of metrics with the opinion scores of a dataset or a CSV file."""

import argparse
import contextlib
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqametrics.cli.common import (
    EXIT_FAILED,
    EXIT_OK,
    METRIC,
    METRIC_HELP,
    UsageError,
    add_compute_options,
    add_view_option,
    check_metric_name,
    check_output,
    complain,
    make_metrics,
)
from iqametrics.cli.journal import check_resume, open_journal
from iqametrics.cli.output import TableWriter, open_rows
from iqametrics.cli.score import score_with_progress
from iqametrics.cli.seen import note_on_training_images
from iqametrics.datasets.labelled import ChosenImages, LabelledImages
from iqametrics.errors import DataError
from iqametrics.registry import metric_spec

if TYPE_CHECKING:
    from iqametrics.metric import Metric

COLUMNS = ("image", "reference", "metric", "mos", "score", "error")
_FIGURES = (
    *("metric", "n", "srcc", "srcc_low", "srcc_high", "plcc", "plcc_logistic", "plcc_logistic5", "krcc", "rmse"),
    *("outlier_ratio", "failed", "error"),
)
_PAIRS = (
    *("a", "b", "n", "value_a", "value_b", "difference", "low", "high", "p_bootstrap", "p_bootstrap_holm"),
    *("williams_t", "p_williams", "p_williams_holm"),
)


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "evaluate",
        help="compare metrics with opinion scores",
        description="Score the images of a dataset, or of a CSV with the columns image,mos[,reference], and tell how "
        "well the scores agree with the opinions: SRCC with its 95% bootstrap interval, PLCC (raw, and after a "
        "logistic curve of four and of five parameters), KRCC, RMSE, outlier ratio. Two or more metrics are compared "
        "on the same images: paired bootstrap, Williams' test, Holm's correction.",
    )
    parser.add_argument(
        "--metric",
        action="append",
        required=True,
        metavar=METRIC,
        help=f"{METRIC_HELP}; may be repeated",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--csv", type=Path, metavar="FILE", help="the CSV file")
    source.add_argument("--dataset", metavar="NAME", help="a dataset of `iqametrics datasets list`, with --root")
    parser.add_argument(
        "--root", type=Path, metavar="DIR", help="folder of the dataset, or of the CSV's images (default: the CSV's)"
    )
    parser.add_argument(
        "--split",
        default="all",
        metavar="SPLIT",
        help="which images: all (default), official (the test part of the dataset's own split), official:PART, "
        "random:SEED:PART; PART is train, validation or test",
    )
    parser.add_argument("--format", choices=("table", "json"), default="table", help="form of the output")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the score of each image there, as CSV")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="take over the scores that an earlier run had finished for --save, also where it was killed",
    )
    add_view_option(parser)
    add_compute_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    _check(args)
    images = LabelledImages(csv=str(args.csv or ""), dataset=args.dataset or "", root=str(args.root or ""))
    chosen = images.choose(args.split)
    for name in args.metric:
        if metric_spec(name).mode == "fr" and any(sample.reference is None for sample in chosen.samples):
            remedy = "fill in the column reference" if args.csv else "choose a no-reference metric"
            raise DataError(f"{args.csv or args.dataset}: {name} compares with a reference; {remedy}")
    metrics = make_metrics(args.metric, args.device, args.dtype, view=args.view)
    repeated = [name for name, count in Counter(metric.full_name for metric in metrics).items() if count > 1]
    if repeated:
        raise UsageError(f"two of the metrics are {repeated[0]}, so their rows could not be told apart; leave out one")
    for metric, name in zip(metrics, args.metric, strict=True):
        note_on_training_images(metric.full_name, name, chosen.facts)
    for note in images.notes(chosen.facts):
        complain(f"note: {note}")
    scores = _score(args, metrics, chosen)
    record = _report(metrics, scores, chosen)
    if args.format == "json":
        print(json.dumps(record, indent=2))
    else:
        _print_tables(record)
    failed = any(score is None for of_metric in scores.values() for score in of_metric)
    return EXIT_FAILED if failed else EXIT_OK


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot work before anything slow is imported."""
    for name in args.metric:
        check_metric_name(name)
    check_output(args.save, "--save")
    check_resume(args.save, "--save", resume=args.resume)
    if args.dataset is not None and args.root is None:
        raise UsageError(f"--dataset {args.dataset} needs --root, the folder into which it was unpacked")


def _score(
    args: argparse.Namespace, metrics: "Sequence[Metric]", chosen: ChosenImages
) -> dict[str, list[float | None]]:
    """Score the images; the scores of each metric. What is to be saved is written as it comes."""
    from iqametrics.scoring import Item

    items = [Item(str(s.image), None if s.reference is None else str(s.reference)) for s in chosen.samples]
    scores: dict[str, list[float | None]] = {metric.full_name: [] for metric in metrics}
    fingerprints = {metric.full_name: str(metric.fingerprint) for metric in metrics}
    saved = contextlib.nullcontext() if args.save is None else open_rows("csv", [*COLUMNS, "fingerprint"], args.save)
    with open_journal(args.save, metrics, resume=args.resume) as journal, saved as writer:
        for row in score_with_progress(list(metrics), items, args, total=len(items), journal=journal):
            if writer is not None:
                mos = chosen.opinions[len(scores[row.metric])]
                writer.write({**vars(row), "mos": mos, "fingerprint": fingerprints[row.metric]})
            scores[row.metric].append(row.score)
    return scores


def _report(metrics: "Sequence[Metric]", scores: dict[str, list[float | None]], chosen: ChosenImages) -> dict[str, Any]:
    """Give the record of one metric, or that of several with their comparison."""
    from iqametrics.evaluation.measure import notes, report

    found = report(
        scores,
        chosen.opinions,
        groups=chosen.groups,
        by=chosen.grouped_by,
        spreads=chosen.spreads if chosen.facts["spread"] else None,
        lower_is_better=[metric.full_name for metric in metrics if not metric.higher_is_better],
    )
    for note in notes(found):
        complain(f"note: {note}")
    about = {**chosen.facts, "groups": found["groups"]}
    about["fingerprints"] = {metric.full_name: str(metric.fingerprint) for metric in metrics}
    if len(metrics) > 1:
        return {**about, **{name: found[name] for name in ("results", "comparison", "definitions")}}
    (figures,) = found["results"]
    if "error" in figures:
        raise DataError(f"{figures['metric']}: {figures['error']}")
    return {"metric": figures.pop("metric"), **about, **figures, "definitions": found["definitions"]}


def _print_tables(record: dict[str, Any]) -> None:
    """Print the record for people: figures, comparison, and what stands behind the figures."""
    definitions, groups = record.pop("definitions"), record.pop("groups")
    results, pairs = record.pop("results", None), record.pop("comparison", None)
    used = "" if groups["used"] else ", so there is no interval"
    record = {**record, "groups": f"{groups['number']} by {groups['by']}{used}"}
    record["fingerprints"] = ", ".join(record["fingerprints"].values())
    if results is None:
        known = {name: meaning for name, meaning in definitions.items() if record[name] is not None}
        shown = {**record, **{name: f"{_cell(record[name])}  ({meaning})" for name, meaning in known.items()}}
        width = max(map(len, shown))
        for name, value in shown.items():
            if value is not None:
                print(f"{name:<{width}}  {_cell(value)}")
        return
    for name, value in record.items():
        if value is not None:
            print(f"{name}: {value}")
    for title, columns, rows in (
        ("", _FIGURES, results),
        ("SRCC of a minus SRCC of b, lower-is-better metrics turned:", _PAIRS, pairs),
    ):
        print(f"\n{title}" if title and rows else "")
        table = TableWriter(sys.stdout, columns)
        for row in rows:
            table.write(row)
        table.finish()
    print()
    for name, meaning in definitions.items():
        if name in _FIGURES:
            print(f"{name}: {meaning}")


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
