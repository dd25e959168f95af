"""Largest values in a recipe, so that a typing error does not lead to a full memory or a run of years."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from iqametrics.errors import RecipeError

if TYPE_CHECKING:
    from iqametrics.training.recipe import Recipe

_MOST: dict[str, float] = {
    **{"epochs": 10**6, "batch_size": 10**5, "eval_batch_size": 10**5, "accumulate": 10**5, "views": 10**4},
    **{"crop": 2**14, "workers": 256, "lr": 1e3, "backbone_lr": 1e3, "weight_decay": 1e6, "step_factor": 1e6},
    **{
        "grad_clip": 1e30,
        "save_minutes": 1e6,
        "validate_every": 10**9,
        "save_every": 10**9,
        "t_max": 10**9,
        "step_epochs": 10**9,
    },
}
_MOST_SIZE = 4096
_MOST_WEIGHT = 1000


def check_bounds(recipe: "Recipe") -> None:
    """Refuse a recipe with a value beyond its bound.

    Raises:
        RecipeError: If there is such a value.
    """
    for name, most in _MOST.items():
        value = getattr(recipe.train, name)
        _require(
            value is None or isinstance(value, str) or value <= most, f"train.{name}", value, f"give {most:g} or less"
        )
    for where, seed in (("train", recipe.train.seed), ("split", recipe.split.seed)):
        _require(-(2**63) <= seed < 2**63, f"{where}.seed", seed, "give a whole number of at most 18 digits")
    for side in ("min_side", "max_side", "short_side"):
        value = getattr(recipe.sizing, side)
        _require(value <= _MOST["crop"], f"sizing.{side}", value, f"give {_MOST['crop']:g} or less")
    for number, extra in enumerate(recipe.data.extra):
        _require(
            extra.weight <= _MOST_WEIGHT, f"data.extra[{number}].weight", extra.weight, f"give {_MOST_WEIGHT} or less"
        )
    for name, size in _sizes(recipe.model, "model"):
        _require(abs(size) <= _MOST_SIZE, name, size, f"give {_MOST_SIZE} or less")


def _sizes(value: Any, where: str) -> Iterator[tuple[str, int]]:
    """Find the whole numbers of a table, which are sizes of a network, except for its seed."""
    if isinstance(value, Mapping):
        for name, below in value.items():
            if name != "seed":
                yield from _sizes(below, f"{where}.{name}")
    elif isinstance(value, list | tuple):
        for below in value:
            yield from _sizes(below, where)
    elif type(value) is int:
        yield where, value


def _require(holds: bool, name: str, value: Any, remedy: str) -> None:
    if not holds:
        raise RecipeError(f"{name} = {value}: {remedy}")
