"""Values of a method's config, as TOML and JSON give them, in the types that the config's fields have."""

from typing import Any

from iqametrics.errors import RecipeError


def typed_value(name: str, value: Any, default: Any) -> Any:
    """Give a value in the type of its field, which is the type of the field's default.

    Args:
        name: of the field, for the message.
        value: as it was read. A whole number may stand for a float, a list of numbers for a tuple.
        default: any value of the field's type.

    Raises:
        RecipeError: the value has another type.

    >>> typed_value("logit_scale", 100, 1.0), typed_value("pixel_mean", [0, 0.5, 1], (0.0,))
    (100.0, (0.0, 0.5, 1.0))
    """
    if isinstance(default, tuple):
        if not isinstance(value, list | tuple) or not all(_is_number(item) for item in value):
            raise RecipeError(f"{name} = {value!r} is not a list of numbers")
        return tuple(float(item) for item in value)
    if isinstance(default, float) and _is_number(value):
        return float(value)
    if type(value) is not type(default):
        raise RecipeError(f"{name} = {value!r} has the wrong type; give a {type(default).__name__}")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
