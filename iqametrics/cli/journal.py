"""Finished scores on the disk during a run, so that a run that is killed loses none and can be resumed.

    FILE.journal    JSON Lines beside the output FILE: each row, with its metric and files, as soon as it is known

Lines are independent, and one that was cut by a crash is ignored. A row is reused if image, reference, metric and its
weights, precision and kind of device, version, and the size and time of change of both files are the same.
"""

import contextlib
import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqametrics.cli.common import UsageError, complain
from iqametrics.common.files import is_in_place
from iqametrics.common.interrupts import shielded
from iqametrics.errors import DataError

if TYPE_CHECKING:
    from iqametrics.metric import Metric
    from iqametrics.scoring import Item, Row

Stamp = tuple[int, int] | None
"""Size and time of change of a file; None where there is none."""
_Stamps = tuple[Stamp, Stamp]
_SUFFIX = ".journal"
_MOST_BYTES_OF_A_NAME = 255


class Journal:
    """The journal of an output.

    In memory it takes some hundred bytes for each row that an earlier run left.

    Args:
        path: The file, which is created if it does not exist.
        makers: For each metric, by its name in the rows, a digest of all that its scores depend on besides the images.
        resume: Whether to reuse its rows; otherwise they are removed.

    Raises:
        DataError: If the file cannot be read or written.
    """

    def __init__(self, path: Path, makers: Mapping[str, str], *, resume: bool) -> None:
        self.path, self.makers = path, makers
        self._places: dict[bytes, int] = {}
        try:
            self._file = path.open("r+b" if resume and path.exists() else "w+b", buffering=0)
            self._end = self._read()
            self._file.truncate(self._end)
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror}); choose another --output") from error

    def kept(self, item: "Item", stamps: _Stamps, modes: Mapping[str, str]) -> list[int]:
        """Find the rows of an image; none where one of them is missing.

        Args:
            item: The image.
            stamps: Size and time of change of the image and its reference.
            modes: Mode of each metric, "fr" or "nr".
        """
        places = []
        for metric, mode in modes.items():
            reference, of_reference = (item.reference, stamps[1]) if mode == "fr" else (None, None)
            key = _key(item.image, reference, metric, self.makers[metric], [stamps[0], of_reference])
            if item.content is not None or item.error is not None or key not in self._places:
                return []
            places.append(self._places[key])
        return places

    def row(self, place: int) -> "Row":
        """Read a row that `kept` found."""
        from iqametrics.scoring import Row

        self._file.seek(place)
        record = json.loads(_line(self._file))
        uncertainty = record.get("uncertainty")
        return Row(record["image"], record["reference"], record["metric"], record["score"], uncertainty=uncertainty)

    def add(self, row: "Row", stamps: _Stamps) -> None:
        """Write a row, unless it has an error: such an image is tried again next time."""
        if row.score is None:
            return
        of_reference = stamps[1] if row.reference is not None else None
        record: dict[str, Any] = {"image": row.image, "reference": row.reference, "metric": row.metric}
        record |= {"score": row.score, "by": self.makers[row.metric], "files": [stamps[0], of_reference]}
        record |= {} if row.uncertainty is None else {"uncertainty": row.uncertainty}
        line = json.dumps(record).encode() + b"\n"
        with shielded():
            try:
                self._file.seek(self._end)
                self._file.write(line)
            except OSError as error:
                raise DataError(
                    f"{self.path}: cannot be written ({error.strerror}); make room, then the same command with "
                    "--resume goes on"
                ) from error
            self._end += len(line)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read(self) -> int:
        """Find the rows; return where the last whole line ends."""
        end = 0
        with open(self.path, "rb") as stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    record = json.loads(line)
                    if type(record["score"]) is float and type(record.get("uncertainty", 0.0)) is float:
                        names = (record["image"], record["reference"], record["metric"], record["by"])
                        self._places[_key(*names, record["files"])] = end
                end += len(line)
        return end


def _key(image: str, reference: str | None, metric: str, maker: str, files: Sequence[Any]) -> bytes:
    known = [image, reference, metric, maker, *(None if stamp is None else list(stamp) for stamp in files)]
    return hashlib.blake2b(json.dumps(known).encode(), digest_size=12).digest()


