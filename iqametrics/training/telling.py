"""What training says on stderr while it works: a line each minute where no bar can be drawn, and notes."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

EVERY_SECONDS = 60.0


def say(line: str) -> None:
    """Write a line on stderr, above a bar if there is one."""
    tqdm.write(line, file=sys.stderr)


class Telling:
    """Tells where work stands, `EVERY_SECONDS`, where stderr is no terminal.

    Args:
        on: Whether this process speaks.
    """

    def __init__(self, *, on: bool = True) -> None:
        self.on = on and not sys.stderr.isatty()
        self.told = time.monotonic()

    def tell(self, words: Callable[[], str]) -> None:
        """Say where the work stands, if the last word was long enough ago."""
        now = time.monotonic()
        if self.on and now - self.told >= EVERY_SECONDS:
            self.told = now
            say(words())


@contextmanager
def still(what: str, *, on: bool = True) -> Iterator[None]:
    """Say each minute that work of unknown length goes on.

    Args:
        what: The work, such as "reading the images".
        on: Whether this process speaks.
    """
    on = Telling(on=on).on
    done, begun = threading.Event(), time.monotonic()

    def wait() -> None:
        while not done.wait(EVERY_SECONDS):
            say(f"still {what}, after {time.monotonic() - begun:.0f} s")

    thread = threading.Thread(target=wait, name="iqametrics-telling", daemon=True)
    if on:
        thread.start()
    try:
        yield
    finally:
        done.set()
        if on:
            thread.join()


class Count:
    """Counts work of known length for a `Telling`, with the time that is left.

    Args:
        telling: Where to say it.
        what: What is counted, such as "features: {} of {} images".
        total: How many there are.
        done: How many were done before.
    """

    def __init__(self, telling: Telling, what: str, total: int, done: int = 0) -> None:
        self.telling, self.what, self.total, self.done, self.before = telling, what, total, done, done
        self.begun = time.monotonic()

    def update(self, more: int = 1, note: str = "") -> None:
        """Count what was done."""
        self.done += more
        self.telling.tell(lambda: f"{self.what.format(self.done, self.total)}{note}, about {self._left()} left")

    def _left(self) -> str:
        rate = (self.done - self.before) / max(time.monotonic() - self.begun, 1e-9)
        seconds = (self.total - self.done) / rate
        if seconds < 90:
            return f"{seconds:.0f} s"
        return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
