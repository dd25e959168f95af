"""Columns of a parquet file: pictures as bytes, and what they are called."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from iqametrics.errors import InputError
from iqametrics.fleet.places import Nothing, open_place
from iqametrics.pipeline import Picture

ROWS_AT_ONCE = 16


@dataclass(frozen=True)
class Columns:
    """Names of the columns.

    Attributes:
        image: The picture: its bytes, a struct with `bytes` (as of Hugging Face's datasets), or its path.
        reference: The reference, likewise.
        name: What the picture is called; None for the file's name and the number of the row.
    """

    image: str = "image"
    reference: str = "reference"
    name: str | None = None


@contextmanager
def open_table(path: str, columns: Columns) -> Iterator[pq.ParquetFile]:
    """Open a parquet file.

    Raises:
        InputError: If it is none, or lacks a column.
    """
    with open_place(path) as stream:
        try:
            table = pq.ParquetFile(stream)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: is no parquet file ({_line(error)}); check it, or write it anew") from error
        for column, option in ((columns.image, "--image-column"), (columns.name, "--name-column")):
            if column is not None and column not in table.schema_arrow.names:
                raise InputError(f"{path}: has no column {column}; give {option} NAME")
        yield table


def holds_paths(table: pq.ParquetFile, column: str) -> bool:
    """Tell whether a column holds paths, not pictures."""
    kind = table.schema_arrow.field(column).type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def read_texts(table: pq.ParquetFile, columns: Sequence[str]) -> Iterator[tuple[str | None, ...]]:
    """Read columns of texts, row by row."""
    for batch in table.iter_batches(columns=list(dict.fromkeys(columns)), batch_size=1024):
        yield from zip(*(batch.column(name).cast(pa.string()).to_pylist() for name in columns), strict=True)


class Rows:
    """Reads pictures of parquet files; goes on where it was, as long as the rows that are asked for come later."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._key: tuple[Any, ...] | None = None
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._first = 0
        self._batch: pa.RecordBatch | None = None

    def read(
        self, path: str, group: int, rows: Sequence[int], columns: Sequence[str]
    ) -> dict[tuple[int, str], Picture]:
        """Read rows of one row group.

        Args:
            path: The file.
            group: Number of the row group.
            rows: Numbers of the rows in it, ascending.
            columns: The columns.

        Returns:
            The picture of each row and column; one that tells why, where the file cannot be read.
        """
        found: dict[tuple[int, str], Picture] = {}
        try:
            for row in rows:
                batch, index = self._at(path, group, row, tuple(columns))
                found |= {(row, column): _bytes(batch.column(column)[index].as_py()) for column in columns}
        except (InputError, pa.ArrowException, OSError) as error:
            self._key = None
            told = str(error) if isinstance(error, InputError) else f"{path}: cannot be read ({_line(error)}); check it"
            return {(row, column): Nothing(told) for row in rows for column in columns}
        return found

    def __del__(self) -> None:
        self._open.close()

    def _at(self, path: str, group: int, row: int, columns: tuple[str, ...]) -> tuple[pa.RecordBatch, int]:
        key = (path, group, columns)
        if key != self._key or self._batch is None or row < self._first:
            self._open.close()
            table = self._open.enter_context(open_table(path, Columns(columns[0])))
            self._batches = table.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=list(columns))
            self._key, self._first, self._batch = key, 0, next(self._batches)
        while row >= self._first + len(self._batch):
            self._first += len(self._batch)
            self._batch = next(self._batches)
        return self._batch, row - self._first


def _bytes(value: Any) -> Picture:
    if isinstance(value, dict):
        value = value.get("bytes")
    return value if isinstance(value, bytes) else None


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
