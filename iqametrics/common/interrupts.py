"""How a process is asked to stop: Ctrl-C, SIGTERM and SIGHUP end it alike, and never within a write."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class Stopped(KeyboardInterrupt):
    """A signal asks the process to end; code that keeps results after Ctrl-C keeps them after this too.

    Args:
        message: What to tell the user; empty where there is nothing more to say.
        number: The signal.
    """

    def __init__(self, message: str = "", number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = number


class _Shields:
    """Number of blocks that must not be interrupted now, and the signal that has come meanwhile."""

    depth = 0
    pending: int | None = None


_shields = _Shields()


def stop_signals() -> list[signal.Signals]:
    """List the signals that ask a process to end, without those that it was started to ignore (nohup).

    In a process of torchrun only Ctrl-C counts: torchrun sends SIGTERM when another process has died, and one that
    waits for the dead one could not respond.
    """
    names = _NAMES if int(os.environ.get("WORLD_SIZE") or 1) == 1 else _NAMES[:1]
    found = [number for name in names if (number := getattr(signal, name, None)) is not None]
    return [number for number in found if signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def handled(handler: Callable[[int], None]) -> Iterator[None]:
    """Call a function with the number of each signal that asks the process to end; only the main thread can.

    The earlier handlers are restored when the block ends.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def called(number: int, _frame: FrameType | None) -> None:
        handler(number)

    usual = {number: signal.signal(number, called) for number in stop_signals()}
    try:
        yield
    finally:
        for number, before in usual.items():
            signal.signal(number, before)


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` in the main thread on each signal that asks the process to end."""
    with handled(_stop):
        yield


class StopFlag(threading.Event):
    """Set when a signal asks the process to end; `number` says which."""

    number: int = signal.SIGINT


@contextmanager
def flagged(*, at_second: bool) -> Iterator[StopFlag]:
    """Turn each signal that asks the process to end into a flag, for work that is cut between its steps.

    Args:
        at_second: Whether a second signal raises `Stopped` at once.
    """
    flag = StopFlag()

    def remember(number: int) -> None:
        if flag.is_set() and at_second:
            raise Stopped(number=number)
        flag.number = number
        flag.set()

    with handled(remember):
        yield flag


@contextmanager
def shielded() -> Iterator[None]:
    """Postpone `Stopped` until the block ends, so that a write is complete."""
    _shields.depth += 1
    try:
        yield
    finally:
        _shields.depth -= 1
    if _shields.depth == 0 and _shields.pending is not None:
        number, _shields.pending = _shields.pending, None
        raise Stopped(number=number)


def _stop(number: int) -> None:
    if _shields.depth:
        _shields.pending = number
        return
    raise Stopped(number=number)
