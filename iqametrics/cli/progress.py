"""Progress of long work: a bar on a terminal, a line now and then without one."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from iqametrics.cli.common import complain

EVERY_SECONDS = 30.0


class Progress(Protocol):
    """What work tells its progress to."""

    def update(self, n: int = 1) -> None:
        """Count one more, or several."""

    def clear(self) -> None:
        """Make room for a line of text."""


class _Lines:
    def __init__(self, total: int | None, unit: str) -> None:
        self.total, self.unit = total, unit
        self.done = 0
        self.begun = self.told = time.monotonic()

    def update(self, n: int = 1) -> None:
        self.done += n
        now = time.monotonic()
        if now - self.told >= EVERY_SECONDS:
            self.told = now
            complain(self._line(self.done / (now - self.begun)))

    def clear(self) -> None:
        pass

    def _line(self, rate: float) -> str:
        if self.total is None:
            return f"{self.done} {self.unit}s, {rate:.2g} a second"
        left = (self.total - self.done) / rate
        return f"{self.done} of {self.total} {self.unit}s, {rate:.2g} a second, about {_time(left)} left"


class _Silence:
    def update(self, n: int = 1) -> None:
        pass

    def clear(self) -> None:
        pass


@contextmanager
def progress(total: int | None, unit: str, *, bar: bool = True, quiet: bool = False) -> Iterator[Progress]:
    """Show progress on stderr.

    Args:
        total: How many there will be; None where nobody knows.
        unit: What is counted, in the singular.
        bar: Whether a bar may be drawn on a terminal; rows that are printed there as they come would run into it.
        quiet: Whether nothing is shown.
    """
    if quiet or (sys.stderr.isatty() and not bar):
        yield _Silence()
    elif sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, unit=unit, leave=False) as shown:
            yield shown
    else:
        yield _Lines(total, unit)


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
