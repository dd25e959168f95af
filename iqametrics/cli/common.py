"""Shared by the commands: a parser that reports a mistake in one line, options, and the creation of metrics."""

import argparse
import math
import sys
import warnings
from typing import TYPE_CHECKING, NoReturn

from iqametrics.common.devices import AUTO, DEVICES
from iqametrics.errors import UnknownMetricError
from iqametrics.registry import LiteCheckpointWarning, create_metric, split_name

if TYPE_CHECKING:
    from iqametrics.metric import Metric

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_BELOW = 3
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


class UsageError(Exception):
    """A command line that asks for something impossible."""


class Parser(argparse.ArgumentParser):
    """An argument parser that reports a mistake in one line and takes no abbreviated options."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Leave with status 2."""
        self.exit(EXIT_USAGE, f"iqametrics: error: {message} (see {self.prog} --help)\n")


def complain(message: str) -> None:
    """Write one line on stderr."""
    print(f"iqametrics: {message}", file=sys.stderr)


def positive(text: str) -> int:
    """Parse a whole number from 1 up."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def finite(text: str) -> float:
    """Parse a number other than NaN and infinity."""
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number")
    return value


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
    group.add_argument("--workers", type=positive, metavar="N", help="threads that read images (default: up to 4)")


def check_metric_name(name: str) -> None:
    """Refuse an unknown metric, in milliseconds.

    Raises:
        UsageError: There is no such metric or checkpoint.
    """
    try:
        split_name(name)
    except UnknownMetricError as error:
        raise UsageError(str(error)) from error


def make_metric(name: str, device: str, dtype: str, *, weights: str = "default", quiet: bool = False) -> "Metric":
    """Make a metric, with its warnings as lines on stderr; `quiet` leaves out that it is the lite checkpoint."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LiteCheckpointWarning)
        metric = create_metric(name, weights=weights, device=device, dtype=dtype)
    for warning in caught:
        if issubclass(warning.category, LiteCheckpointWarning):
            if not quiet:
                complain(f"note: {warning.message}")
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return metric
