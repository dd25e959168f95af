"""The methods that there are: those of this package, those of installed distributions, those registered; no torch."""

import importlib
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from iqametrics.errors import IqaError, UnknownMetricError
from iqametrics.plugins import leave_out, load_plugins
from iqametrics.spec import Method, MetricSpec, PaperTable, TableRow

METRIC_PACKAGES = ("iqametrics.bpclip", "iqametrics.pfd_iqa")
"""Packages whose `METHOD` declares the built-in metrics."""

GROUP = "iqametrics.metrics"
"""Entry points of other distributions; the value names a `Method`, or a module whose `METHOD` is one."""

ATTRIBUTE = "METHOD"
RECIPE_SUFFIX = ".toml"

_registered: list[Method] = []


def methods() -> list[Method]:
    """List all methods: built in, then installed, then registered."""
    return [*_declared(METRIC_PACKAGES), *_installed(METRIC_PACKAGES), *_registered]


def register_method(method: Method) -> None:
    """Add a method until the process ends.

    Raises:
        ValueError: If a name is taken or impossible, or the folder of recipes holds something else.
    """
    _check(method, methods())
    _registered.append(method)


def unregister_metric(name: str) -> None:
    """Remove the registered method that a metric belongs to.

    Raises:
        UnknownMetricError: If no registered method has it.
    """
    for method in _registered:
        if name in _metric_names(method):
            _registered.remove(method)
            return
    raise UnknownMetricError(f"no metric {name!r} was registered with register_metric")


def metric_specs() -> dict[str, MetricSpec]:
    """Return the constants of all metrics by name."""
    return {spec.name: spec for method in methods() for spec in method.metrics}


def objectives() -> dict[str, str]:
    """Return "module:Class" of every objective by its name, which is a recipe's `metric.name`."""
    return {name: path for method in methods() for name, path in method.objectives.items()}


def recipe_files() -> dict[str, Path]:
    """Return the recipes of all methods by name ("lite/bpclip-nr"), sorted."""
    found = {name: path for method in methods() for name, path in _recipes(method)}
    return dict(sorted(found.items()))


def paper_tables() -> dict[str, PaperTable]:
    """Return the papers' tables by id, in the order in which the methods declare them."""
    return {table.id: table for method in methods() for table in method.tables}


def table_rows(table: str) -> dict[str, TableRow]:
    """Return the rows of a table that methods fill, by the name that the paper prints."""
    return {row.row: row for method in methods() for row in method.rows if row.table == table}


def named_class(path: str) -> Any:
    """Import the class that a declaration names as "module:Class".

    Raises:
        IqaError: If there is no such module or class, or its module cannot be imported.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        if isinstance(error, IqaError):  # an extra that is missing says so itself
            raise
        raise IqaError(
            f"{path} cannot be imported ({error}); mend or reinstall the package that declares it"
        ) from error


@lru_cache(maxsize=4)
def _declared(packages: tuple[str, ...]) -> tuple[Method, ...]:
    found: list[Method] = []
    for package in packages:
        method = getattr(importlib.import_module(package), ATTRIBUTE)
        _check(method, found)
        found.append(method)
    return tuple(found)


@lru_cache(maxsize=4)
def _installed(packages: tuple[str, ...]) -> tuple[Method, ...]:
    """Return the methods of other distributions; one with a name that is taken is left out as a whole."""
    found: list[Method] = []
    for origin, method in load_plugins(GROUP, Method, ATTRIBUTE):
        try:
            _check(method, [*_declared(packages), *found])
        except ValueError as error:
            leave_out(origin, str(error))
            continue
        found.append(method)
    return tuple(found)


def _check(method: Method, others: Iterable[Method]) -> None:
    """Refuse a method whose names are taken or impossible.

    Raises:
        ValueError: If a name is taken or impossible.
    """
    for name in _metric_names(method):
        # A dot begins a tag, and names become parts of file names.
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
            raise ValueError(f"{name!r} is no name for a metric; use lower-case words and digits joined by hyphens")
    taken = {claim for other in others for claim in _claims(other)}
    for claim in _claims(method):
        if claim in taken:
            kind, name = claim
            raise ValueError(f"{kind} {name!r} is there already; choose another name")
        taken.add(claim)
    for name, path in _recipes(method):
        words = name.split("/")
        if len(words) not in (2, 3) or words[1] not in method.objectives:
            raise ValueError(
                f"recipe {path} is not SIZE/NAME{RECIPE_SUFFIX} or SIZE/NAME/DATASET{RECIPE_SUFFIX} with one of the "
                f"method's objectives for NAME ({', '.join(method.objectives) or 'it has none'})"
            )


def _claims(method: Method) -> Iterator[tuple[str, str]]:
    yield from (("a metric named", name) for name in _metric_names(method))
    yield from (("an objective named", name) for name in method.objectives)
    yield from (("a table", table.id) for table in method.tables)
    yield from ((f"in table {row.table}, a row", row.row) for row in method.rows)


def _metric_names(method: Method) -> list[str]:
    return [spec.name for spec in method.metrics]


def _recipes(method: Method) -> Iterator[tuple[str, Path]]:
    folder = method.recipes
    if folder is None:
        return
    if not folder.is_dir():
        raise ValueError(f"the folder of recipes {folder} does not exist")
    for file in folder.rglob(f"*{RECIPE_SUFFIX}"):
        yield file.relative_to(folder).with_suffix("").as_posix(), file
