"""`iqametrics evaluate`: agreement of a metric with the opinion scores of a CSV file."""

import argparse
import csv
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqametrics.cli.common import (
    EXIT_FAILED,
    EXIT_OK,
    UsageError,
    add_compute_options,
    check_metric_name,
    complain,
    make_metric,
)
from iqametrics.cli.output import open_rows
from iqametrics.cli.score import score_with_progress
from iqametrics.errors import DataError
from iqametrics.registry import metric_spec

if TYPE_CHECKING:
    from iqametrics.datasets.sample import Sample
    from iqametrics.scoring import Row

COLUMNS = ("image", "reference", "metric", "mos", "score", "error")


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "evaluate",
        help="compare a metric with opinion scores",
        description="Score the images of a CSV with the columns image,mos[,reference] and tell how well they agree "
        "with the opinions: SRCC with its 95%% bootstrap interval, PLCC, PLCC and RMSE after a logistic fit, KRCC.",
    )
    parser.add_argument("--metric", required=True, metavar="NAME", help="metric, with or without a checkpoint's tag")
    parser.add_argument("--csv", required=True, type=Path, metavar="FILE", help="the CSV file")
    parser.add_argument("--root", type=Path, metavar="DIR", help="folder of the images (default: that of the CSV)")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="form of the output")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the score of each image there, as CSV")
    add_compute_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    check_metric_name(args.metric)
    if args.save is not None and (args.save.is_dir() or not args.save.parent.is_dir()):
        raise UsageError(f"--save {args.save} is a folder or lies in one that does not exist; give a file")
    samples, opinions = read_opinions(args.csv, args.root)
    if metric_spec(args.metric).mode == "fr" and any(sample.reference is None for sample in samples):
        raise DataError(f"{args.csv}: {args.metric} compares with a reference; fill in the column reference")
    rows = _score(args, samples, opinions)
    from iqametrics.evaluation import evaluate

    known = [(row.score, index) for index, row in enumerate(rows) if row.score is not None]
    groups: list[str] | None = [samples[i].group or str(samples[i].reference or samples[i].image) for _, i in known]
    if len(set(groups or ())) == 1:
        complain("note: all images share one group or reference, so the interval holds for this one only")
        groups = None
    figures = evaluate([score for score, _ in known], [opinions[i] for _, i in known], groups=groups).to_dict()
    record = {"metric": rows[0].metric, "csv": str(args.csv), **figures, "failed": len(rows) - len(known)}
    if args.format == "json":
        print(json.dumps(record, indent=2))
    else:
        width = max(map(len, record))
        for name, value in record.items():
            print(f"{name:<{width}}  {f'{value:.4f}' if isinstance(value, float) else value}")
    return EXIT_FAILED if len(known) < len(rows) else EXIT_OK


def read_opinions(path: Path, root: Path | None) -> "tuple[list[Sample], list[float]]":
    """Read a CSV whose opinion scores are on any scale; return its samples and the scores on that scale.

    Raises:
        DataError: The CSV is missing or wrong.
    """
    from iqametrics.datasets.csv_dataset import read_csv_dataset

    # The reader maps a stated scale to [0, 1]; correlations need none, so the scale is that of the file itself.
    span = _span(path)
    samples = read_csv_dataset(path, root, mos_range=span)
    low, high = span or (0.0, 1.0)
    return samples, [low + sample.mos * (high - low) for sample in samples]


def _span(path: Path) -> tuple[float, float] | None:
    """Least and greatest opinion score of a CSV; None where the reader is to say what is wrong with it."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            column = [name.strip() for name in next(rows)].index("mos")
            values = [float(row[column]) for row in rows if any(cell.strip() for cell in row)]
    except (OSError, ValueError, IndexError, StopIteration, csv.Error):
        return None
    if not values or not all(map(math.isfinite, values)) or min(values) == max(values):
        return None
    return min(values), max(values)


def _score(args: argparse.Namespace, samples: "list[Sample]", opinions: list[float]) -> "list[Row]":
    from iqametrics.scoring import Item

    metric = make_metric(args.metric, args.device, args.dtype)
    items = [Item(str(s.image), None if s.reference is None else str(s.reference)) for s in samples]
    rows = list(score_with_progress([metric], items, args))
    if args.save is not None:
        with open_rows("csv", COLUMNS, args.save) as writer:
            for row, opinion in zip(rows, opinions, strict=True):
                writer.write({**vars(row), "mos": opinion})
    return rows
