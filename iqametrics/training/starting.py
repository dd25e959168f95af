"""The files that a run starts from: a path, a bundled file, a starting weight by name, or a teacher trained first."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from iqametrics.errors import RecipeError
from iqametrics.training.recipe import Recipe, parse_recipe
from iqametrics.training.recipes import find_recipe, is_path, is_recipe, merge, read_tables
from iqametrics.weights.manifest import WEIGHTS_FOLDER, read_manifest
from iqametrics.weights.starting import list_starting, starting_file

CHECKPOINT, RESULTS, TEACHER = "checkpoint.safetensors", "results.json", "teacher"
_SHARED_TRAIN = ("seed", "device", "workers", "amp", "tf32", "cudnn_benchmark", "deterministic", "keep_state")

TrainFunction = Callable[[Recipe, Path], Path]
"""A function that trains a recipe into a folder, or continues a run there."""


def starting_files(recipe: Recipe, folder: Path, train: TrainFunction) -> dict[str, str]:
    """Return the paths of the files that the recipe's [init] names, by key.

    Args:
        recipe: Recipe of the run.
        folder: Folder of the run; a teacher that is given as a recipe is trained in its subfolder `teacher`.
        train: Trains the teacher, or continues its training.

    Raises:
        RecipeError: If a value is neither a file, a bundled file, nor a starting weight.
        WeightsError: If a starting weight cannot be fetched, or its bytes are not those expected.
    """
    recipes = [key for key, value in recipe.init.items() if is_recipe(value)]
    if wrong := [key for key in recipes if key != "teacher"]:
        raise RecipeError(f"init.{wrong[0]} = {recipe.init[wrong[0]]!r}: only init.teacher may be a recipe")
    # Files first, so that a missing one is reported before a teacher is trained for hours.
    files = {key: starting_path(value) for key, value in recipe.init.items() if key not in recipes}
    if recipes:
        trained = train(teacher_recipe(recipe, folder), folder / TEACHER)
        files["teacher"] = str(trained / CHECKPOINT)
    return files


def starting_path(value: str) -> str:
    """Return the path of one starting file; a bare word names a bundled file or a starting weight.

    Raises:
        RecipeError: If there is no such file.
        WeightsError: If it cannot be fetched, or its bytes are not those expected.
    """
    if is_path(value):
        if not Path(value).is_file():
            raise RecipeError(
                f"[init] {value}: does not exist; correct the path, which starts from the recipe's folder"
            )
        return value
    bundled = {base.name: WEIGHTS_FOLDER / base.file for base in read_manifest().bases}
    if value in bundled:
        return str(bundled[value])
    if value in list_starting():
        return str(starting_file(value))
    raise RecipeError(
        f"[init] {value!r}: is neither a file's path nor a bundled file ({', '.join(bundled) or 'none'}) nor a "
        f"starting weight ({', '.join(list_starting())})"
    )


def teacher_recipe(recipe: Recipe, folder: Path) -> Recipe:
    """Make the recipe of the teacher of a student's run.

    Images, split, sizing, seed, device, workers, precision and the cache of pictures are the student's, so that the
    teacher sees none of the images that the student is tested on. All else is from the teacher's recipe, changed by the
    student's table [teacher].

    Raises:
        RecipeError: If the teacher's recipe cannot be read or has an impossible value.
    """
    student: dict[str, Any] = recipe.to_dict()
    cache = recipe.cache.folder or str(folder.resolve().parent / "cache")
    tables = {**read_tables(find_recipe(recipe.init["teacher"])), "data": student["data"]}
    shared = {
        "split": student["split"],
        "sizing": student["sizing"],
        "train": {name: student["train"][name] for name in _SHARED_TRAIN},
        "cache": {"folder": cache} | {name: student["cache"][name] for name in ("images", "images_gb")},
    }
    merged = merge(merge(tables, shared), recipe.teacher)
    return dataclasses.replace(parse_recipe(merged, Path.cwd()), teacher={})
