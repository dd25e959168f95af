"""A table fills a record, or one line says which key and what is wrong with it."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from iqametrics import DataError, RecipeError
from iqametrics.common.fields import read_fields


@dataclass(frozen=True)
class Inner:
    share: float
    name: str = ""


@dataclass(frozen=True)
class Record:
    count: int
    ratio: float = 0.5
    on: bool = False
    mode: Literal["fr", "nr", 1] = "fr"
    span: tuple[float, float] | None = None
    sides: tuple[int, ...] = ()
    names: list[str] = field(default_factory=list)
    inner: Inner = Inner(0.5)
    inners: tuple[Inner, ...] = ()
    either: int | str = 0
    paths: dict[str, str] = field(default_factory=dict)
    free: Any = None


def read(**values):
    return read_fields(Record, {"count": 1} | values, "table", error=RecipeError)


@pytest.mark.parametrize(
    ("values", "record"),
    [
        ({}, Record(1)),
        ({"ratio": 2}, Record(1, ratio=2.0)),
        ({"span": [0, 1.5]}, Record(1, span=(0.0, 1.5))),
        ({"span": None}, Record(1)),
        ({"sides": []}, Record(1, sides=())),
        ({"sides": [3, 4, 5]}, Record(1, sides=(3, 4, 5))),
        ({"names": ("a",)}, Record(1, names=["a"])),
        ({"inner": {"share": 1}}, Record(1, inner=Inner(1.0))),
        ({"inners": [{"share": 1}, {"share": 0, "name": "b"}]}, Record(1, inners=(Inner(1.0), Inner(0.0, "b")))),
        ({"either": "a"}, Record(1, either="a")),
        ({"mode": 1}, Record(1, mode=1)),
        ({"paths": {"a": "b"}}, Record(1, paths={"a": "b"})),
        ({"free": {"x": [math.inf]}}, Record(1, free={"x": [math.inf]})),
    ],
)
def test_what_fits_is_read_in_the_field_s_own_type(values, record):
    found = read(**values)
    assert found == record
    assert repr(found) == repr(record)  # 1 == 1.0 == True, but they are written differently


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cuont": 1}, "table: unknown key 'cuont'; did you mean 'count'?"),
        ({"zzz": 1}, "table: unknown key 'zzz'; known are count, ratio, on, mode, span, sides, names, inner, inners, "),
        ({"count": True}, "table.count = True: should be of type int"),
        ({"count": 1.0}, "table.count = 1.0: should be of type int"),
        ({"count": None}, "table.count = None: should be of type int"),
        ({"ratio": "1"}, "table.ratio = '1': should be of type float"),
        ({"ratio": True}, "table.ratio = True: should be of type float"),
        ({"ratio": math.nan}, "table.ratio = nan: give a finite number"),
        ({"ratio": -math.inf}, "table.ratio = -inf: give a finite number"),
        ({"ratio": 10**400}, "table.ratio = inf: give a finite number"),
        ({"on": 1}, "table.on = 1: should be of type bool"),
        ({"mode": "rr"}, "table.mode = 'rr': choose one of 'fr', 'nr', 1"),
        ({"mode": True}, "table.mode = True: choose one of 'fr', 'nr', 1"),
        ({"mode": []}, "table.mode = []: choose one of 'fr', 'nr', 1"),
        ({"span": [1]}, "table.span = [1]: should have 2 entries"),
        ({"span": "ab"}, "table.span = 'ab': should be a list"),
        ({"span": [1, "b"]}, "table.span[1] = 'b': should be of type float"),
        ({"sides": [1, 2.5]}, "table.sides[1] = 2.5: should be of type int"),
        ({"inner": 3}, "table.inner = 3: should be a table; write [table.inner]"),
        ({"inner": {}}, "table.inner: share is missing; add it"),
        ({"inners": [{"share": 1}, {"share": "x"}]}, "table.inners[1].share = 'x': should be of type float"),
        ({"either": 1.5}, "table.either = 1.5: should be of type int or str"),
        ({"paths": []}, "table.paths = []: should be a table"),
        ({"paths": {"a": 1}}, "table.paths.a = 1: should be of type str"),
    ],
)
def test_what_does_not_fit_is_one_line(values, message):
    with pytest.raises(RecipeError) as caught:
        read(**values)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_the_error_is_the_caller_s_and_the_top_table_has_no_prefix():
    with pytest.raises(DataError, match=r"^count = 'x': should be of type int$"):
        read_fields(Record, {"count": "x"}, "recipe", error=DataError, top=True)
    with pytest.raises(DataError, match=r"^recipe: count is missing; add it$"):
        read_fields(Record, {}, "recipe", error=DataError, top=True)
    with pytest.raises(DataError, match=r"^recipe = 3: should be a table"):
        read_fields(Record, 3, "recipe", error=DataError)


def test_what_the_record_itself_refuses_passes():
    @dataclass
    class Strict:
        share: float

        def __post_init__(self):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        read_fields(Strict, {"share": 1}, "table", error=DataError)
