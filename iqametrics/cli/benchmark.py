"""`iqametrics benchmark`: the papers' tables, what it takes to reproduce them, and paper beside measured."""

import argparse
import json
from typing import Any

from iqametrics.benchmark.tables import list_tables, paper_table
from iqametrics.cli.common import EXIT_OK
from iqametrics.cli.output import open_rows


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


def _add_list(parts: Any) -> None:
    parser = parts.add_parser("list", help="list the tables", description="List the tables of both papers.")
    _add_format(parser)
    parser.set_defaults(run=_list)


def _add_show(parts: Any) -> None:
    parser = parts.add_parser("show", help="show a table", description="Show a table as the paper prints it.")
    parser.add_argument("id", metavar="ID", help="table, see iqametrics benchmark list")
    _add_format(parser)
    parser.set_defaults(run=_show)


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("table", "json"), default="table", help="form of the output")


def _list(args: argparse.Namespace) -> int:
    tables = [paper_table(name) for name in list_tables()]
    if args.format == "json":
        print(json.dumps([table.summary() for table in tables], indent=2))
        return EXIT_OK
    with open_rows("table", ("id", "title", "datasets", "rows", "cells")) as writer:
        for table in tables:
            writer.write(
                {
                    "id": table.id,
                    "title": table.title,
                    "datasets": " ".join(table.datasets),
                    "rows": len(table.rows),
                    "cells": len(table.cells),
                }
            )
    return EXIT_OK


def _show(args: argparse.Namespace) -> int:
    table = paper_table(args.id)
    if args.format == "json":
        print(json.dumps({"id": table.id, "cells": [cell.to_dict() for cell in table.cells]}, indent=2))
        return EXIT_OK
    print(f"{table.id}: {table.title}\n{table.paper}\n")
    cells = {(cell.row, f"{cell.place} {cell.statistic}"): cell for cell in table.cells}
    with open_rows("table", ("row", *table.columns)) as writer:
        for row in table.rows:
            texts = {column: _text(cells.get((row, column))) for column in table.columns}
            writer.write({"row": row, **texts})
    print()
    for line in table.comments:
        print(line)
    return EXIT_OK


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    if cell.value is None:
        return "-"
    text = f"{cell.value:.3f}"
    if cell.std is not None:
        text += f" ±{cell.std:.3f}"
    return text + ("*" if cell.note else "")
