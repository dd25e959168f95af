"""`iqametrics benchmark`: the papers' tables, what it takes to reproduce them, and paper beside measured."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqametrics.benchmark.tables import AVERAGE, Cell, Table, list_tables, paper_table
from iqametrics.cli.benchmark_cost import add_cost_parser
from iqametrics.cli.benchmark_plan import dry_run
from iqametrics.cli.common import EXIT_FAILED, EXIT_OK, METRIC, METRIC_HELP, UsageError, complain, positive
from iqametrics.cli.output import open_rows
from iqametrics.common.devices import AUTO, DEVICES
from iqametrics.common.files import write_file
from iqametrics.errors import DataError

if TYPE_CHECKING:
    from iqametrics.benchmark.plan import Job
    from iqametrics.benchmark.run import Outcome
    from iqametrics.datasets.labelled import LabelledImages

_DATA_HELP = "TOML file with a table [datasets.NAME] and in it root = a folder (or csv = a file) for each dataset"


def add_parser(commands: Any) -> None:
    """Add the command and those below it to the parser."""
    parser = commands.add_parser(
        "benchmark",
        help="the papers' tables, beside what is measured",
        description="Show every table of both papers, train and evaluate what a table needs, and report paper beside "
        "measured.",
    )
    parts = parser.add_subparsers(metavar="PART", required=True, dest="part")
    _add_list(parts)
    _add_show(parts)
    _add_run(parts)
    _add_report(parts)
    add_cost_parser(parts)


def _add_list(parts: Any) -> None:
    parser = parts.add_parser("list", help="list the tables", description="List the tables of both papers.")
    _add_format(parser)
    parser.add_argument("--data", type=Path, metavar="CONFIG.toml", help=_DATA_HELP + "; tells which tables can be run")
    parser.set_defaults(run=_list)


def _add_show(parts: Any) -> None:
    parser = parts.add_parser("show", help="show a table", description="Show a table as the paper prints it.")
    parser.add_argument("id", metavar="ID", help="table, see iqametrics benchmark list")
    _add_format(parser)
    parser.add_argument(
        "--run", type=Path, metavar="RUN", dest="folder", help="folder of a run, whose variants are shown too"
    )
    parser.set_defaults(run=_show)


def _add_run(parts: Any) -> None:
    parser = parts.add_parser(
        "run",
        help="train and evaluate what a table needs",
        description="Train and evaluate what the cells of a table need, one job a row, dataset and split. Any number "
        "of processes may share an output folder; a run that was stopped goes on with --resume. The table 'compare' "
        "scores datasets with finished metrics and trains nothing.",
    )
    parser.add_argument("id", metavar="ID", help="table, see iqametrics benchmark list; or compare")
    parser.add_argument("--rows", nargs="+", default=[], metavar="ROW", help="only these rows")
    parser.add_argument("--datasets", nargs="+", default=[], metavar="NAME", help="only cells tested on these")
    parser.add_argument("--splits", type=positive, default=10, metavar="N", help="random splits (default: 10)")
    parser.add_argument(
        "--size", choices=("paper", "lite"), default="paper", help="of what is trained (default: paper)"
    )
    parser.add_argument("--data", type=Path, metavar="CONFIG.toml", help=_DATA_HELP)
    parser.add_argument("--device", choices=DEVICES, default=AUTO, help="(default: auto)")
    parser.add_argument(
        "--devices",
        metavar="LIST",
        help="one process for each: numbers of GPUs (0,1,2,3), or cpu,cpu; not with --device",
    )
    parser.add_argument("--output", type=Path, metavar="RUN", help="folder of the run (default: runs/ID)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the folder, or join it")
    parser.add_argument(
        "--shard", type=_shard, metavar="I/N", help="only the I-th of N shares of the jobs; joins a run"
    )
    parser.add_argument("--dry-run", action="store_true", help="list the jobs with command and cost, and do nothing")
    parser.add_argument(
        "--variants",
        action="append",
        default=[],
        metavar="FIELD=a,b",
        help="train the rows under each reading of a silent paper (model.similarity=softmax,pairs) and measure them on "
        "the validation part, apart from the table's own results; may be repeated",
    )
    parser.add_argument(
        "--measure",
        action="store_true",
        help="with --dry-run: take steps of noise with each model on this machine, for steps, hours and disk",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY=VALUE",
        help="change a value of every recipe, for a trial (train.epochs=1); may be repeated",
    )
    compare = parser.add_argument_group("the table compare")
    compare.add_argument("--metrics", nargs="+", default=[], metavar=METRIC, help=f"finished metrics: {METRIC_HELP}")
    compare.add_argument("--split", default="all", metavar="TEXT", help="all (default), official or random:SEED:PART")
    compare.add_argument(
        "--images",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="only the images of dataset NAME that FILE lists; may be repeated",
    )
    parser.set_defaults(run=_run)


def _add_report(parts: Any) -> None:
    parser = parts.add_parser(
        "report", help="paper beside measured", description="Report on a run: the paper's number beside the measured."
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="folder of iqametrics benchmark run")
    parser.add_argument("--format", choices=("md", "csv", "latex", "html"), default="md", help="(default: md)")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the report there (default: stdout)")
    parser.add_argument(
        "--plots",
        action="store_true",
        help="scatter plots of score against opinion: in the page with html, else as files in RUN/plots (needs the "
        "extra [report])",
    )
    parser.add_argument(
        "--cost",
        type=Path,
        metavar="FILE",
        help="with html: plot cost against PLCC, as BPCLIP's Figure 5 does; what benchmark cost --output wrote",
    )
    parser.set_defaults(run=_report)


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("table", "json"), default="table", help="form of the output")


def _shard(text: str) -> tuple[int, int]:
    try:
        number, of = (positive(part) for part in text.split("/"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a shard like 1/4") from error
    if number > of:
        raise argparse.ArgumentTypeError(f"{text!r}: shards are numbered from 1 to {of}")
    return number, of


def _list(args: argparse.Namespace) -> int:
    tables = [paper_table(name) for name in list_tables()]
    sources = _sources(args)
    if args.format == "json":
        print(json.dumps([table.summary() for table in tables], indent=2))
        return EXIT_OK
    with open_rows("table", ("id", "title", "datasets", "rows", "cells", "can be run")) as writer:
        for table in tables:
            writer.write(
                {
                    "id": table.id,
                    "title": table.title,
                    "datasets": " ".join(table.datasets),
                    "rows": len(table.rows),
                    "cells": len(table.cells),
                    "can be run": _runnable(table, sources) if args.data else None,
                }
            )
    return EXIT_OK


def _runnable(table: Table, sources: Mapping[str, "LabelledImages"]) -> str:
    """Tell which of a table's columns have their datasets configured."""
    places = {cell.place: {cell.train, cell.dataset} - {""} for cell in table.cells if cell.dataset != AVERAGE}
    able = [place for place, names in places.items() if names <= set(sources)]
    return " ".join(able) if able else "none"


