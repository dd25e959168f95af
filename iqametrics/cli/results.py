"""`iqametrics results`: add an open result, check results, show them as a table."""

import argparse
import shlex
import sys
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
    check_metric_name,
    check_output,
    complain,
    make_metrics,
)
from iqametrics.cli.output import FORMATS, open_rows
from iqametrics.cli.score import score_with_progress
from iqametrics.cli.seen import known_images
from iqametrics.datasets.labelled import ChosenImages, LabelledImages
from iqametrics.errors import DataError
from iqametrics.registry import metric_spec
from iqametrics.results import TRAINED

if TYPE_CHECKING:
    from iqametrics.metric import Metric


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "results",
        help="add, check and list open results",
        description="Open results are JSON files, one for each metric and set of images, with the score of each "
        "image. Their form is iqametrics/results/schema.json.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True, dest="action")
    _add_add(actions)
    check = actions.add_parser(
        "validate",
        help="check results",
        description="Check the form of results, and whether they contradict themselves. With the images at hand, also "
        "compare the files and opinions by their digests and compute the figures again. Exit status 1 if anything is "
        "wrong.",
    )
    check.add_argument("paths", nargs="+", type=Path, metavar="FILE|FOLDER", help="results")
    _add_images(check, required=False)
    check.set_defaults(run=run_validate)
    table = actions.add_parser("table", help="show results as a table", description="Show results, the best first.")
    table.add_argument("paths", nargs="+", type=Path, metavar="FILE|FOLDER", help="results")
    table.add_argument("--format", choices=FORMATS, default="table", help="form of the output (default: table)")
    table.set_defaults(run=run_table)


def _add_add(actions: Any) -> None:
    add = actions.add_parser(
        "add",
        help="measure a metric and write the result",
        description="Score the images of a dataset or CSV and write the result: the score of each image, digests, "
        "figures with an interval, versions, hardware. No opinion of an image is written.",
    )
    add.add_argument("--metric", required=True, metavar=METRIC, help=METRIC_HELP)
    _add_images(add, required=True)
    add.add_argument("--title", required=True, metavar="TEXT", help='the images in words: "BIQ2021, 400 held-out"')
    add.add_argument("--source", required=True, metavar="TEXT", help="where anybody gets images and opinions")
    add.add_argument(
        "--trained",
        required=True,
        choices=TRAINED,
        help="does the checkpoint know these images: no; models were chosen on them; trained on some of them",
    )
    add.add_argument("--selection", required=True, metavar="TEXT", help="the rule by which the checkpoint was chosen")
    add.add_argument(
        "--paper", metavar="TABLE:ROW", help="row of a paper's table with the same method, images and split"
    )
    add.add_argument("--output", required=True, type=Path, metavar="FILE", help="the result, a JSON file")
    add_compute_options(add)
    add.set_defaults(run=run_add)


def _add_images(parser: argparse.ArgumentParser, *, required: bool) -> None:
    source = parser.add_mutually_exclusive_group(required=required)
    source.add_argument("--csv", type=Path, metavar="FILE", help="the images as a CSV: image,mos[,reference,group]")
    source.add_argument("--dataset", metavar="NAME", help="a dataset of `iqametrics datasets list`, with --root")
    parser.add_argument("--root", type=Path, metavar="DIR", help="folder of the dataset, or of the CSV's images")
    parser.add_argument("--images", type=Path, metavar="FILE", help="only the images that this file names, one a line")
    parser.add_argument("--split", default="all", metavar="SPLIT", help="which images, as for evaluate (default: all)")


def run_add(args: argparse.Namespace) -> int:
    """Run `results add` and return its exit status."""
    from iqametrics.results.check import form_problems, inner_problems
    from iqametrics.results.record import Claim, make_record, write_record

    check_metric_name(args.metric)
    check_output(args.output, "--output")
    images, chosen = _choose(args)
    if metric_spec(args.metric).mode == "fr" and any(sample.reference is None for sample in chosen.samples):
        raise DataError(f"{images.title}: {args.metric} compares with a reference, and not every image has one")
    paper = _paper(args.paper, args.dataset)
    (metric,) = make_metrics([args.metric], args.device, args.dtype, quiet=True)
    _check_trained(args, metric, chosen)
    record = make_record(
        metric.fingerprint,
        higher_is_better=metric.higher_is_better,
        images=images,
        chosen=chosen,
        scores=_scores(args, metric, chosen),
        claim=Claim(title=args.title, source=args.source, trained=args.trained, selection=args.selection, paper=paper),
        made=_made(),
    )
    problems = [*form_problems(record)] or [*inner_problems(record)]
    if problems:
        raise DataError(f"the result cannot be written: {problems[0]}")
    write_record(args.output, record)
    figures = record["figures"]
    print(f"{args.output}: {metric.full_name}, {figures['n']} images, SRCC {figures['srcc']:.4f}")
    return EXIT_OK


