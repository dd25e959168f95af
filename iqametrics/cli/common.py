"""Shared by the commands: a parser that reports a mistake in one line, options, and the creation of metrics."""

import argparse
import gc
import math
import os
import re
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from iqametrics.cli.output import printable
from iqametrics.common.devices import AUTO, DEVICES
from iqametrics.common.files import is_in_place
from iqametrics.errors import UnknownMetricError
from iqametrics.naming import parse_name
from iqametrics.registry import BareNameWarning, LiteCheckpointWarning, check_name, create_metric
from iqametrics.spec import VIEWS, View

if TYPE_CHECKING:
    from iqametrics.metric import Metric

METRIC = "NAME[.TAG][=FILE]"
METRIC_HELP = (
    "metric, with or without a checkpoint's tag (pfd-iqa.lite), a checkpoint file (pfd-iqa=my.safetensors) or one on "
    "the Hub (pfd-iqa=hub:ORG/NAME@REVISION)"
)

_UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3}

MOST_THREADS = 256
EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_BELOW = 3
EXIT_SIGNAL = 128
"""To this, the number of the signal that ended the command is added: 130 for Ctrl-C, 143 for SIGTERM."""
EXIT_BROKEN_PIPE = 141


class UsageError(Exception):
    """A command line that asks for something impossible."""


class Parser(argparse.ArgumentParser):
    """An argument parser that reports a mistake in one line and takes no abbreviated options."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Leave with status 2."""
        self.exit(EXIT_USAGE, f"iqametrics: error: {printable(message)} (see {self.prog} --help)\n")


def complain(message: str) -> None:
    """Write one line on stderr, whatever names of files or words of a checkpoint stand in it."""
    print(f"iqametrics: {printable(message)}", file=sys.stderr)


def tell_in_one_line(category: type[Warning]) -> None:
    """Show warnings of a kind as one line each on stderr; within `warnings.catch_warnings`, which ends it."""
    usual = warnings.showwarning

    def show(message: Warning | str, kind: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(kind, category):
            complain(f"note: {message}")
        else:
            usual(message, kind, *where, **more)

    warnings.simplefilter("always", category)
    warnings.showwarning = show  # type: ignore[assignment]


def check_output(path: Path | None, option: str) -> None:
    """Refuse an output that cannot be written, before anything slow begins.

    Raises:
        UsageError: If it is a folder, lies in none, or has a name that no file can have.
    """
    if path is None:
        return
    if os.path.isdir(path) or not os.path.isdir(path.parent):
        raise UsageError(f"{option} {path} is a folder or lies in one that does not exist; give a file")
    try:
        is_in_place(path)
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or error
        raise UsageError(f"{option} {path}: cannot be written ({told}); give another file") from error


def positive(text: str) -> int:
    """Parse a whole number from 1 up."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def threads(text: str) -> int:
    """Parse a number of threads, from 1 up to `MOST_THREADS`."""
    value = positive(text)
    if value > MOST_THREADS:
        raise argparse.ArgumentTypeError(f"{text} is more than {MOST_THREADS}, beyond which threads only wait")
    return value


def finite(text: str) -> float:
    """Parse a number other than NaN and infinity."""
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number")
    return value


def seconds(text: str) -> float:
    """Parse a step of time: "1s", "0.5s", "500ms", "2".

    Raises:
        ArgumentTypeError: If it is not a time.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|ms|)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text} is no time from 0 up; write it as 1s, 0.5s or 500ms")
    return float(found[1]) * _UNITS[found[2]]


def add_compute_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that score."""
    group = parser.add_argument_group("computing")
    group.add_argument("--device", choices=DEVICES, default=AUTO, help="where to compute (default: auto)")
    group.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="what in (default: float32)"
    )
    group.add_argument(
        "--batch-size", type=positive, metavar="N", help="most images at once (default: 1 on a CPU, 8 elsewhere)"
    )
    group.add_argument("--workers", type=threads, metavar="N", help="threads that read images (default: up to 4)")


def add_view_option(parser: argparse.ArgumentParser) -> None:
    """Add the option of commands whose metrics may look at tiles."""
    parser.add_argument(
        "--view",
        choices=VIEWS,
        default="fit",
        help="fit: each picture whole, a large one shrunk (default); native: tiles of 512x512 at full size",
    )


def check_metric_name(name: str) -> None:
    """Refuse an unknown metric or a file that is no checkpoint of it, in milliseconds.

    Raises:
        UsageError: If there is no such metric or checkpoint.
        WeightsError: If the file is missing, damaged, no checkpoint, or that of another metric.
    """
    try:
        check_name(name)
    except UnknownMetricError as error:
        raise UsageError(str(error)) from error


def import_torch() -> None:
    """Import torch and what scores with it, and look for no garbage among that, neither meanwhile nor later.

    It makes a million objects that all stay. Python would look through them several times meanwhile and twice when the
    process ends, which is a quarter of the cost. A process that has torch already is not only ours, and is left alone.
    """
    if "torch" in sys.modules or not gc.isenabled():
        return
    gc.disable()
    try:
        import iqametrics.scoring  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()


def make_metrics(
    names: Sequence[str], device: str, dtype: str, *, quiet: bool = False, view: View = "fit"
) -> "list[Metric]":
    """Make metrics, each with a name of its own in the output as far as they are different.

    Of several with the same tag, those given by a file are called as on the command line. `quiet` leaves out the
    notes on which checkpoint or package a name was taken for.
    """
    import_torch()
    metrics = [_make_metric(name, device, dtype, quiet=quiet, view=view) for name in names]
    count = Counter(metric.full_name for metric in metrics)
    for metric, name in zip(metrics, names, strict=True):
        if count[metric.full_name] > 1 and parse_name(name).weights is not None:
            metric.alias = name
    return metrics


def _make_metric(name: str, device: str, dtype: str, *, quiet: bool, view: View) -> "Metric":
    """Make a metric, with its warnings as lines on stderr."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LiteCheckpointWarning)
        warnings.simplefilter("always", BareNameWarning)
        metric = create_metric(name, device=device, dtype=dtype, view=view)
    for warning in caught:
        if issubclass(warning.category, LiteCheckpointWarning | BareNameWarning):
            if not quiet:
                complain(f"note: {warning.message}")
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return metric