def _show(args: argparse.Namespace) -> int:
    table = paper_table(args.id)
    variants = [] if args.folder is None else _variants(args.folder, table)
    if args.format == "json":
        found = {"id": table.id, "cells": [cell.to_dict() for cell in table.cells]}
        print(json.dumps(found | ({"variants": variants} if args.folder else {}), indent=2))
        return EXIT_OK
    print(f"{table.id}: {table.title}\n{table.paper}\n")
    cells = {(cell.row, f"{cell.place} {cell.statistic}"): cell for cell in table.cells}
    with open_rows("table", ("row", *table.columns)) as writer:
        for row in table.rows:
            texts = {column: _text(cells.get((row, column))) for column in table.columns}
            writer.write({"row": row, **texts})
    if variants:
        print("\nreadings of the paper, on validation parts (the paper's numbers are of test parts)")
        with open_rows("table", tuple(variants[0])) as writer:
            for variant in variants:
                writer.write(variant)
    print()
    for line in table.comments:
        print(line)
    return EXIT_OK


def _variants(folder: Path, table: Table) -> list[dict[str, Any]]:
    """Read the variants of a run's folder, which must be one of this table."""
    from dataclasses import asdict

    from iqametrics.benchmark.variants import VARIANTS, variant_lines

    if not (folder / VARIANTS).is_dir():
        raise DataError(f"{folder}: holds no variants; make some with iqametrics benchmark run {table.id} --variants")
    return [asdict(line) for line in variant_lines(folder, table)]


