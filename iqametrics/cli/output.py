"""Rows to a table, CSV, JSON or JSON lines, on stdout or, written atomically, into a file."""

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO

from iqametrics.cli.gate_output import GithubWriter, JunitWriter
from iqametrics.common.files import open_atomic
from iqametrics.common.interrupts import shielded
from iqametrics.errors import DataError

FORMATS = ("table", "csv", "json", "jsonl")
GATE_FORMATS = ("junit", "github")
"""Forms for the programs that show what a gate found: JUnit's XML, GitHub's workflow commands."""

Record = Mapping[str, Any]
_FORMULA = frozenset("=+-@\t\r")
_PATHS = ("image", "reference", "file")
_BOLD, _RED, _YELLOW, _PLAIN = "\033[1m", "\033[31m", "\033[33m", "\033[0m"


class RowWriter(Protocol):
    """Takes rows one by one; `finish` writes the rest."""

    def write(self, row: Record) -> None:
        """Take a row."""

    def finish(self) -> None:
        """End the output so that it is well-formed."""


class TableWriter:
    """Aligned columns, whose widths need all rows; a column without any value is left out."""

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
    """CSV with a header, row by row; no text in it is a formula to a spreadsheet (see `no_formula`).

    On a terminal, escape sequences of names are escaped, as `ls` does; elsewhere names are as they are.
    """

    def __init__(self, stream: TextIO, columns: Sequence[str]) -> None:
        self.stream = stream
        self.columns = columns
        self._write(columns)

    def write(self, row: Record) -> None:
        """Write a row."""
        cells = [no_formula(row.get(column), column) for column in self.columns]
        if self.stream.isatty():
            cells = [printable(cell) if isinstance(cell, str) else cell for cell in cells]
        self._write(cells)
        self.stream.flush()

    def _write(self, cells: Sequence[object]) -> None:
        # Python before 3.13 quotes a carriage return only where it is part of the line's end.
        line = io.StringIO(newline="")
        csv.writer(line, lineterminator="\r\n").writerow(cells)
        self.stream.write(line.getvalue().removesuffix("\r\n") + "\n")

    def finish(self) -> None:
        """Do nothing: each row was written at once."""


class JsonlWriter:
    """One JSON object a line, row by row."""

    def __init__(self, stream: TextIO, columns: Sequence[str]) -> None:
        self.stream = stream

    def write(self, row: Record) -> None:
        """Write a row."""
        self.stream.write(json.dumps(row, allow_nan=False) + "\n")
        self.stream.flush()

    def finish(self) -> None:
        """Do nothing: each row was written at once."""


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
    """Open an output for rows; after an interrupt (Ctrl-C) the rows so far are kept, in a well-formed file.

    Args:
        format_name: One of `FORMATS` or `GATE_FORMATS`.
        columns: Names and order of the columns of a table or CSV.
        path: The file; None for stdout.

    Raises:
        DataError: If the file cannot be written.
    """
    interrupt: KeyboardInterrupt | None = None
    with ExitStack() as until_in_place:
        stream = until_in_place.enter_context(open_text(path))
        writer = _WRITERS[format_name](stream, columns)
        try:
            yield writer if path is None else _WholeRows(writer)
        except KeyboardInterrupt as caught:
            # Raised again when the file is in its place.
            interrupt = caught
        with shielded():
            writer.finish()
            until_in_place.close()
    if interrupt is not None:
        raise interrupt


class _WholeRows:
    """Writes each row completely, whatever signal comes meanwhile; not for stdout, whose reader may pause."""

    def __init__(self, writer: RowWriter) -> None:
        self.writer = writer

    def write(self, row: Record) -> None:
        with shielded():
            self.writer.write(row)

    def finish(self) -> None:
        self.writer.finish()


@contextmanager
def open_text(path: Path | None) -> Iterator[TextIO]:
    """Open stdout, or a file that is written atomically.

    Raises:
        DataError: If the file cannot be written.
    """
    if path is None:
        # A closed stdout is reported before anything is scored.
        sys.stdout.write("")
        yield sys.stdout
        return
    with open_atomic(path, error=DataError) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="")
        yield text
        # Not closed with the wrapper, since the stream must still replace its target.
        text.detach()


def no_formula(value: object, column: str) -> object:
    """Change a text that a spreadsheet would run as a formula, such as `=cmd|...` in a file's name.

    A path gets `./` in front, which leaves it a path to the same file; any other text gets an apostrophe.

    >>> no_formula("=1+1.png", "image"), no_formula("-x: is damaged", "error"), no_formula(-0.5, "score")
    ('./=1+1.png', "'-x: is damaged", -0.5)
    """
    if not isinstance(value, str) or value[:1] not in _FORMULA or value == "-":
        return value
    return f"./{value}" if column in _PATHS else f"'{value}"


def _cell(value: object) -> str:
    if value is None:
        return ""
    return printable(f"{value:.4f}" if isinstance(value, float) else str(value))


def printable(text: str) -> str:
    """Escape line breaks and control characters, which a file's name or a checkpoint may have."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
