"""Cases that may crash, hang or fill the memory, each in a process of its own that is watched and may be stopped.

A job is a class of which `Job(seed)` makes what all cases need, `prepare(number)` gives a case, of which the first part
is its name, and `run(case)` does it and returns what became of it in a word, or raises `Fault` for what should not
happen. Every other exception is a fault too. Only `run` is measured.
"""

import contextlib
import importlib
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

SECONDS, MEGABYTES = 5.0, 1100.0
"""What a file may cost (docs/images.md), in processor time and above what the process holds."""

PATIENCE = 60.0
"""Seconds until a process that does not answer is stopped: other work may share the machine."""

LABEL = "the attacked file"
"""What a case is called in messages: what is written on stderr must begin so."""

_LONGEST_LINE = 600
_SPARE_BYTES = 4 * 2**30


class Fault(Exception):
    """What should not have happened."""


def check_refusal(error: BaseException) -> None:
    """Look at the message of one of our errors, and at what it hides.

    Raises:
        Fault: If it is not one printable line, or memory had run out.
    """
    text = str(error)
    if "\n" in text or not text.isprintable() or not 10 < len(text) < _LONGEST_LINE:
        raise Fault(f"a message that is not one plain line: {text[:200]!r}")
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            raise Fault(f"memory ran out: {text[:200]}")
        cause = cause.__cause__ or cause.__context__


@dataclass(frozen=True)
class Report:
    """What became of a case.

    Attributes:
        number: Its number.
        name: What it is; empty where the process did not get so far.
        outcome: One word, "fault" for all that should not be.
        fault: Of what kind.
        seconds: Processor time.
        megabytes: Peak memory above what the process held before.
        resident: Megabytes that the process holds afterwards.
    """

    number: int
    name: str
    outcome: str
    fault: str = ""
    seconds: float = 0.0
    megabytes: float = 0.0
    resident: float = 0.0


class Worker:
    """One process that does cases of a job one after another; after a crash or a hang there is a new one.

    Args:
        job: "module:Class".
        seed: What the cases are drawn by.
    """

    def __init__(self, job: str, seed: int) -> None:
        self._arguments = (job, seed)
        self._folder = tempfile.TemporaryDirectory(prefix="attack-")
        self._process: Any = None
        self._connection: Connection | None = None

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        self._folder.cleanup()

    def do(self, number: int) -> Report:
        """Do one case."""
        if self._process is None:
            self._start()
        assert self._connection is not None
        self._connection.send(number)
        begin = self._processor_seconds()
        try:
            # On a machine that is shared, a process may wait for minutes that has done nothing wrong.
            for _ in range(10):
                if self._connection.poll(PATIENCE):
                    report: Report = self._connection.recv()
                    return report
                if self._processor_seconds() - begin > PATIENCE / 2:
                    break
            fault = f"no answer within {PATIENCE:g} s"
        except (EOFError, OSError):
            self._process.join(10)
            fault = f"the process ended with status {self._process.exitcode}"
        self._stop()
        return Report(number, "", "fault", fault)

    def _processor_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, *self._arguments, self._folder.name), daemon=True)
        self._process.start()
        theirs.close()
        if not self._connection.poll(1800) or self._connection.recv() != "ready":
            raise RuntimeError("the worker did not start")

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None
        if self._connection is not None:
            self._connection.close()


def _work(connection: Connection, job: str, seed: int, folder: str) -> None:
    here, scratch, log = (Path(folder) / name for name in ("here", "scratch", "log"))
    for place in (here, scratch):
        place.mkdir(exist_ok=True)
    os.chdir(here)
    os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
    descriptor = os.open(log, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    module, _, name = job.partition(":")
    doing = getattr(importlib.import_module(module), name)(seed)
    os.ftruncate(descriptor, 0)
    limit = int(_status("VmSize") * 2**20) + _SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    connection.send("ready")
    while True:
        number = connection.recv()
        report = _measured(doing, number)
        left = [path.name for place in (here, scratch) for path in place.iterdir()]
        for place in (here, scratch) if left else ():
            shutil.rmtree(place)
            place.mkdir()
        os.chdir(here)
        said = [line for line in os.pread(descriptor, 9999, 0).splitlines() if not line.startswith(LABEL.encode())]
        if not report.fault and (left or said):
            fault = f"it left {left[:3]}" if left else f"it wrote {said[:3]!r}"
            report = replace(report, outcome="fault", fault=fault)
        os.ftruncate(descriptor, 0)
        connection.send(report)


def _measured(doing: Any, number: int) -> Report:
    case = doing.prepare(number)
    name = case[0]
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before, begin = _status("VmRSS"), time.process_time()
    try:
        outcome, fault = doing.run(case), ""
    except BaseException as error:  # what is no Exception is looked for too
        outcome, fault = "fault", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    seconds, megabytes = time.process_time() - begin, _status("VmHWM") - before
    if not fault and seconds > SECONDS:
        outcome, fault = "fault", f"{outcome} after {seconds:.1f} s"
    if not fault and megabytes > MEGABYTES:
        outcome, fault = "fault", f"{outcome} with {megabytes:.0f} MB"
    return Report(number, name, outcome, fault, round(seconds, 3), round(megabytes, 1), round(_status("VmRSS"), 1))


def resident_megabytes() -> float:
    """Return the memory that this process holds."""
    return _status("VmRSS")


def _status(key: str) -> float:
    """Megabytes of a line of /proc/self/status."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024
