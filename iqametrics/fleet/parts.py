"""Finished rows on the disk, so that a killed run loses seconds; at the end, one file in the order of the input.

    OUT.parts/000000.parquet    rows of some units, as they were finished, each written whole or not at all

A unit whose part was not written yet is scored again. What was finished is known by digests (see `units.Unit.digest`):
other weights, other pictures or another version have others, and their rows are left out.
"""

import os
import shutil
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from iqametrics.common.files import open_atomic, remove_parts
from iqametrics.errors import DataError
from iqametrics.fleet.worker import load_rows
from iqametrics.pipeline import Scored

SECONDS, ROWS = 5.0, 8192
"""A part is written after this time, or with this many rows."""
_OPEN = 32
_GROUP = 2**16
_NAMES = [field.name for field in fields(Scored)]
SCHEMA = pa.schema([(name, pa.float64() if name == "score" else pa.string()) for name in _NAMES])
_PART = SCHEMA.append(pa.field("unit", pa.binary(16)))
_REMEDY = "make room; the same command with --resume goes on"


@dataclass(frozen=True)
class _Where:
    part: int
    first: int
    count: int
    failed: tuple[int, ...]
    """Numbers of the pictures that have an error."""


class Parts:
    """The parts of an output.

    Args:
        folder: Their folder, made if it does not exist.
        metrics: Number of the metrics: rows of each picture.
        resume: Whether to take over what is there; it is removed otherwise.

    Raises:
        DataError: If the folder cannot be written.
    """

    def __init__(self, folder: Path, metrics: int, *, resume: bool) -> None:
        self.folder, self.metrics = folder, metrics
        self.units: dict[bytes, _Where] = {}
        self._waiting: list[tuple[bytes, list[Scored]]] = []
        self._rows, self._since = 0, time.monotonic()
        self._tables: OrderedDict[int, pa.Table] = OrderedDict()
        try:
            folder.mkdir(exist_ok=True)
            for path in [] if resume else self._paths():
                path.unlink()
            remove_parts(folder)
        except OSError as error:
            raise DataError(f"{folder}: cannot be written ({error.strerror}); choose another --output") from error
        self._number = 0
        for path in self._paths():
            self._read(path)
            self._number = int(path.stem) + 1
        self._before = dict(self.units)

    def finished(self) -> dict[bytes, tuple[int, ...]]:
        """Return the finished units, each with the numbers of the pictures that had an error."""
        return {digest: where.failed for digest, where in self._before.items()}

    def add(self, digest: bytes, content: bytes) -> list[Scored]:
        """Take the rows of a unit, see `worker.UnitScorer.score`; where pictures were tried again, those of these.

        Returns:
            The rows that are new.
        """
        new = rows = load_rows(content)
        where = self._before.get(digest)
        if where is not None:
            rows = self._kept(digest)
            for index, number in enumerate(where.failed):
                at, to = index * self.metrics, number * self.metrics
                rows[to : to + self.metrics] = new[at : at + self.metrics]
        self._waiting.append((digest, rows))
        self._rows += len(rows)
        if self._rows >= ROWS or time.monotonic() - self._since >= SECONDS:
            self.flush()
        return new

    def flush(self) -> None:
        """Write what waits.

        Raises:
            DataError: If it cannot be written.
        """
        self._since = time.monotonic()
        if not self._waiting:
            return
        rows = [row for _, together in self._waiting for row in together]
        names = [digest for digest, together in self._waiting for _ in together]
        table = _table(rows).append_column("unit", pa.array(names, pa.binary(16)))
        with open_atomic(self.folder / f"{self._number:06d}.parquet", error=DataError, remedy=_REMEDY) as stream:
            pq.write_table(table, stream)
        self._note(self._number, table)
        self._number += 1
        self._waiting, self._rows = [], 0

    def count(self, digest: bytes) -> tuple[int, int]:
        """Return how many rows a unit that is written has, and how many of its pictures have an error."""
        return self.units[digest].count, len(self.units[digest].failed)

    def join(self, digests: Sequence[bytes], stream: BinaryIO) -> None:
        """Write the rows of units, in their order, as one parquet file."""
        with pq.ParquetWriter(stream, SCHEMA, compression="zstd") as writer:
            for tables in _bundled(self._slice(digest) for digest in digests):
                writer.write_table(pa.concat_tables(tables))

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder)

    def _paths(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.parquet") if path.stem.isdecimal())

    def _read(self, path: Path) -> None:
        try:
            self._note(int(path.stem), pq.read_table(path, columns=["unit", "error"]))
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{path}: cannot be read ({error}); remove it, and its pictures are scored again"
            ) from error

    def _note(self, part: int, table: pa.Table) -> None:
        """Remember where the units of a part are."""
        names, errors = table.column("unit").to_pylist(), table.column("error").is_valid().to_pylist()
        first = 0
        for end in range(1, len(names) + 1):
            if end == len(names) or names[end] != names[first]:
                failed = {index // self.metrics for index in range(end - first) if errors[first + index]}
                self.units[names[first]] = _Where(part, first, end - first, tuple(sorted(failed)))
                first = end

    def _kept(self, digest: bytes) -> list[Scored]:
        return [Scored(**row) for row in self._slice(digest).to_pylist()]

    def _slice(self, digest: bytes) -> pa.Table:
        where = self.units[digest]
        if where.part in self._tables:
            self._tables.move_to_end(where.part)
        else:
            # Units are finished nearly in their order, so that few parts are wanted at a time.
            path = self.folder / f"{where.part:06d}.parquet"
            self._tables[where.part] = pq.read_table(path, schema=_PART).select(_NAMES)
            if len(self._tables) > _OPEN:
                self._tables.popitem(last=False)
        return self._tables[where.part].slice(where.first, where.count)


def _table(rows: Sequence[Scored]) -> pa.Table:
    columns = [[getattr(row, name) for row in rows] for name in _NAMES]
    return pa.table(
        [column if name == "score" else list(map(_text, column)) for name, column in zip(_NAMES, columns, strict=True)],
        SCHEMA,
    )


def _text(name: str | None) -> str | None:
    """Return a text that parquet can hold: bytes of a name that are no UTF-8 are escaped."""
    return name if name is None or name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")


def _bundled(tables: Iterator[pa.Table]) -> Iterator[list[pa.Table]]:
    bundle: list[pa.Table] = []
    rows = 0
    for table in tables:
        bundle.append(table)
        rows += len(table)
        if rows >= _GROUP:
            yield bundle
            bundle, rows = [], 0
    if bundle:
        yield bundle
