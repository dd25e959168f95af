"""Tables of TOML and JSON as frozen records: names and types are checked, one line says what is wrong."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from iqametrics.common.suggest import did_you_mean

_Record = TypeVar("_Record")


def read_fields(cls: type[_Record], values: Any, where: str, *, error: type[Exception], top: bool = False) -> _Record:
    """Fill a dataclass from a table.

    A field's annotation says what it takes: a plain type, `X | None`, `X | Y`, Literal, tuple, list, dict with keys
    of text, another dataclass, or Any. A whole number may stand for a float, a list for a tuple; True is no number;
    numbers are finite.

    Args:
        cls: The dataclass.
        values: The table.
        where: Name of the table, for messages.
        error: Class of the error where a name is unknown or missing, or a value is of another type. What the
            dataclass itself raises for impossible values passes.
        top: Whether the table is the whole file, so that messages name its keys alone.

    >>> @dataclasses.dataclass
    ... class Size:
    ...     width: float
    ...     unit: Literal["px", "cm"] = "px"
    >>> read_fields(Size, {"width": 3}, "size", error=ValueError)
    Size(width=3.0, unit='px')
    >>> read_fields(Size, {"widht": 3}, "size", error=ValueError)
    Traceback (most recent call last):
        ...
    ValueError: size: unknown key 'widht'; did you mean 'width'?
    """
    if not isinstance(values, Mapping):
        raise error(f"{where} = {values!r}: should be a table; write [{where}]")
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise error(
                f"{where}: unknown key {key!r}; {did_you_mean(str(key), known) or 'known are ' + ', '.join(known)}"
            )
    for name, f in known.items():
        if name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            choices = typing.get_args(hints[name]) if typing.get_origin(hints[name]) is Literal else ()
            remedy = f"add it, one of {', '.join(map(repr, choices))}" if choices else "add it"
            raise error(f"{where}: {name} is missing; {remedy}")
    reader = _Reader(error)
    before = "" if top else f"{where}."
    return cls(**{key: reader.read(value, hints[key], f"{before}{key}") for key, value in values.items()})


class _Reader:
    """Checks values against annotations and returns them in those types.

    Args:
        error: Class of the errors.
    """

    def __init__(self, error: type[Exception]) -> None:
        self.error = error

    def read(self, value: Any, hint: Any, where: str) -> Any:
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if hint is Any:
            return value
        if origin in (types.UnionType, typing.Union):
            return self._one_of(value, args, where)
        if dataclasses.is_dataclass(hint):
            return read_fields(typing.cast(type, hint), value, where, error=self.error)
        if origin is Literal:
            if not any(value == arg and type(value) is type(arg) for arg in args):
                raise self.error(f"{where} = {value!r}: choose one of {', '.join(map(repr, args))}")
            return value
        if origin in (tuple, list):
            return self._sequence(value, origin, args, where)
        if origin is dict:
            return self._table(value, args[1], where)
        return self._plain(value, hint, where)

    def _one_of(self, value: Any, hints: tuple[Any, ...], where: str) -> Any:
        kinds = [hint for hint in hints if hint is not types.NoneType]
        if value is None and len(kinds) < len(hints):
            return None
        if len(kinds) == 1:
            return self.read(value, kinds[0], where)
        for hint in kinds:
            try:
                return self.read(value, hint, where)
            except self.error:
                continue
        names = " or ".join(getattr(hint, "__name__", str(hint)) for hint in kinds)
        raise self.error(f"{where} = {value!r}: should be of type {names}")

    def _sequence(self, value: Any, kind: type, hints: tuple[Any, ...], where: str) -> Any:
        if not isinstance(value, list | tuple):
            raise self.error(f"{where} = {value!r}: should be a list")
        if kind is list or hints[-1] is Ellipsis:
            hints = (hints[0],) * len(value)
        if len(value) != len(hints):
            raise self.error(f"{where} = {value!r}: should have {len(hints)} entries")
        pairs = enumerate(zip(value, hints, strict=True))
        return kind(self.read(item, hint, f"{where}[{index}]") for index, (item, hint) in pairs)

    def _table(self, value: Any, hint: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise self.error(f"{where} = {value!r}: should be a table")
        return {key: self.read(item, hint, f"{where}.{key}") for key, item in value.items()}

    def _plain(self, value: Any, hint: type, where: str) -> Any:
        if hint is float and type(value) is int:
            try:
                value = float(value)
            except OverflowError:
                value = math.inf
        # Not isinstance: true would pass for a number.
        if type(value) is not hint:
            raise self.error(f"{where} = {value!r}: should be of type {hint.__name__}")
        if isinstance(value, float) and not math.isfinite(value):
            raise self.error(f"{where} = {value}: give a finite number")
        return value
