"""One process a device over one run's folder, told of in one place and stopped together.

    python -m iqametrics.benchmark.devices < order.json

is such a process. The order on its standard input says which folder, device and datasets; it claims one job after the
other as any process that shares the folder does (`run_jobs`), and says on its standard output, one JSON object a line,
which job it begins and ends, and at last what became of its jobs. What else it says is on its standard error.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from iqametrics.benchmark.jobs import Executor
from iqametrics.benchmark.plan import Job
from iqametrics.benchmark.run import Execute, Outcome, read_result, run_jobs
from iqametrics.common.devices import find_device
from iqametrics.common.files import write_file
from iqametrics.common.interrupts import Stopped, handled, stoppable
from iqametrics.datasets.labelled import LabelledImages
from iqametrics.errors import DataError, IqaError, TrainingError

_GPU = re.compile(r"(?:cuda:)?(\d{1,3})")
_COMMAND = (sys.executable, "-m", "iqametrics.benchmark.devices")
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_FAILED = 1
_MARK = "at-work"
"""File in a job's folder while a process is at it; left behind by one that dies."""


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A process to start.

    Attributes:
        label: Its name in what is told: "cuda:0", "cpu 2".
        device: What its jobs are given as device.
        environment: Variables that are set for it.
    """

    label: str
    device: str
    environment: Mapping[str, str] = field(default_factory=dict)


def read_workers(text: str) -> list[Worker]:
    """Read a list of devices: numbers of GPUs, "mps", or "cpu", which may stand there several times.

    Raises:
        DataError: If one is no device, is named twice, or is not there.

    >>> [worker.label for worker in read_workers("cpu,cpu")]
    ['cpu 1', 'cpu 2']
    """
    names = [name.strip() for name in text.split(",")]
    workers: list[Worker] = []
    processors = names.count("cpu")
    for name in names:
        if name == "cpu":
            threads = os.environ.get("OMP_NUM_THREADS") or str(max((os.cpu_count() or 1) // processors, 1))
            number = sum(worker.device == "cpu" for worker in workers) + 1
            workers.append(Worker(label=f"cpu {number}", device="cpu", environment={"OMP_NUM_THREADS": threads}))
        elif gpu := _GPU.fullmatch(name):
            workers.append(_on_gpu(int(gpu[1])))
        elif name == "mps":
            find_device("mps", error=DataError, what="--devices")
            workers.append(Worker(label="mps", device="mps"))
        else:
            raise DataError(f"--devices {text}: {name!r} is no device; give numbers of GPUs (0,1), or cpu,cpu")
    if len({worker.label for worker in workers}) < len(workers):
        raise DataError(f"--devices {text}: a GPU is named twice; one process has it to itself")
    return workers


def _on_gpu(number: int) -> Worker:
    find_device(f"cuda:{number}", error=DataError, what="--devices")
    # Numbers count what this process sees, which may be a part of what there is.
    seen = [name for name in os.environ.get(_VISIBLE, "").split(",") if name]
    own = seen[number] if seen else str(number)
    return Worker(label=f"cuda:{number}", device="cuda", environment={_VISIBLE: own})


def run_on_devices(
    jobs: Sequence[Job],
    folder: Path,
    sources: Mapping[str, LabelledImages],
    workers: Sequence[Worker],
    say: Callable[[str], None],
    command: Sequence[str] = _COMMAND,
) -> Outcome:
    """Do the jobs of a run by one process a device, and wait for all.

    Args:
        jobs: The jobs, in the order in which to do them.
        folder: Folder of the run, which is open.
        sources: Where the datasets are.
        workers: The processes.
        say: Shows a line.
        command: What starts a process.

    Returns:
        What became of the jobs; those that nobody finished, since their process died, count as failed.

    Raises:
        KeyboardInterrupt: If Ctrl-C is pressed or a signal asks for the end; all processes have then ended.
    """
    group = _Group(jobs, folder, say)
    order = {
        "folder": str(folder),
        "group": f"{os.getpid()} {time.time()}",
        "jobs": [job.to_dict() for job in jobs],
        "sources": {name: asdict(source) for name, source in sources.items()},
    }
    with handled(group.stop):
        try:
            for worker in workers:
                group.start(worker, {**order, "device": worker.device}, command)
            group.wait()
        finally:
            group.kill()
    if group.signal is not None:
        raise Stopped(
            "stopped on all devices; finished jobs are kept, go on with the same command and --resume", group.signal
        )
    return group.outcome()


class _Group:
    """The processes, what each is at, and what they have told."""

    def __init__(self, jobs: Sequence[Job], folder: Path, say: Callable[[str], None]) -> None:
        self.jobs, self.folder, self.say = jobs, folder, say
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.readers: list[threading.Thread] = []
        self.at: dict[str, str] = {}
        self.told: list[dict[str, Any]] = []
        self.signal: int | None = None
        self.lock = threading.Lock()
        self.begun = time.monotonic()
        self.before = self._finished()
        self.crashed: dict[str, str] = {}

    def start(self, worker: Worker, order: Mapping[str, Any], command: Sequence[str]) -> None:
        if self.signal is not None:
            return
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONSAFEPATH": "1"}
        process = subprocess.Popen(  # noqa: S603
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment, **worker.environment},
            # A Ctrl-C at the terminal comes to this process alone, which passes it on once.
            start_new_session=True,
        )
        self.processes[worker.label] = process
        assert process.stdin is not None
        try:
            with process.stdin:
                process.stdin.write(json.dumps(order))
        except BrokenPipeError:
            pass  # it has ended already, which its reader tells
        for read in (self._read_errors, self._read_events):
            thread = threading.Thread(target=read, args=(worker.label, process), daemon=True)
            thread.start()
            self.readers.append(thread)

    def stop(self, number: int) -> None:
        """Pass a signal on to every process; a second one makes them stop at once."""
        self.signal = number
        for process in list(self.processes.values()):
            if process.poll() is None:
                # Windows knows no signal that a process could be asked by; a killed one loses a step, and no result.
                process.send_signal(number if sys.platform != "win32" else signal.SIGTERM)

    def wait(self) -> None:
        for process in self.processes.values():
            process.wait()
        for reader in self.readers:
            reader.join()

    def kill(self) -> None:
        """End what is still there, after an error of ours."""
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()

    def outcome(self) -> Outcome:
        failed = {name: reason for told in self.told for name, reason in told["failed"].items()}
        failed |= self.crashed
        done = [name for told in self.told for name in told["done"]]
        skipped = {name for told in self.told for name in told["busy"]}
        now = self._finished()
        left = [job.id for job in self.jobs if job.id not in now and job.id not in failed]
        # What no process of ours holds, and all have passed over, is at work in another one that shares the folder.
        busy = [name for name in left if name in skipped]
        failed |= {name: "no process came to it; go on with --resume" for name in left if name not in skipped}
        failed = {name: reason for name, reason in failed.items() if name not in now}
        return Outcome(done=done, before=sorted(self.before), failed=failed, busy=busy)

    def _finished(self) -> set[str]:
        return {job.id for job in self.jobs if read_result(self.folder, job) is not None}

    def _read_errors(self, label: str, process: "subprocess.Popen[str]") -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                if line.strip():
                    self.say(f"[{label}] {line.rstrip()}")

    def _read_events(self, label: str, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        ended = False
        with process.stdout:
            for line in process.stdout:
                event = json.loads(line)
                ended |= "outcome" in event
                with self.lock:
                    self._note(label, event)
        status = process.wait()
        if not ended and self.signal is None:
            self._crash(label, status)

    def _note(self, label: str, event: Mapping[str, Any]) -> None:
        if "outcome" in event:
            self.told.append(event["outcome"])
        elif "begun" in event:
            self.at[label] = event["begun"]
            self._tell()
        elif "ended" in event:
            self.at.pop(label, None)

    def _tell(self) -> None:
        """Say in one line where all processes stand."""
        done = len(self._finished())
        now = done - len(self.before)
        left = (
            f"; about {(time.monotonic() - self.begun) / now * (len(self.jobs) - done) / 3600:.1f} h left"
            if now
            else ""
        )
        places = ", ".join(f"{label}: {name}" for label, name in sorted(self.at.items()))
        self.say(f"{done} of {len(self.jobs)} jobs done; {places}{left}")

    def _crash(self, label: str, status: int) -> None:
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        name = self.at.pop(label, None)
        where = f" at {name}" if name else ""
        self.say(f"the process on {label} {how}{where}; the others go on, and --resume does what it left")
        if name:
            self.crashed[name] = f"the process on {label} {how}; go on with --resume"


def main(make: Callable[[Mapping[str, LabelledImages], str, Path], Execute] = Executor) -> int:
    """Do the jobs of the order on standard input; return the exit status.

    Args:
        make: Makes what does a job, of datasets, device and folder.
    """
    order = json.load(sys.stdin)
    jobs = [Job.from_dict(values) for values in order["jobs"]]
    sources = {name: LabelledImages(**_tuples(values)) for name, values in order["sources"].items()}
    folder = Path(order["folder"])
    executor = make(sources, order["device"], folder)
    try:
        with stoppable():
            outcome = run_jobs(
                jobs, folder, lambda job, place: _do(executor, job, place, order["group"]), _failures_only
            )
    except KeyboardInterrupt as interrupt:
        return 128 + getattr(interrupt, "number", signal.SIGINT)
    except IqaError as error:
        print(error, file=sys.stderr, flush=True)
        return _FAILED
    _emit({"outcome": asdict(outcome)})
    return 0


def _do(executor: Execute, job: Job, place: Path, group: str) -> dict[str, Any]:
    """Do a job, whose lock is held, unless a process of the same group died of it."""
    mark = place / _MARK
    if mark.exists() and mark.read_text(encoding="utf-8") == group:
        raise DataError("the process that was at it died; find out why, and go on with --resume")
    write_file(mark, group, error=TrainingError, remedy="make room and use --resume")
    _emit({"begun": job.id})
    try:
        return executor(job, place)
    finally:
        mark.unlink(missing_ok=True)
        _emit({"ended": job.id})


def _emit(event: Mapping[str, Any]) -> None:
    print(json.dumps(event), flush=True)


def _failures_only(text: str) -> None:
    """Pass on what went wrong; where the work stands is told for all processes together."""
    if " failed: " in text:
        print(text, file=sys.stderr, flush=True)


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn what JSON made lists back into tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


if __name__ == "__main__":
    sys.exit(main())
