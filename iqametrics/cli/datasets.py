"""`iqametrics datasets`: which there are, what is known of one, whether a folder holds it."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from iqametrics.cli.common import EXIT_FAILED, EXIT_OK, UsageError
from iqametrics.cli.output import FORMATS, open_rows
from iqametrics.errors import DataError

COLUMNS = ("name", "title", "mode", "images", "references", "score", "worst", "best", "spread", "official_split")


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "datasets",
        help="list, describe and verify datasets",
        description="List the datasets that can be read in the form in which they are distributed, tell what is known "
        "of one, or verify that a folder holds it.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True, dest="action")
    listing = actions.add_parser("list", help="list the datasets", description="List the datasets.")
    listing.add_argument("--mode", choices=("fr", "nr"), help="only those with (fr) or without (nr) references")
    listing.add_argument("--format", choices=FORMATS, default="table", help="form of the output (default: table)")
    listing.set_defaults(run=run_list)
    info = actions.add_parser(
        "info",
        help="tell what is known of a dataset",
        description="Tell size, scores, split, accepted layouts and traps of a dataset.",
    )
    info.add_argument("name", metavar="NAME", help="dataset")
    info.add_argument("--format", choices=("table", "json"), default="table", help="form of the output")
    info.set_defaults(run=run_info)
    verify = actions.add_parser(
        "verify",
        help="check that a folder holds a dataset",
        description="Count the files, open a sample of them, compare with the score file. Exit status 1 if anything "
        "is missing or damaged.",
    )
    verify.add_argument("name", metavar="NAME", help="dataset")
    verify.add_argument("--root", required=True, type=Path, metavar="DIR", help="its root folder")
    verify.add_argument("--deep", action="store_true", help="open all files, not a sample")
    verify.add_argument(
        "--subset", action="store_true", help="it is a part on purpose: compare with the score file only"
    )
    verify.add_argument("--scores", metavar="NAME", help="other scores of the release, such as LIVE's original")
    verify.add_argument("--format", choices=("table", "json"), default="table", help="form of the output")
    verify.set_defaults(run=run_verify)


def run_list(args: argparse.Namespace) -> int:
    """Run `datasets list` and return its exit status."""
    from iqametrics.datasets.catalogue import dataset_spec, list_datasets

    json_wanted = args.format.startswith("json")
    with open_rows(args.format, COLUMNS) as writer:
        for name in list_datasets(args.mode):
            spec = dataset_spec(name)
            parts = dict(spec.official_parts or {})
            writer.write(
                {
                    "name": name,
                    "title": spec.title,
                    "mode": spec.mode,
                    "images": spec.images,
                    "references": spec.references,
                    "score": spec.score_name,
                    "worst": spec.score_range[0] if json_wanted else f"{spec.score_range[0]:g}",
                    "best": spec.score_range[1] if json_wanted else f"{spec.score_range[1]:g}",
                    "spread": spec.has_spread if json_wanted else ("no", "yes")[spec.has_spread],
                    "official_split": parts if json_wanted else "/".join(map(str, parts.values())),
                }
            )
    return EXIT_OK


def run_info(args: argparse.Namespace) -> int:
    """Run `datasets info` and return its exit status."""
    from iqametrics.datasets.catalogue import dataset_spec

    _check_name(args.name)
    facts = dataset_spec(args.name).to_dict()
    if args.format == "json":
        print(json.dumps(facts, indent=2))
        return EXIT_OK
    lines = list(_lines(facts))
    width = max(len(label) for label, _ in lines)
    for label, value in lines:
        print(f"{label:<{width}}  {value}".rstrip())
    return EXIT_OK


def run_verify(args: argparse.Namespace) -> int:
    """Run `datasets verify` and return its exit status."""
    from iqametrics.datasets.verify import verify_dataset

    _check_name(args.name)
    found = verify_dataset(
        args.name, args.root, deep=args.deep, subset=args.subset, scores=args.scores, progress=sys.stderr.isatty()
    )
    print(json.dumps(found.to_dict(), indent=2) if args.format == "json" else "\n".join(found.lines))
    return EXIT_OK if found.ok else EXIT_FAILED


def _check_name(name: str) -> None:
    from iqametrics.datasets.catalogue import dataset_spec

    try:
        dataset_spec(name)
    except DataError as error:
        raise UsageError(str(error)) from error


def _lines(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Return label and value of each fact; a list has its label once."""
    for key, value in facts.items():
        label = key.replace("_", " ")
        if key == "score_range":
            yield label, f"{value[0]:g} (worst) to {value[1]:g} (best)"
        elif key == "score_variants":
            for name, (worst, best) in value.items():
                yield label, f"{name}: {worst:g} (worst) to {best:g} (best)"
        elif isinstance(value, dict):
            yield label, ", ".join(f"{name} {count:,}" for name, count in value.items())
        elif isinstance(value, list):
            for index, line in enumerate(value):
                yield label if index == 0 else "", line
        elif value is not None:
            yield label, f"{value:,}" if isinstance(value, int) else str(value)
