"""`iqametrics evaluate`: agreement of metrics with the opinion scores of a dataset or a CSV file."""

import argparse
import csv
import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqametrics.cli.common import (
    EXIT_FAILED,
    EXIT_OK,
    METRIC,
    METRIC_HELP,
    UsageError,
    add_compute_options,
    check_metric_name,
    complain,
    make_metrics,
)
from iqametrics.cli.output import TableWriter, open_rows
from iqametrics.cli.score import score_with_progress
from iqametrics.cli.seen import note_on_training_images
from iqametrics.errors import DataError
from iqametrics.registry import metric_spec

if TYPE_CHECKING:
    from iqametrics.datasets.sample import Sample
    from iqametrics.metric import Metric
    from iqametrics.scoring import Row

COLUMNS = ("image", "reference", "metric", "mos", "score", "error")
_FIGURES = (
    *("metric", "n", "srcc", "srcc_low", "srcc_high", "plcc", "plcc_logistic", "plcc_logistic5", "krcc", "rmse"),
    *("outlier_ratio", "failed", "error"),
)
_FEW_GROUPS = 20
_PAIRS = (
    *("a", "b", "n", "value_a", "value_b", "difference", "low", "high", "p_bootstrap", "p_bootstrap_holm"),
    *("williams_t", "p_williams", "p_williams_holm"),
)


@dataclass(frozen=True)
class Question:
    """The images that are asked about.

    Attributes:
        samples: the chosen images.
        opinions: their opinion scores, on the file's own scale for a CSV, in [0, 1] for a dataset.
        spreads: standard deviations of the opinions on the same scale; None where unknown.
        facts: what the record says of them: csv, dataset, split, and what the figures mean.
    """

    samples: "list[Sample]"
    opinions: list[float]
    spreads: list[float | None]
    facts: dict[str, Any]


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
    add_compute_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    _check(args)
    question = read_question(args)
    for name in args.metric:
        if metric_spec(name).mode == "fr" and any(sample.reference is None for sample in question.samples):
            remedy = "fill in the column reference" if args.csv else "choose a no-reference metric"
            raise DataError(f"{args.csv or args.dataset}: {name} compares with a reference; {remedy}")
    metrics = make_metrics(args.metric, args.device, args.dtype)
    repeated = [name for name, count in Counter(metric.full_name for metric in metrics).items() if count > 1]
    if repeated:
        raise UsageError(f"two of the metrics are {repeated[0]}, so their rows could not be told apart; leave out one")
    for metric, name in zip(metrics, args.metric, strict=True):
        note_on_training_images(metric.full_name, name, question.facts)
    _note_on_a_part(question.facts)
    rows = _score(args, metrics, question)
    record = _report(metrics, rows, question)
    if args.format == "json":
        print(json.dumps(record, indent=2))
    else:
        _print_tables(record)
    failed = any(row.score is None for of_metric in rows for row in of_metric)
    return EXIT_FAILED if failed else EXIT_OK


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot work before anything slow is imported."""
    for name in args.metric:
        check_metric_name(name)
    if args.save is not None and (args.save.is_dir() or not args.save.parent.is_dir()):
        raise UsageError(f"--save {args.save} is a folder or lies in one that does not exist; give a file")
    if args.dataset is not None and args.root is None:
        raise UsageError(f"--dataset {args.dataset} needs --root, the folder into which it was unpacked")


def read_question(args: argparse.Namespace) -> Question:
    """Read the dataset or CSV that the options name, and choose the images of the split.

    Raises:
        DataError: It is missing or wrong, or has no such split.
    """
    from iqametrics.datasets.protocol import select

    mode, (low, high) = None, (0.0, 1.0)
    facts: dict[str, Any]
    if args.dataset is None:
        samples, (low, high) = _read_csv(args.csv, args.root)
        spread = "the CSV's column mos_std" if all(sample.mos_std is not None for sample in samples) else None
        facts = {"csv": str(args.csv), "dataset": None, "opinions": "on the scale of the CSV", "spread": spread}
    else:
        samples, mode, facts = _read_dataset(args.dataset, args.root)
    chosen = select(samples, args.split, mode=mode)
    facts |= {"split": args.split, "images": len(chosen), "of_images": len(samples)}
    span = high - low
    spreads = [None if sample.mos_std is None else sample.mos_std * span for sample in chosen]
    return Question(chosen, [low + sample.mos * span for sample in chosen], spreads, facts)


def _read_dataset(name: str, root: Path) -> "tuple[list[Sample], str, dict[str, Any]]":
    from iqametrics.datasets.catalogue import dataset_spec, load_dataset, made_labels

    spec = dataset_spec(name)
    samples = load_dataset(name, root)
    facts: dict[str, Any] = {
        "csv": None,
        "dataset": name,
        "opinions": "{}, from {:g} (worst) to {:g} (best), as 0 to 1".format(spec.score_name, *spec.score_range),
        # Not every copy has it: a text file in place of a workbook, labels that were made.
        "spread": spec.spread if all(sample.mos_std is not None for sample in samples) else None,
    }
    if made_labels(root):
        facts["opinions"] = "made by iqametrics synthesize; nobody saw these images"
        complain(f"note: {root}: labels are {facts['opinions']}")
    else:
        facts["of_release"] = spec.images
    return samples, spec.mode, facts


def _note_on_a_part(facts: dict[str, Any]) -> None:
    """Say that a score file does not list what the release's does: it is cut off, or a part on purpose."""
    listed, released = facts["of_images"], facts.get("of_release")
    if released not in (None, listed):
        complain(
            f"note: the score file lists {listed:,} images, that of the release {released:,}; figures on these, and "
            f"random splits of them, are not those of {facts['dataset']}"
        )


