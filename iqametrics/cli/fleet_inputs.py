"""From the arguments of `iqametrics fleet` to sources of pictures."""

import argparse
import csv
import io
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import PurePath

from iqametrics.cli.common import UsageError
from iqametrics.cli.inputs import Inputs
from iqametrics.cli.stdin import read_paths
from iqametrics.common.files import read_text
from iqametrics.common.remote import find_remote, is_remote, open_remote
from iqametrics.errors import InputError
from iqametrics.fleet.places import Place
from iqametrics.fleet.sources import Named, Parquet, Source, Tar, is_parquet, is_shard, named
from iqametrics.fleet.tables import Columns, holds_paths, open_table, read_texts
from iqametrics.fleet.units import Given
from iqametrics.images import IMAGE_SUFFIXES
from iqametrics.images.files import natural_key
from iqametrics.images.video import is_video
from iqametrics.scoring import Item

_LISTS = (".csv", ".txt", ".lst")
_PACKED = (".gz", ".tgz", ".zst", ".bz2", ".xz", ".zip")


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
        if is_remote(argument) and ("*" in argument or not _is_file(suffix)):
            yield from self._elsewhere(argument)
        elif os.path.isdir(argument):
            yield from self._in_folder(argument)
        elif is_shard(argument):
            yield Tar(argument)
        elif is_parquet(argument):
            yield from self._in_parquet(argument)
        elif suffix in _LISTS:
            pairs = _csv_rows(argument, self.columns) if suffix == ".csv" else _lines(argument)
            yield from named(self._listed(argument, pairs))
        elif is_video(argument):
            raise UsageError(f"{argument}: videos are not scored by fleet; use iqametrics score")
        elif suffix in _PACKED:
            raise UsageError(
                f"{argument}: packed archives are not read, since no picture in them can be found; unpack it"
            )
        elif is_remote(argument):
            yield from named([self._named_by(argument)])
        else:
            yield from named(map(_given, self._inputs([argument])))

    def _elsewhere(self, address: str) -> Iterator[Source]:
        """Find what is in a folder of an object store, or what `*` in an address means."""
        addresses = sorted(find_remote(address, recursive=self.args.recursive), key=natural_key)
        suffixes = [os.path.splitext(each)[1].lower() for each in addresses]
        pictures = [each for each, suffix in zip(addresses, suffixes, strict=True) if suffix in IMAGE_SUFFIXES]
        shards = [each for each in addresses if is_shard(each) or is_parquet(each)]
        if not pictures and not shards:
            raise InputError(f"{address}: holds no picture, tar shard or parquet file; check the address")
        yield from named(map(self._named_by, pictures))
        for shard in shards:
            yield from [Tar(shard)] if is_shard(shard) else self._in_parquet(shard)

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
            yield from named(self._listed(path, pairs))

    def _inputs(self, arguments: list[str]) -> Inputs:
        return Inputs(
            arguments,
            stdin=read_paths(sys.stdin) if arguments == ["-"] else (),
            recursive=self.args.recursive,
            ref=self.args.ref,
            ref_dir=self.args.ref_dir,
        )

    def _named_by(self, name: str) -> Given:
        """Turn a path or an address into a picture."""
        ref = self.args.ref
        if self.inputs.references is None:
            return Given(name, ["file", name], ref, None if ref is None else ["file", ref])
        try:
            partner = self.inputs.references.partner(PurePath(name.rpartition("/")[2]))
        except InputError as error:
            return Given(name, ["file", name], None, ["error", str(error)])
        return Given(name, ["file", name], partner, ["file", partner])

    def _listed(self, path: str, pairs: Iterable[tuple[str, str | None]]) -> Iterator[Given]:
        """Turn the lines of a list into pictures; relative paths begin at the folder of the list."""
        ref = self.args.ref
        for image, reference in pairs:
            name, partner = _beside(path, image), _beside(path, reference) if reference else ref
            problem = self._refused(name, partner) if image else f"{path}: an empty name of an image; remove the line"
            place: Place = ["error", problem] if problem else ["file", name]
            yield Given(name if image else path, place, partner, None if partner is None else ["file", partner])

    def _refused(self, *names: str | None) -> str | None:
        """Say why names of a list are not read: whoever wrote it could make this machine ask any address."""
        for name in names:
            if name is not None and is_remote(name) and not self.args.allow_urls:
                return f"{name}: is an address in a list; give --allow-urls to fetch it"
        return None


def _given(item: Item) -> Given:
    if item.error is not None or item.content is not None:
        return Given(item.image, ["error", item.error or f"{item.image}: fleet does not read this; give a file"])
    reference: Place | None = ["file", item.reference] if item.reference is not None else None
    if item.reference_error is not None:
        reference = ["error", item.reference_error]
    return Given(item.image, ["file", item.image], item.reference, reference)


def _beside(path: str, name: str) -> str:
    """Return a name of a list, from the folder of the list."""
    if is_remote(name) or not is_remote(path):
        return name if is_remote(name) else os.path.join(os.path.dirname(path), name)
    return f"{path.rpartition('/')[0]}/{name.lstrip('/')}"


def _is_file(suffix: str) -> bool:
    return suffix in IMAGE_SUFFIXES or suffix in (*_LISTS, *_PACKED, ".tar", ".parquet", ".pq")


def _read_list(path: str) -> str:
    """Read the text of a list, here or elsewhere."""
    if not is_remote(path):
        return read_text(path, error=InputError, errors="surrogateescape")
    with open_remote(path) as stream:
        return stream.read().decode("utf-8-sig", "surrogateescape")


def _lines(path: str) -> Iterator[tuple[str, None]]:
    for line in _read_list(path).splitlines():
        if line.strip():
            yield line.strip(), None


def _csv_rows(path: str, columns: Columns) -> Iterator[tuple[str, str | None]]:
    text = _read_list(path)
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
