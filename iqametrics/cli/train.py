"""`iqametrics train`: run a training recipe."""

import argparse
from pathlib import Path
from typing import Any

from iqametrics.cli.common import EXIT_OK, UsageError


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "train",
        help="train a model from a recipe",
        description="Train the model of a recipe. A run that was stopped goes on with --resume and ends the same.",
    )
    parser.add_argument("recipe", type=Path, metavar="RECIPE.toml", help="the recipe")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY=VALUE",
        help="change a value of the recipe (train.lr=1e-4); may be repeated",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder of checkpoints and history")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in the output folder")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    for override in args.overrides:
        if not override.partition("=")[0].strip() or "=" not in override:
            raise UsageError(f"--set {override} is not KEY=VALUE")
    from iqametrics.training.run import train

    train(args.recipe, args.overrides, args.output, args.resume)
    return EXIT_OK
