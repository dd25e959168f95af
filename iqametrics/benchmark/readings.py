"""Which reading of a silent paper a recipe takes: its values that are marked [lineage: NAME] or [open]; no torch.

The marks stand in the comments of the recipes' lines, see docs/where-the-papers-are-silent.md.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iqametrics.training.recipes import apply_overrides, find_recipe, read_tables

_LINE = re.compile(r"(\w+) = .*#(.*)")
_MARK = re.compile(r"\[(open|lineage: [^\]]+)\]")
_EXTENDS = re.compile(r'extends = "([^"]+)"')
_TABLES = ("model", "model.loss", "train")
_NO_READINGS = ("seed", "validate_every", "save_every", "eval_batch_size", "workers", "accumulate")
"""Values of how a run is done, on which no result should depend."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One value of a recipe that the paper does not print.

    Attributes:
        field: Its name, `table.key`.
        value: The value that is used.
        mark: "open" or "lineage: NAME"; "changed" where an option gave another value than the recipe's.
    """

    field: str
    value: Any
    mark: str


def recipe_readings(name: str, changes: Sequence[str] = ()) -> list[Reading]:
    """List the values of a recipe that are not the paper's, in the recipe's order; [] for one without marks.

    Args:
        name: Name of the recipe.
        changes: Changes of it, `table.key=value` each.

    >>> [reading.value for reading in recipe_readings("paper/bpclip-fr/live") if reading.field == "model.heads"]
    [4]
    """
    path = find_recipe(name)
    before = read_tables(path)
    tables = apply_overrides(before, changes)
    found = []
    for field, mark in _marks(path).items():
        value = value_of(tables, field)
        found.append(Reading(field=field, value=value, mark=mark if value == value_of(before, field) else "changed"))
    return found


def value_of(tables: Any, field: str) -> Any:
    """Return a value of nested tables by its dotted name; None where there is none."""
    for part in field.split("."):
        tables = tables.get(part) if isinstance(tables, dict) else None
    return tables


def reading_lines(name: str, changes: Sequence[str] = ()) -> list[str]:
    """Write the readings of a recipe, one line a mark.

    >>> print(reading_lines("paper/bpclip-fr/live")[0][:32])
    [lineage: TOPIQ] model.width=256
    """
    by_mark: dict[str, list[str]] = {}
    for reading in recipe_readings(name, changes):
        by_mark.setdefault(reading.mark, []).append(f"{reading.field}={reading.value}")
    order = sorted(by_mark, key=lambda mark: (mark == "open", mark))
    return [f"[{mark}] {', '.join(by_mark[mark])}" for mark in order]


def _marks(path: Path) -> dict[str, str]:
    """Return the mark of each value by its dotted name, those of an extended recipe included."""
    marks: dict[str, str] = {}
    table = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if extends := _EXTENDS.match(line):
            other = extends[1]
            marks = _marks(path.parent / other if other.endswith(".toml") else find_recipe(other)) | marks
        elif line.startswith("["):
            table = line.strip("[]")
        elif (value := _LINE.match(line)) and table in _TABLES and value[1] not in _NO_READINGS:
            # A value that the paper prints after all takes the mark of the extended recipe away.
            marks.pop(f"{table}.{value[1]}", None)
            if mark := _MARK.search(value[2]):
                marks[f"{table}.{value[1]}"] = mark[1]
    return marks
