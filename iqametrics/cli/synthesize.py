"""`iqametrics synthesize`: distorted images with known types and levels, and their CSV."""

import argparse
import sys
from pathlib import Path
from typing import Any

from iqametrics.cli.common import EXIT_OK, positive, threads


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "synthesize",
        help="make distorted images from pristine ones",
        description="Write the photographs of a folder with KADID-10k's 25 distortions at 5 levels, and their CSV.",
    )
    parser.add_argument("--pristine", required=True, type=Path, metavar="DIR", help="folder of pristine photographs")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of all randomness (default: 0)")
    parser.add_argument(
        "--size", type=_size, default=(512, 384), metavar="WxH", help="of all images (default: 512x384)"
    )
    parser.add_argument("--crops", type=positive, default=1, metavar="N", help="references a photograph (default: 1)")
    parser.add_argument(
        "--labels",
        choices=("human", "adjusted"),
        default="human",
        help="KADID-10k's mean human score of the type and level, or that score shifted by how much each photograph "
        "suffers according to full-reference metrics (needs the extra [train])",
    )
    parser.add_argument(
        "--layout",
        choices=("plain", "kadid10k"),
        default="plain",
        help="kadid10k: also write the labels as KADID-10k's dmos.csv, for its reader",
    )
    parser.add_argument("--workers", type=threads, default=1, metavar="N", help="processes (default: 1)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from iqametrics.datasets.synthetic import find_photographs, synthesize

    labels = synthesize(
        find_photographs(args.pristine),
        args.out,
        seed=args.seed,
        size=args.size,
        crops=args.crops,
        labels=args.labels,
        layout=args.layout,
        workers=args.workers,
        progress=sys.stderr.isatty(),
    )
    print(labels)
    return EXIT_OK


def _size(text: str) -> tuple[int, int]:
    try:
        width, height = (positive(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 512x384") from error
    return width, height
