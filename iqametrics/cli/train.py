"""`iqametrics train`: run a training recipe, on one split or on several."""

import argparse
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from iqametrics.cli.common import EXIT_OK, UsageError, complain, finite, positive, tell_in_one_line
from iqametrics.cli.output import TableWriter
from iqametrics.cli.train_plan import show_plan
from iqametrics.naming import CUSTOM

_FIGURES = ("srcc", "srcc_low", "srcc_high", "plcc", "plcc_logistic", "krcc", "rmse")


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "train",
        help="train a model from a recipe",
        description="Train the model of a recipe, on the recipe's images or on your own. A run that was stopped goes "
        "on with --resume and ends the same.",
    )
    parser.add_argument(
        "recipe",
        nargs="?",
        metavar="RECIPE",
        help="the recipe: a file, a name (see --list), or a metric's name for the recipe of its lite model",
    )
    parser.add_argument("--list", action="store_true", dest="listing", help="list the recipes and exit")
    _add_data_options(parser.add_argument_group("images, in place of the recipe's"))
    parser.add_argument(
        "--splits",
        type=positive,
        metavar="N",
        help="train N random splits (split.seed = 0 to N - 1) and give mean and standard deviation",
    )
    parser.add_argument(
        "--selection",
        choices=("last", "best-val", "best-test"),
        help="which epoch is shipped, in place of the recipe's rule; best-test makes the test figure too good",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY=VALUE",
        help="change a value of the recipe (train.lr=1e-4); may be repeated",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="folder of checkpoints and history (default: runs/ and the name)"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in the output folder")
    parser.add_argument(
        "--plan", action="store_true", help="say what the run will do and cost; fetch, train and write nothing"
    )
    parser.add_argument("--json", action="store_true", help="the plan as JSON")
    parser.set_defaults(run=run)


def _add_data_options(group: Any) -> None:
    group.add_argument("--csv", type=Path, metavar="FILE", help="a CSV with the columns image,mos[,reference,...]")
    group.add_argument("--dataset", metavar="NAME", help="a dataset by name, see iqametrics datasets list")
    group.add_argument(
        "--root", type=Path, metavar="DIR", help="the dataset's folder, or the one that the CSV's names start from"
    )
    group.add_argument(
        "--mos-range",
        type=finite,
        nargs=2,
        metavar=("WORST", "BEST"),
        help="what the CSV's scores range over, e.g. 1 5, or 100 0 for a DMOS (default: 0 1)",
    )
    group.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="distortion and scenes of each image, for PFD-IQA's teacher; of live, csiq, kadid10k, clive, koniq10k and "
        "bid they come with the package",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    if args.listing:
        return _list()
    _check_usage(args)
    from iqametrics.training.recipe import read_recipe
    from iqametrics.training.recipes import find_recipe, list_recipes
    from iqametrics.weights.starting import UnpinnedWarning

    first = os.environ.get("RANK", "0") == "0"  # torchrun starts this command several times
    path = find_recipe(args.recipe)
    if first and "/" not in args.recipe and path != Path(args.recipe):
        paper = f"paper/{args.recipe}"
        other = f"; that of the paper's size is {paper}" if paper in list_recipes() else ""
        complain(f"note: {args.recipe} alone means the recipe lite/{args.recipe}, a small model{other}")
    data, overrides = _data(args, path)
    if args.selection:
        overrides.append(f"train.selection={args.selection}")
    overrides += args.overrides
    if args.plan:
        return show_plan(args.recipe, overrides, data, splits=args.splits, as_json=args.json)
    recipe = read_recipe(args.recipe, overrides, data)
    output = args.output or Path("runs") / _run_name(args.recipe, path)
    with warnings.catch_warnings():
        tell_in_one_line(UnpinnedWarning)
        if args.splits:
            from iqametrics.training.repeats import train_repeats

            result = train_repeats(recipe, output, splits=args.splits, resume=args.resume)
        else:
            from iqametrics.training.run import CHECKPOINT, train_recipe

            result = train_recipe(recipe, output, resume=args.resume) / CHECKPOINT
    if first:
        _tell_figures(result.parent)
        print(result)
    return EXIT_OK


def _tell_figures(folder: Path) -> None:
    """Write a table of the figures of each held-out part on stderr; stdout has the path alone."""
    from iqametrics.training.repeats import figures_of_splits
    from iqametrics.training.results import figures

    table = TableWriter(sys.stderr, ("part", "n", "figure", *_FIGURES))
    for row in [*figures(folder), *figures_of_splits(folder)]:
        table.write(row)
    table.finish()


def _list() -> int:
    from iqametrics.training.recipes import find_recipe, list_recipes, recipe_header

    names = list_recipes()
    width = max(len(name) for name in names)
    for name in names:
        print(f"{name:{width}}  {recipe_header(find_recipe(name)).get('Data', '')}")
    return EXIT_OK


def _check_usage(args: argparse.Namespace) -> None:
    if args.recipe is None:
        raise UsageError("give a recipe, or --list to see those of the package")
    for override in args.overrides:
        if not override.partition("=")[0].strip() or "=" not in override:
            raise UsageError(f"--set {override} is not KEY=VALUE")
    if args.csv and args.dataset:
        raise UsageError("--csv and --dataset both say which images; leave one out")
    if args.dataset and args.mos_range:
        raise UsageError("--mos-range is of a CSV's scores; the range of a dataset is known")
    if args.json and not args.plan:
        raise UsageError("--json is the form of a plan; give --plan too")
    if args.dataset and not args.root and not args.plan:
        raise UsageError(f"--dataset {args.dataset} needs --root DIR, the folder that it is in")


def _data(args: argparse.Namespace, path: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """Give what replaces the recipe's table [data], if anything does, and the overrides that the options mean."""
    from iqametrics.datasets.labelled import LabelledImages
    from iqametrics.training.recipes import changes_for_images

    images = LabelledImages(
        csv=str(args.csv.resolve()) if args.csv else "",
        dataset=args.dataset or "",
        root=str(args.root.resolve()) if args.root else "",
        mos_range=tuple(args.mos_range) if args.mos_range else None,
        labels_file=str(args.labels.resolve()) if args.labels else "",
    )
    if args.csv or args.dataset:
        # The usual folder of a run is called after the recipe, and so perhaps by a dataset that is not seen now.
        tag = args.dataset or ("" if args.output else CUSTOM)
        return images.to_table(), changes_for_images(path, images, tag=tag)
    return None, [f"data.{key}={json.dumps(value)}" for key, value in images.to_table().items()]


def _run_name(recipe: str, path: Path) -> str:
    """Name the folder of a run: after the file, or the recipe's name with hyphens."""
    return path.stem if path == Path(recipe) else recipe.replace("/", "-")
