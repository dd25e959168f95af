"""Rows to a table, CSV, JSON or JSON lines, on stdout or into a file that is there whole or not at all."""

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO

from iqametrics.cli.gate_output import GithubWriter, JunitWriter
from iqametrics.common.files import open_atomic
from iqametrics.errors import DataError

FORMATS = ("table", "csv", "json", "jsonl")
GATE_FORMATS = ("junit", "github")
"""Forms for the programs that show what a gate found: JUnit's XML, GitHub's workflow commands."""

Record = Mapping[str, Any]
_BOLD, _RED, _YELLOW, _PLAIN = "\033[1m", "\033[31m", "\033[33m", "\033[0m"


class RowWriter(Protocol):
    """Takes rows one by one; `finish` writes what is still missing."""

    def write(self, row: Record) -> None:
        """Take a row."""

    def finish(self) -> None:
        """End the output so that it is well-formed."""


class TableWriter:
    """Aligned columns, known only when all rows are; a column without any value is left out."""

    def __init__(self, stream: TextIO, columns: Sequence[str]) -> None:
        self.stream = stream
        self.columns = columns
        self.rows: list[list[str]] = []
        self.colours: list[str] = []
        self.coloured = stream.isatty() and not os.environ.get("NO_COLOR")

    def write(self, row: Record) -> None:
        """Take a row."""
        self.rows.append([_cell(row.get(column)) for column in self.columns])
        self.colours.append(_YELLOW if row.get("error") else _RED if row.get("fails") else "")

    def finish(self) -> None:
        """Write the table."""
        used = [i for i in range(len(self.columns)) if any(row[i] for row in self.rows)]
        lines = [[self.columns[i] for i in used], *([row[i] for i in used] for row in self.rows)]
        widths = [max(len(line[k]) for line in lines) for k in range(len(used))]
        for line, colour in zip(lines if self.rows else [], [_BOLD, *self.colours], strict=False):
            text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            self.stream.write(f"{colour}{text}{_PLAIN}\n" if self.coloured and colour else f"{text}\n")


class CsvWriter:
    """CSV with a header, row by row."""

    def __init__(self, stream: TextIO, columns: Sequence[str]) -> None:
        self.stream = stream
        self.writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        self.writer.writeheader()

    def write(self, row: Record) -> None:
        """Write a row."""
        self.writer.writerow(row)
        self.stream.flush()

    def finish(self) -> None:
        """Nothing is missing."""


class JsonlWriter:
    """One JSON object a line, row by row."""

    def __init__(self, stream: TextIO, columns: Sequence[str]) -> None:
        self.stream = stream

    def write(self, row: Record) -> None:
        """Write a row."""
        self.stream.write(json.dumps(row, allow_nan=False) + "\n")
        self.stream.flush()

    def finish(self) -> None:
        """Nothing is missing."""


class JsonWriter:
    """A JSON list of objects, one a line."""

    def __init__(self, stream: TextIO, columns: Sequence[str]) -> None:
        self.stream = stream
        self.before = "[\n  "

    def write(self, row: Record) -> None:
        """Write a row."""
        self.stream.write(self.before + json.dumps(row, allow_nan=False))
        self.before = ",\n  "

    def finish(self) -> None:
        """Close the list."""
        self.stream.write("[]\n" if self.before.startswith("[") else "\n]\n")


_WRITERS: dict[str, Callable[[TextIO, Sequence[str]], RowWriter]] = {
    "table": TableWriter,
    "csv": CsvWriter,
    "jsonl": JsonlWriter,
    "json": JsonWriter,
    "junit": JunitWriter,
    "github": GithubWriter,
}


@contextmanager
def open_rows(format_name: str, columns: Sequence[str], path: Path | None = None) -> Iterator[RowWriter]:
    """Open an output for rows; what was written is kept and well-formed also after an interrupt (Ctrl-C).

    Args:
        format_name: One of `FORMATS` or `GATE_FORMATS`.
        columns: Names and order of the columns of a table or CSV.
        path: The file; None for stdout.

    Raises:
        DataError: The file cannot be written.
    """
    interrupt: KeyboardInterrupt | None = None
    with open_text(path) as stream:
        writer = _WRITERS[format_name](stream, columns)
        try:
            yield writer
        except KeyboardInterrupt as caught:
            # Raised again when the file is in its place.
            interrupt = caught
        writer.finish()
    if interrupt is not None:
        raise interrupt


@contextmanager
def open_text(path: Path | None) -> Iterator[TextIO]:
    """Open stdout, or a file that is there whole or not at all.

    Raises:
        DataError: The file cannot be written.
    """
    if path is None:
        yield sys.stdout
        return
    with open_atomic(path, error=DataError) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="")
        yield text
        # Not closed with the wrapper: the stream has still to be put in its place.
        text.detach()


def _cell(value: object) -> str:
    if value is None:
        return ""
    return printable(f"{value:.4f}" if isinstance(value, float) else str(value))


def printable(text: str) -> str:
    """Write line breaks and escape sequences, which a file's name or a checkpoint may hold, as what they are."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
