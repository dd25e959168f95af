"""`iqametrics list`: the metrics that there are."""

import argparse
from math import isfinite
from typing import Any

from iqametrics.baselines import is_baseline
from iqametrics.cli.common import EXIT_OK
from iqametrics.cli.output import FORMATS, open_rows
from iqametrics.registry import checkpoint_tags, list_metrics, metric_spec

COLUMNS = ("name", "mode", "better", "low", "high", "checkpoints", "paper")


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "list",
        help="list the metrics",
        description="List the metrics that there are, and those of piq and pyiqa as far as these are installed "
        "(the licence of pyiqa forbids commercial use).",
    )
    parser.add_argument("--mode", choices=("fr", "nr"), help="only those with (fr) or without (nr) a reference")
    parser.add_argument("--format", choices=FORMATS, default="table", help="form of the output (default: table)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    with open_rows(args.format, COLUMNS) as writer:
        for name in list_metrics(args.mode, baselines=True):
            spec = metric_spec(name)
            tags = [] if is_baseline(name) else checkpoint_tags(name)
            # An end that is open or unknown has no number; JSON has none for infinity.
            low, high = (side if isfinite(side) else None for side in spec.score_range)
            writer.write(
                {
                    "name": name,
                    "mode": spec.mode,
                    "better": "higher" if spec.higher_is_better else "lower",
                    "low": low,
                    "high": high,
                    "checkpoints": tags if args.format.startswith("json") else " ".join(tags),
                    "paper": spec.paper,
                }
            )
    return EXIT_OK