def _read_csv(path: Path, root: Path | None) -> "tuple[list[Sample], tuple[float, float]]":
    """Read a CSV whose opinion scores are on any scale; return its samples, and what 0 and 1 are on that scale."""
    from iqametrics.datasets.csv_dataset import read_csv_dataset

    # The reader maps a stated scale to [0, 1]; correlations need none, so the scale is that of the file itself.
    span = _span(path)
    return read_csv_dataset(path, root, mos_range=span), span or (0.0, 1.0)


def _span(path: Path) -> tuple[float, float] | None:
    """Least and greatest opinion score of a CSV; None where the reader is to say what is wrong with it."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            column = [name.strip() for name in next(rows)].index("mos")
            values = [float(row[column]) for row in rows if any(cell.strip() for cell in row)]
    except (OSError, ValueError, IndexError, StopIteration, csv.Error):
        return None
    if not values or not all(map(math.isfinite, values)):
        return None
    low, high = min(values), max(values)
    return (low - 1, low + 1) if low == high else (low, high)


def _score(args: argparse.Namespace, metrics: "Sequence[Metric]", question: Question) -> "list[list[Row]]":
    """Score the images; the rows of each metric. What is to be saved is written as it comes."""
    from iqametrics.scoring import Item

    items = [Item(str(s.image), None if s.reference is None else str(s.reference)) for s in question.samples]
    stream = score_with_progress(list(metrics), items, args, total=len(items))
    if args.save is None:
        rows = list(stream)
    else:
        rows = []
        with open_rows("csv", COLUMNS, args.save) as writer:
            for row in stream:
                writer.write({**vars(row), "mos": question.opinions[len(rows) // len(metrics)]})
                rows.append(row)
    return [rows[number :: len(metrics)] for number in range(len(metrics))]


def _report(metrics: "Sequence[Metric]", rows: "list[list[Row]]", question: Question) -> dict[str, Any]:
    """Give the record of one metric, or that of several with their comparison."""
    from iqametrics.evaluation import DEFINITIONS

    by, groups = _groups(question.samples)
    alike = len(set(groups)) == 1
    if alike:
        complain("note: all images share one group or reference, so the interval holds for this one only")
    about = {**question.facts, "groups": {"by": by, "number": len(set(groups)), "used": not alike}}
    labels = None if alike else groups
    if not alike and by != "image" and len(set(groups)) < _FEW_GROUPS:
        complain(f"note: the images share only {len(set(groups))} {by}s, so intervals come out somewhat too narrow")
    records = [_figures(of_metric, question, labels) for of_metric in rows]
    for figures in records:
        for name, curve in (("logistic", "four"), ("logistic5", "five")):
            if figures.get(f"plcc_{name}") is not None and not figures[f"{name}_converged"]:
                complain(f"note: {figures['metric']}: the fit of the curve of {curve} parameters did not converge")
    if len(metrics) == 1:
        if "error" in records[0]:
            raise DataError(f"{records[0]['metric']}: {records[0]['error']}")
        metric, figures = records[0].pop("metric"), records[0]
        return {"metric": metric, **about, **figures, "definitions": dict(DEFINITIONS)}
    pairs = _compare(metrics, rows, question, labels)
    return {**about, "results": records, "comparison": pairs, "definitions": dict(DEFINITIONS)}


def _groups(samples: "Sequence[Sample]") -> tuple[str, list[str]]:
    """What the bootstrap draws together: images of a group, else of a reference, else each image for itself."""
    by = "image"
    if any(sample.reference for sample in samples):
        by = "reference"
    if any(sample.group for sample in samples):
        by = "group"
    return by, [sample.group or str(sample.reference or sample.image) for sample in samples]


def _figures(rows: "list[Row]", question: Question, groups: list[str] | None) -> dict[str, Any]:
    """Figures of one metric on the images that it could score, or why there are none."""
    from iqametrics.evaluation import evaluate

    known = [index for index, row in enumerate(rows) if row.score is not None]
    spread = [std for i in known if (std := question.spreads[i]) is not None]
    record: dict[str, Any] = {"metric": rows[0].metric}
    try:
        figures = evaluate(
            _scores(rows, known),
            [question.opinions[i] for i in known],
            groups=_of(groups, known),
            spread=spread if question.facts["spread"] and len(spread) == len(known) else None,
        )
        record |= figures.to_dict()
    except DataError as error:
        record |= {"n": len(known), "error": str(error)}
    return {**record, "failed": len(rows) - len(known)}


def _compare(
    metrics: "Sequence[Metric]", rows: "list[list[Row]]", question: Question, groups: list[str] | None
) -> list[dict[str, Any]]:
    """Compare the metrics on the images that all of them could score."""
    from iqametrics.evaluation import compare_metrics

    known = [i for i in range(len(question.samples)) if all(of_metric[i].score is not None for of_metric in rows)]
    try:
        pairs = compare_metrics(
            {of_metric[0].metric: _scores(of_metric, known) for of_metric in rows},
            [question.opinions[i] for i in known],
            lower_is_better=[metric.full_name for metric in metrics if not metric.higher_is_better],
            groups=_of(groups, known),
        )
    except DataError as error:
        complain(f"note: the metrics are not compared: {error}")
        return []
    return [pair.to_dict() for pair in pairs]


def _scores(rows: "list[Row]", known: list[int]) -> list[float]:
    return [score for i in known if (score := rows[i].score) is not None]


def _of(groups: list[str] | None, known: list[int]) -> list[str] | None:
    """Groups of the images that are known; None where they are all in one, which cannot be resampled."""
    chosen = [groups[i] for i in known] if groups else []
    return chosen if len(set(chosen)) > 1 else None


def _print_tables(record: dict[str, Any]) -> None:
    """Print the record for people: figures, comparison, and what stands behind the figures."""
    definitions, groups = record.pop("definitions"), record.pop("groups")
    results, pairs = record.pop("results", None), record.pop("comparison", None)
    used = "" if groups["used"] else ", not used: each image was drawn for itself"
    record = {**record, "groups": f"{groups['number']} by {groups['by']}{used}"}
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
