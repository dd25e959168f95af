"""Recipe files: found by name, extended by others, changed by options, with every path made absolute.

A recipe may open with `extends = "other.toml"`, a path from its own folder or the name of a recipe of the package. Its
tables are then merged over those of the other, key by key; lists are replaced.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from iqametrics.common.files import read_text
from iqametrics.common.suggest import did_you_mean
from iqametrics.datasets.labelled import LabelledImages
from iqametrics.errors import RecipeError
from iqametrics.methods import RECIPE_SUFFIX, recipe_files

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LITE = "lite"
_EXTENDS = "extends"
_HEADER_KEYS = ("Paper", "Data", "Cost", "Result", "Command")
_DATA_PATHS = ("csv", "root", "labels_file")


def list_recipes() -> list[str]:
    """List the names of the methods' recipes, sorted.

    >>> [name for name in list_recipes() if name.startswith("lite/bpclip")]
    ['lite/bpclip-fr', 'lite/bpclip-nr']
    """
    return list(recipe_files())


def find_recipe(name: str | Path) -> Path:
    """Find a recipe by its path or by its name.

    Args:
        name: The path of a file, the name of a method's recipe (`list_recipes`), or the name of a metric, which means
            its recipe at lite size.

    Raises:
        RecipeError: If there is no such recipe.

    >>> find_recipe("bpclip-nr") == find_recipe("lite/bpclip-nr")
    True
    """
    path, text = Path(name), str(name)
    if os.path.isfile(path) or is_recipe(text):
        return path
    known = recipe_files()
    for candidate in (text, f"{LITE}/{text}"):
        if candidate in known:
            return known[candidate]
    hint = did_you_mean(text, [*known, *(n.removeprefix(f"{LITE}/") for n in known)], end=" ")
    raise RecipeError(f"{text}: is neither a file nor the name of a recipe; {hint}see iqametrics train --list")


def recipe_header(path: Path) -> dict[str, str]:
    """Read the comment that opens a recipe: those of Paper, Data, Cost, Result and Command that it has."""
    header: dict[str, str] = {}
    key = ""
    for line in _read(path).splitlines():
        if not line.startswith("#"):
            break
        text = line.lstrip("# ").rstrip()
        name, colon, rest = text.partition(":")
        if colon and name in _HEADER_KEYS:
            key, text = name, rest.strip()
        if key:
            header[key] = f"{header.get(key, '')} {text}".strip()
    return header


def read_tables(path: Path) -> dict[str, Any]:
    """Read a recipe's tables with those that it extends, every relative path made absolute.

    Raises:
        RecipeError: If there is no such file, it is not TOML, or files extend each other in a circle.
    """
    return _extended(path, ())


def apply_overrides(tables: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return tables with single values changed: `table.key=value` each (or deeper).

    A value is TOML or, where that fails, a string; relative paths in it stay relative.

    Raises:
        RecipeError: If a change is not of that form.

    >>> apply_overrides({"train": {"lr": 1.0}}, ["train.epochs=3", "split.by=image"])
    {'train': {'lr': 1.0, 'epochs': 3}, 'split': {'by': 'image'}}
    """
    for override in overrides:
        tables = merge(tables, _override(override, tables))
    return dict(tables)


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return tables with changes laid over them, key by key; lists and plain values are replaced.

    >>> merge({"train": {"lr": 1.0, "flips": ["h"]}}, {"train": {"flips": []}, "split": {"seed": 1}})
    {'train': {'lr': 1.0, 'flips': []}, 'split': {'seed': 1}}
    """
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def changes_for_images(path: Path, images: LabelledImages, *, tag: str) -> list[str]:
    """Return what changes in a recipe when its images are replaced.

    Args:
        path: Path of the recipe.
        images: Images in place of the recipe's own.
        tag: Tag of the checkpoint, if the recipe's tag is the name of its own dataset; "" for the name of the run.

    Returns:
        Changes of the form `table.key=value`: the checkpoint's tag, if the recipe's is the name of its own dataset, and
        a split that keeps the distorted versions of a reference together, or bursts where there are no references.

    Raises:
        DataError: If there is no dataset of that name.
    """
    tables = read_tables(path)
    by = tables.get("split", {}).get("by")
    meant = tables.get("data", {}).get("dataset")
    changes = [f"metric.tag={json.dumps(tag)}"] if meant not in (None, "", tag) else []
    if images.mode == "fr" and by != "reference":
        changes.append("split.by=reference")
    # A dataset without references cannot be split by them; unknown photographs may contain bursts.
    if (images.mode == "nr" and by == "reference") or (images.mode is None and meant and by == "image"):
        changes.append("split.by=near-duplicates")
    return changes


def locate(tables: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """Make the relative paths in a recipe's tables absolute; a value of the wrong type is refused later."""
    located = dict(tables)
    if isinstance(data := tables.get("data"), Mapping):
        located["data"] = _located(data, base, _DATA_PATHS)
        if isinstance(extra := data.get("extra"), list):
            located["data"]["extra"] = [
                _located(item, base, _DATA_PATHS) if isinstance(item, Mapping) else item for item in extra
            ]
    if isinstance(init := tables.get("init"), Mapping):
        paths = [key for key, value in init.items() if isinstance(value, str) and is_path(value)]
        located["init"] = _located(init, base, paths)
    if isinstance(cache := tables.get("cache"), Mapping):
        located["cache"] = _located(cache, base, ("folder",))
    if isinstance(teacher := tables.get("teacher"), Mapping):
        located["teacher"] = locate(teacher, base)
    return located


