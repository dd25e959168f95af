"""What is to be scored: pictures by name, tar shards, parquet files."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from iqametrics.common.remote import is_remote
from iqametrics.errors import InputError
from iqametrics.fleet.places import Place, stamp
from iqametrics.fleet.tables import Columns, open_table, read_texts
from iqametrics.fleet.tars import members
from iqametrics.fleet.units import Given, Unit, cut, units


@dataclass(frozen=True)
class Named:
    """Pictures by name, few enough for one unit.

    Attributes:
        pictures: The pictures; their stamps are not known yet.
    """

    pictures: tuple[Given, ...]


@dataclass(frozen=True)
class Tar:
    """A tar shard.

    Attributes:
        path: The file.
    """

    path: str


@dataclass(frozen=True)
class Parquet:
    """A parquet file that holds pictures.

    Attributes:
        path: The file.
        columns: Names of its columns.
    """

    path: str
    columns: Columns


Source: TypeAlias = "Named | Tar | Parquet"


def dump_source(source: Source) -> bytes:
    """Return a source as bytes, which a worker can read without unpickling."""
    if isinstance(source, Named):
        return json.dumps(["named", [list(vars(picture).values()) for picture in source.pictures]]).encode()
    if isinstance(source, Tar):
        return json.dumps(["tar", source.path]).encode()
    return json.dumps(["parquet", source.path, *vars(source.columns).values()]).encode()


def load_source(content: bytes) -> Source:
    """Return the source that `dump_source` wrote."""
    kind, first, *rest = json.loads(content)
    if kind == "named":
        return Named(tuple(Given(*values) for values in first))
    return Tar(first) if kind == "tar" else Parquet(first, Columns(*rest))


def named(pictures: Iterable[Given]) -> Iterator[Named]:
    """Cut pictures by name into sources."""
    return map(Named, cut(pictures))


def units_of(number: int, source: Source, *, full_reference: bool) -> Iterator[Unit]:
    """Find the units of a source; its headers are read, its pictures are not.

    Args:
        number: Number of the source.
        source: The source.
        full_reference: Whether references are needed.
    """
    if isinstance(source, Named):
        pictures = [_stamped(picture) for picture in source.pictures]
        return iter([Unit(number, 0, True, tuple(pictures))])
    found = _in_tar(source, full_reference) if isinstance(source, Tar) else _in_parquet(source, full_reference)
    return units(number, _any(source.path, found))


def _any(path: str, pictures: Iterator[Given]) -> Iterator[Given]:
    """Yield pictures, or where there are none one that says so."""
    first = next(pictures, Given(path, ["error", f"{path}: holds no picture; leave it out"]))
    yield first
    yield from pictures


def _stamped(picture: Given) -> Given:
    places = [picture.place, picture.reference_place]
    # To ask for the stamp of a picture elsewhere takes about as long as to read it.
    stamps = [stamp(place[1]) if place and place[0] == "file" and not is_remote(place[1]) else None for place in places]
    return Given(picture.image, picture.place, picture.reference, picture.reference_place, stamps)


def _in_tar(source: Tar, full_reference: bool) -> Iterator[Given]:
    known = stamp(source.path)
    for member in members(source.path):
        name = f"{source.path}/{member.name}" if member.name else source.path
        if member.problem:
            yield Given(name, ["error", member.problem], stamp=known)
            continue
        place: Place = ["piece", source.path, member.first, member.length]
        reference = member.reference if full_reference else None
        if reference is None:
            yield Given(name, place, stamp=known)
        else:
            called = f"{source.path}/{reference.name}"
            yield Given(name, place, called, ["piece", source.path, reference.first, reference.length], known)


def _in_parquet(source: Parquet, full_reference: bool) -> Iterator[Given]:
    path, columns = source.path, source.columns
    known = stamp(path)
    try:
        with open_table(path, columns) as table:
            yield from _in_table(source, table, known, full_reference)
    except InputError as error:
        yield Given(path, ["error", str(error)], stamp=known)


def _in_table(source: Parquet, table: Any, known: object, full_reference: bool) -> Iterator[Given]:
    path, columns = source.path, source.columns
    has_reference = full_reference and columns.reference in table.schema_arrow.names
    names = read_texts(table, [columns.name]) if columns.name else None
    row = 0
    for group in range(table.num_row_groups):
        for index in range(table.metadata.row_group(group).num_rows):
            called = next(names)[0] if names else None
            name = called or f"{path}#{row}"
            place: Place = ["row", path, group, index, columns.image]
            row += 1
            if has_reference:
                other: Place = ["row", path, group, index, columns.reference]
                yield Given(name, place, f"{name} ({columns.reference})", other, known)
            else:
                yield Given(name, place, stamp=known)


def is_shard(path: str) -> bool:
    """Tell whether a file is a tar shard, by its name."""
    return os.path.splitext(path)[1].lower() == ".tar"


def is_parquet(path: str) -> bool:
    """Tell whether a file is a parquet file, by its name."""
    return os.path.splitext(path)[1].lower() in (".parquet", ".pq")