def _choose(args: argparse.Namespace) -> tuple[LabelledImages, ChosenImages]:
    if args.dataset is not None and args.root is None:
        raise UsageError(f"--dataset {args.dataset} needs --root, the folder into which it was unpacked")
    images = LabelledImages(
        csv=str(args.csv or ""), dataset=args.dataset or "", root=str(args.root or ""), images=str(args.images or "")
    )
    return images, images.choose(args.split)


def _check_trained(args: argparse.Namespace, metric: "Metric", chosen: ChosenImages) -> None:
    """Refuse "no" where the checkpoint's own record names these data."""
    known = known_images(args.metric, chosen.facts)
    if args.trained == "no" and known is not None:
        raise UsageError(
            f"{metric.full_name} names {known!r} among what it was made from; say --trained choice or --trained yes, "
            "or give the data another name if it has not seen these images"
        )


def _scores(args: argparse.Namespace, metric: "Metric", chosen: ChosenImages) -> list[float]:
    from iqametrics.scoring import Item

    items = [Item(str(s.image), None if s.reference is None else str(s.reference)) for s in chosen.samples]
    rows = list(score_with_progress([metric], items, args, total=len(items)))
    scores = [row.score for row in rows if row.score is not None]
    if len(scores) < len(rows):
        raise DataError(f"{len(rows) - len(scores)} images could not be scored, and a result is on all of them")
    return scores


def _paper(named: str | None, dataset: str | None) -> dict[str, Any] | None:
    """Look up what a paper prints."""
    if named is None:
        return None
    from iqametrics.benchmark.tables import paper_table

    table, _, row = named.partition(":")
    cells = {
        cell.statistic: cell.value
        for cell in paper_table(table).cells
        if cell.row == row and cell.dataset == dataset and cell.statistic in ("srcc", "plcc")
    }
    if not cells:
        raise UsageError(
            f"{table} has no row {row!r} on the dataset {dataset}; see `iqametrics benchmark show {table}`"
        )
    return {"table": table, "row": row, "srcc": cells.get("srcc"), "plcc": cells.get("plcc")}


def _made() -> dict[str, Any]:
    """Describe this run, without folders, which are private."""
    from iqametrics.publishing.privacy import without_paths
    from iqametrics.training.environment import this_session

    session = this_session([], {})
    command = shlex.join(["iqametrics", *(without_paths(argument) for argument in sys.argv[1:])])
    kept = ("commit", "changed_since_commit", "date", "python", "packages", "hardware")
    return {"command": command, **{name: session[name] for name in kept}}


def run_validate(args: argparse.Namespace) -> int:
    """Run `results validate` and return its exit status."""
    from iqametrics.results.table import result_files

    at_hand = _choose(args) if args.csv is not None or args.dataset is not None else None
    bad = 0
    files = result_files(args.paths)
    for path in files:
        problems = _problems(path, at_hand)
        bad += bool(problems)
        for problem in problems:
            complain(f"{path}: {problem}")
    how = "form and contents" if at_hand is None else "form, contents, files, opinions and figures"
    print(f"{len(files) - bad} of {len(files)} results are good ({how})")
    return EXIT_FAILED if bad else EXIT_OK


def _problems(path: Path, at_hand: tuple[LabelledImages, ChosenImages] | None) -> Sequence[str]:
    """Return what is wrong with one file: by its form, else by itself, else by the data."""
    from iqametrics.results.check import data_problems, form_problems, inner_problems
    from iqametrics.results.record import read_record

    try:
        record = read_record(path)
        problems = form_problems(record) or inner_problems(record)
        return problems if problems or at_hand is None else data_problems(record, *at_hand)
    except DataError as error:
        return [str(error).removeprefix(f"{path}: ")]


def run_table(args: argparse.Namespace) -> int:
    """Run `results table` and return its exit status."""
    from iqametrics.results.table import COLUMNS, result_files, table_rows

    with open_rows(args.format, COLUMNS) as writer:
        for row in table_rows(result_files(args.paths)):
            writer.write(row)
    return EXIT_OK
