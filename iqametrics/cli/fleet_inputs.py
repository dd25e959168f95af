"""From the arguments of `iqametrics fleet` to sources of pictures."""

import argparse
import csv
import io
import os
import sys
from collections.abc import Iterable, Iterator

from iqametrics.cli.common import UsageError
from iqametrics.cli.inputs import Inputs
from iqametrics.cli.stdin import read_paths
from iqametrics.common.files import read_text
from iqametrics.errors import InputError
from iqametrics.fleet.places import Place
from iqametrics.fleet.sources import Named, Parquet, Source, Tar, is_parquet, is_shard, named
from iqametrics.fleet.tables import Columns, holds_paths, open_table, read_texts
from iqametrics.fleet.units import Given
from iqametrics.images.files import natural_key
from iqametrics.images.video import is_video
from iqametrics.scoring import Item

_LISTS = (".csv", ".txt", ".lst")


class Sources:
    """The sources that arguments mean, in order.

    Args:
        args: The options of the command.

    Raises:
        UsageError: If an argument is nothing that is read.
        InputError: If a list or a parquet file cannot be read, or `--ref-dir` is no folder.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.columns = Columns(args.image_column, args.reference_column, args.name_column)
        self.inputs = self._inputs([])
        self._notes: list[str] = []
        self._pictures: int | None = 0

    @property
    def rows(self) -> int | None:
        """How many rows there will be, once the sources were iterated over; None where nobody knows before."""
        return None if self._pictures is None else self._pictures * len(self.args.metric)

    def notes(self) -> list[str]:
        """Tell what was passed over."""
        return self._notes

    def __iter__(self) -> Iterator[Source]:
        for argument in self.args.inputs:
            for source in self._sources(argument):
                if not isinstance(source, Named):
                    self._pictures = None
                elif self._pictures is not None:
                    self._pictures += len(source.pictures)
                yield source

    def _sources(self, argument: str) -> Iterator[Source]:
        suffix = os.path.splitext(argument)[1].lower()
        if os.path.isdir(argument):
            yield from self._in_folder(argument)
        elif is_shard(argument):
            yield Tar(argument)
        elif is_parquet(argument):
            yield from self._in_parquet(argument)
        elif suffix in _LISTS:
            pairs = _csv_rows(argument, self.columns) if suffix == ".csv" else _lines(argument)
            yield from named(_listed(argument, pairs, self.args.ref))
        elif is_video(argument):
            raise UsageError(f"{argument}: videos are not scored by fleet; use iqametrics score")
        elif suffix in (".gz", ".tgz", ".zst", ".bz2", ".xz", ".zip"):
            raise UsageError(
                f"{argument}: packed archives are not read, since no picture in them can be found; unpack it"
            )
        else:
            yield from named(map(_given, self._inputs([argument])))

    def _in_folder(self, folder: str) -> Iterator[Source]:
        shards = sorted(_shards(folder, self.args.recursive), key=natural_key)
        inputs = self._inputs([folder])
        # A folder of shards holds no picture of its own, which is no fault of it.
        items = (item for item in inputs if not (shards and item.image == folder))
        yield from named(map(_given, items))
        self._notes += inputs.notes()
        for shard in shards:
            yield from [Tar(shard)] if is_shard(shard) else self._in_parquet(shard)

    def _in_parquet(self, path: str) -> Iterator[Source]:
        with open_table(path, self.columns) as table:
            if not holds_paths(table, self.columns.image):
                yield Parquet(path, self.columns)
                return
            names = [name for name in (self.columns.image, self.columns.reference) if name in table.schema_arrow.names]
            pairs = ((row[0] or "", row[1] if len(row) > 1 else None) for row in read_texts(table, names))
            yield from named(_listed(path, pairs, self.args.ref))

    def _inputs(self, arguments: list[str]) -> Inputs:
        return Inputs(
            arguments,
            stdin=read_paths(sys.stdin) if arguments == ["-"] else (),
            recursive=self.args.recursive,
            ref=self.args.ref,
            ref_dir=self.args.ref_dir,
        )


def _given(item: Item) -> Given:
    if item.error is not None or item.content is not None:
        return Given(item.image, ["error", item.error or f"{item.image}: fleet does not read this; give a file"])
    reference: Place | None = ["file", item.reference] if item.reference is not None else None
    if item.reference_error is not None:
        reference = ["error", item.reference_error]
    return Given(item.image, ["file", item.image], item.reference, reference)


def _listed(path: str, pairs: Iterable[tuple[str, str | None]], ref: str | None) -> Iterator[Given]:
    """Turn the lines of a list into pictures; relative paths begin at the folder of the list."""
    folder = os.path.dirname(path)
    for image, reference in pairs:
        name = os.path.join(folder, image)
        place: Place = ["file", name] if image else ["error", f"{path}: an empty name of an image; remove the line"]
        partner = os.path.join(folder, reference) if reference else ref
        yield Given(name if image else path, place, partner, None if partner is None else ["file", partner])


def _lines(path: str) -> Iterator[tuple[str, None]]:
    for line in read_text(path, error=InputError, errors="surrogateescape").splitlines():
        if line.strip():
            yield line.strip(), None


def _csv_rows(path: str, columns: Columns) -> Iterator[tuple[str, str | None]]:
    text = read_text(path, error=InputError, errors="surrogateescape")
    rows = csv.DictReader(io.StringIO(text, newline=""))
    if columns.image not in (rows.fieldnames or []):
        raise InputError(f"{path}: has no column {columns.image} in its first line; give --image-column NAME")
    for row in rows:
        yield row[columns.image] or "", row.get(columns.reference) or None


def _shards(folder: str, recursive: bool) -> Iterator[str]:
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and (is_shard(name) or is_parquet(name)):
                yield os.path.join(root, name)