def _text(cell: Cell | None) -> str:
    if cell is None:
        return ""
    if cell.value is None:
        return "-"
    text = f"{cell.value:.3f}"
    if cell.std is not None:
        text += f" ±{cell.std:.3f}"
    return text + ("*" if cell.note else "")


def _run(args: argparse.Namespace) -> int:
    from iqametrics.benchmark.variants import read_choices, variant_jobs, variants_folder

    if args.devices and args.device != AUTO:
        raise UsageError("--device and --devices both say where; leave one out")
    if args.measure and not args.dry_run:
        raise UsageError("--measure belongs to --dry-run, which trains nothing")
    sources = _with_images(_sources(args), args.images)
    jobs = _jobs(args, sources)
    folder = args.output or Path("runs") / args.id
    choices = read_choices(args.variants)
    if choices:
        jobs, folder = variant_jobs(jobs, choices), variants_folder(folder, choices)
        _check_recipes(jobs, sources)
    if args.dry_run:
        return dry_run(jobs, sources, folder, args.device, measure=args.measure)
    if args.data is None:
        raise UsageError("--data is missing: it says where the datasets are (see iqametrics benchmark run --help)")
    outcome = _do(args, jobs, sources, folder, choices)
    complain(
        f"{len(outcome.done)} jobs done, {len(outcome.before)} were done before, {len(outcome.failed)} failed, "
        f"{len(outcome.busy)} are being done by others; see iqametrics benchmark report {args.output or folder}"
    )
    return EXIT_FAILED if outcome.failed else EXIT_OK


def _do(
    args: argparse.Namespace,
    jobs: "Sequence[Job]",
    sources: Mapping[str, "LabelledImages"],
    folder: Path,
    choices: Mapping[str, Sequence[str]],
) -> "Outcome":
    """Begin a run or join it, and do its jobs, here or by one process a device."""
    from iqametrics.benchmark.devices import read_workers, run_on_devices
    from iqametrics.benchmark.jobs import Executor
    from iqametrics.benchmark.plan import COMPARE
    from iqametrics.benchmark.run import open_run, run_jobs, shard
    from iqametrics.benchmark.sources import benchmark_labels
    from iqametrics.benchmark.variants import VARIANTS

    names = [name for name in sources if any(name in job.datasets for job in jobs)]
    plan = {
        "table": args.id,
        "size": "finished" if args.id == COMPARE else args.size,
        "changes": args.overrides,
        "labels": {name: benchmark_labels(sources[name]) for name in names},
        **({VARIANTS: choices} if choices else {}),
    }
    workers = read_workers(args.devices) if args.devices else []
    open_run(folder, plan, jobs, resume=args.resume or args.shard is not None)
    mine = shard(jobs, *args.shard) if args.shard else jobs
    if workers:
        return run_on_devices(mine, folder, sources, workers, complain)
    return run_jobs(mine, folder, Executor(sources, args.device, folder), complain)


def _sources(args: argparse.Namespace) -> dict[str, "LabelledImages"]:
    if args.data is None:
        return {}
    from iqametrics.benchmark.sources import read_sources

    return read_sources(args.data)