def _line(stream: Any) -> bytes:
    pieces = b""
    while not pieces.endswith(b"\n") and (piece := stream.read(2**12)):
        pieces += piece
        if b"\n" in piece:
            return pieces[: pieces.index(b"\n")]
    return pieces


def journal_path(output: Path) -> Path:
    """Name the journal of an output, by a digest if the output's name is too long for a suffix."""
    name = output.name + _SUFFIX
    if len(os.fsencode(name)) > _MOST_BYTES_OF_A_NAME:
        name = f"{output.name[:24]}.{hashlib.sha256(os.fsencode(output.name)).hexdigest()[:8]}{_SUFFIX}"
    return output.with_name(name)


def check_resume(output: Path | None, option: str, *, resume: bool) -> None:
    """Refuse `--resume` where there is nothing to resume.

    Raises:
        UsageError: If no output file is named, or it is a device or a pipe.
    """
    if resume and (output is None or is_in_place(output)):
        raise UsageError(f"--resume goes on with a file that was begun; give {option} FILE")


@contextmanager
def open_journal(
    output: Path | None, metrics: "Sequence[Metric]", *, resume: bool, uncertainty: bool = False
) -> "Iterator[Journal | None]":
    """Open the journal of an output; it is removed if the block ends without an error and `resume` is not set.

    Args:
        output: The file; None, or a device, for one that has no journal.
        metrics: The metrics.
        resume: Whether to reuse its rows, and to keep the journal for the next time.
        uncertainty: Whether rows have the uncertainty of the metrics that know it; rows without it are not reused.
    """
    if output is None or is_in_place(output):
        yield None
        return
    path = journal_path(Path(os.path.realpath(output)))
    if not resume and path.exists():
        complain(f"note: {path} of an earlier run is begun anew; with --resume its scores would have been taken over")
    makers = {
        metric.full_name: _maker(metric, uncertainty=uncertainty and metric.knows_uncertainty) for metric in metrics
    }
    journal = Journal(path, makers, resume=resume)
    try:
        yield journal
    finally:
        journal.close()
    if not resume:
        path.unlink(missing_ok=True)


def with_journal(
    journal: Journal | None,
    metrics: "Sequence[Metric]",
    items: "Iterable[Item]",
    score: "Callable[[Iterable[Item]], Iterator[Row]]",
) -> "Iterator[Row]":
    """Score the items that a journal has no rows of, and yield all rows in the order of the items.

    Args:
        journal: The journal; None scores all.
        metrics: The metrics.
        items: The images, taken as they are needed.
        score: Scores images, one row for each metric.
    """
    if journal is None:
        yield from score(items)
        return
    modes = {metric.full_name: metric.mode for metric in metrics}
    # In order: places of kept rows, or the stamps of images that are being scored.
    plan: deque[list[int] | _Stamps] = deque()

    def fresh() -> "Iterator[Item]":
        for item in items:
            # Before it is read: what changes meanwhile is scored again next time.
            stamps = _stamp(item.image), _stamp(item.reference)
            if places := journal.kept(item, stamps, modes):
                plan.append(places)
            else:
                plan.append(stamps)
                yield item

    def kept_rows() -> "Iterator[Row]":
        while plan and isinstance(plan[0], list):
            for place in plan.popleft():
                yield journal.row(place)  # type: ignore[arg-type]

    stamps: _Stamps = (None, None)
    for number, row in enumerate(score(fresh())):
        if number % len(metrics) == 0:
            yield from kept_rows()
            stamps = plan.popleft()  # type: ignore[assignment]
        journal.add(row, stamps)
        yield row
    yield from kept_rows()


def _stamp(path: str | None) -> Stamp:
    if path is None:
        return None
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


def _maker(metric: "Metric", *, uncertainty: bool) -> str:
    """Digest all that the rows of a metric depend on besides the images, and whether they have an uncertainty."""
    import torch

    from iqametrics import __version__

    parameters = list(metric.parameters())
    kind = (str(parameters[0].dtype), parameters[0].device.type) if parameters else ()
    configs = [getattr(module, "config", None) for module in metric.modules()]
    known = hashlib.sha256(repr([uncertainty, __version__, metric.full_name, metric.sizing, configs, kind]).encode())
    for name, tensor in sorted(metric.state_dict().items()):
        known.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        known.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return known.hexdigest()[:16]
