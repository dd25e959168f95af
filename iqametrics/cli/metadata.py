"""Scores as columns of a `metadata.jsonl`: one JSON object a line, with the picture's name in `file_name`.

That is the form in which Hugging Face's `datasets` keeps what is known of a folder of pictures (`imagefolder`).
"""

import json
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqametrics.cli.common import UsageError, complain
from iqametrics.common.files import is_in_place, read_text, write_file
from iqametrics.errors import DataError

if TYPE_CHECKING:
    from iqametrics.scoring import Row

SUFFIX = ".jsonl"
_NAME = "file_name"


class Metadata:
    """The lines of a metadata file, and the scores that go into them.

    Args:
        path: The file; it need not exist.
        fingerprints: Of each metric, by its name in the rows.

    Raises:
        DataError: If the file cannot be read or is not of that form.
    """

    def __init__(self, path: Path, fingerprints: Mapping[str, str]) -> None:
        self.path, self.fingerprints = path, fingerprints
        self._names: dict[str, str] = {}
        self._scores: dict[str, dict[str, float | None]] = {}
        self._outside = 0
        _read(path)

    def watch(self, rows: "Iterable[Row]") -> "Iterator[Row]":
        """Pass rows on, and remember those of files in the folder of the metadata file or below it."""
        for row in rows:
            name = self._name_of(row.image)
            if name is None:
                self._outside += 1
            else:
                self._names.setdefault(_key(name), name)
                self._scores.setdefault(_key(name), {})[row.metric] = row.score
            yield row

    def write(self) -> None:
        """Put the scores into the file: a column a metric and one of its fingerprint, in the line of each picture.

        A line that nothing is said about stays as it is, byte by byte. A picture that could not be scored gets null, so
        that no earlier score stands beside a damaged file. Pictures without a line get one at the end.

        Raises:
            DataError: If the file cannot be read any more, or not be written.
        """
        if self._scores:
            lines, waiting = [], dict(self._names)
            for line, record in _read(self.path):
                key = "" if record is None else _key(record[_NAME])
                if record is None or key not in self._scores:
                    lines.append(line)
                    continue
                waiting.pop(key, None)
                lines.append(_line(record | self._columns(key)))
            lines += [_line({_NAME: Path(name).as_posix()} | self._columns(key)) for key, name in waiting.items()]
            write_file(self.path, "".join(f"{line}\n" for line in lines), error=DataError)
        if self._outside:
            complain(f"note: {self.path}: {self._outside} scores are not in it; their pictures are no files below it")

    def _columns(self, key: str) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        for metric, score in self._scores[key].items():
            columns |= {metric: score, f"{metric}.fingerprint": self.fingerprints[metric]}
        return columns

    def _name_of(self, image: str) -> str | None:
        """Return a picture's path from the file's folder; None for one outside, a frame or an address."""
        if not os.path.isfile(image):
            return None
        # A picture may be a link to elsewhere; it is the link that the file names.
        place = os.path.join(os.path.realpath(os.path.dirname(image)), os.path.basename(image))
        name = os.path.relpath(place, os.path.realpath(self.path.parent))
        return None if name.split(os.sep)[0] == os.pardir or os.path.isabs(name) else name


def check_append_to(path: Path | None) -> None:
    """Refuse a file whose form is another one.

    Raises:
        UsageError: If its name says so, or it is a device or a pipe.
    """
    if path is not None and (path.suffix.lower() != SUFFIX or is_in_place(path)):
        raise UsageError(f"--append-to {path}: give a file of JSON Lines, such as metadata{SUFFIX}")


@contextmanager
def open_metadata(path: Path | None, fingerprints: Mapping[str, str]) -> "Iterator[Metadata | None]":
    """Open a metadata file; what was scored is written into it at the end, also after Ctrl-C.

    Args:
        path: The file; None for none.
        fingerprints: Of each metric, by its name in the rows.
    """
    if path is None:
        yield None
        return
    metadata = Metadata(path, fingerprints)
    try:
        yield metadata
    except KeyboardInterrupt:
        metadata.write()
        raise
    metadata.write()


def _key(name: str) -> str:
    """Make one key of the ways to write a path: with ./ in front, in composed or decomposed letters."""
    return unicodedata.normalize("NFC", os.path.normpath(name))


def _line(record: Mapping[str, Any]) -> str:
    line = json.dumps(record, ensure_ascii=False, allow_nan=False)
    # A name that is not UTF-8 on the disk has no other form than escapes.
    return line if line.isprintable() else json.dumps(record, allow_nan=False)


def _read(path: Path) -> list[tuple[str, dict[str, Any] | None]]:
    """Read the lines as they are, each with what it says; None for an empty one."""
    if not os.path.lexists(path):
        return []
    lines = read_text(path, error=DataError).split("\n")
    return [(line, _record(path, number, line)) for number, line in enumerate(lines, 1) if number < len(lines) or line]


def _record(path: Path, number: int, line: str) -> dict[str, Any] | None:
    if not line.strip():
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, line {number}: is no JSON ({error}); correct the line") from error
    if not isinstance(record, dict) or not isinstance(record.get(_NAME), str):
        raise DataError(f'{path}, line {number}: has no "{_NAME}"; give each line the picture\'s path from this folder')
    return record