def _with_images(sources: dict[str, "LabelledImages"], texts: Sequence[str]) -> dict[str, "LabelledImages"]:
    import dataclasses

    for text in texts:
        name, equals, file = text.partition("=")
        if not equals or name not in sources:
            raise UsageError(f"--images {text}: write NAME=FILE, NAME being a dataset of --data")
        sources = {**sources, name: dataclasses.replace(sources[name], images=str(Path(file).resolve()))}
    return sources


def _jobs(args: argparse.Namespace, sources: Mapping[str, "LabelledImages"]) -> "list[Job]":
    from iqametrics.benchmark.plan import COMPARE, plan_comparison, plan_table, unfilled_rows
    from iqametrics.benchmark.tables import choose
    from iqametrics.cli.common import check_metric_name

    if args.id == COMPARE:
        if args.rows or args.overrides:
            raise UsageError("--rows and --set belong to a paper's table; compare trains nothing")
        if not args.metrics:
            raise UsageError("compare needs --metrics, the names of finished metrics")
        for name in args.metrics:
            check_metric_name(name)
        names = choose(args.datasets, list(sources), "dataset")
        bare = [name for name in names if sources[name].mode == "nr"]
        return plan_comparison(args.metrics, names, args.split, bare)
    if args.metrics or args.images or args.split != "all":
        raise UsageError("--metrics, --split and --images belong to the table compare; a paper's table has its own")
    table = paper_table(args.id)
    jobs = plan_table(
        table, rows=args.rows, datasets=args.datasets, splits=args.splits, size=args.size, changes=args.overrides
    )
    if part := sorted({job.train for job in jobs if job.train in sources and sources[job.train].images}):
        raise DataError(f"[datasets.{part[0]}] has images =, and training takes whole datasets; leave the key out")
    _check_recipes(jobs, sources)
    planned = {job.row for job in jobs}
    reasons = {row: why for row, why in unfilled_rows(table, args.size).items() if row not in planned}
    idle = [f"{row} ({why})" for row, why in reasons.items() if not args.rows or row in args.rows]
    if idle and jobs:
        complain(f"note: these rows stay with the paper's numbers: {', '.join(idle)}")
    if not jobs:
        raise DataError(f"nothing here can run {', '.join(args.rows or table.rows)}; the paper's numbers stand alone")
    return jobs


def _check_recipes(jobs: "Sequence[Job]", sources: Mapping[str, "LabelledImages"]) -> None:
    """Refuse a --set that no recipe takes at once, and not in each job."""
    from iqametrics.benchmark.plan import overrides, unlisted
    from iqametrics.training.recipe import read_recipe
    from iqametrics.training.recipes import find_recipe

    for job in {(job.recipe, job.changes): job for job in jobs if job.recipe}.values():
        source = sources.get(job.train) or unlisted(job.train)
        read_recipe(find_recipe(job.recipe), overrides(job, source, "cpu", Path("cache")))


def _report(args: argparse.Namespace) -> int:
    from iqametrics.benchmark.page import read_costs
    from iqametrics.benchmark.plots import address, scatter_plots
    from iqametrics.benchmark.render import render
    from iqametrics.benchmark.report import make_report

    if args.save is not None and not args.save.resolve().parent.is_dir():
        raise UsageError(f"--save {args.save}: there is no folder {args.save.parent}; make it, or choose another file")
    if args.cost is not None and args.format != "html":
        raise UsageError("--cost is drawn in the page; give --format html with it")
    costs = read_costs(args.cost) if args.cost is not None else {}
    report = make_report(args.folder)
    addresses: dict[str, str] = {}
    if args.plots:
        for name, caption, png in scatter_plots(args.folder):
            if args.format == "html":
                addresses[caption] = address(png)
            else:
                (args.folder / "plots").mkdir(exist_ok=True)
                write_file(args.folder / "plots" / f"{name}.png", png, error=DataError)
    text = render(report, args.format, addresses, costs)
    if args.save is None:
        sys.stdout.write(text)
    else:
        write_file(args.save, text, error=DataError, remedy="choose another --save")
    return EXIT_OK