def is_recipe(value: str) -> bool:
    """Tell whether an `[init]` value is the path of a recipe."""
    return value.endswith(RECIPE_SUFFIX)


def is_path(value: str) -> bool:
    """Tell whether an `[init]` value is a file's path, and not the name of a bundled file or a starting weight."""
    return "/" in value or "\\" in value or value.endswith(".safetensors") or is_recipe(value)


def _located(table: Mapping[str, Any], base: Path, names: Sequence[str]) -> dict[str, Any]:
    given = {name: table[name] for name in names if isinstance(table.get(name), str) and table[name]}
    return {**table, **{name: str((base / value).resolve()) for name, value in given.items()}}


def _extended(path: Path, below: tuple[Path, ...]) -> dict[str, Any]:
    """Read a file merged over the files that it extends; `below` are the files that extend it."""
    here = path.resolve()
    if here in below:
        chain = " -> ".join(file.name for file in (*below[below.index(here) :], here))
        raise RecipeError(f"{path}: extends itself ({chain}); take one `extends` out")
    try:
        tables = tomllib.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{path}: is not TOML ({error}); correct that line") from error
    other = tables.pop(_EXTENDS, None)
    tables = locate(tables, here.parent)
    if other is None:
        return tables
    if not isinstance(other, str):
        raise RecipeError(f"{path}: extends = {other!r} is not the path or name of a recipe; give a string")
    base = here.parent / other if is_recipe(other) else find_recipe(other)
    return merge(_extended(base, (*below, here)), tables)


def _read(path: Path) -> str:
    return read_text(path, error=RecipeError)


def _override(override: str, tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return tables with the single value of an override."""
    name, equals, text = override.partition("=")
    parts = name.strip().split(".")
    if not equals or len(parts) < 2 or not all(parts):
        raise RecipeError(f"--set {override}: write it as table.key=value, e.g. train.epochs=3")
    table: Any = tables
    for part in parts[:-1]:
        table = table.get(part, {})
        if not isinstance(table, Mapping):
            raise RecipeError(f"--set {override}: {part} is not a table")
    try:
        value = tomllib.loads(f"value = {text.strip()}")["value"]
    except (ValueError, RecursionError):
        value = text.strip()
    for part in reversed(parts):
        value = {part: value}
    return dict(value)
