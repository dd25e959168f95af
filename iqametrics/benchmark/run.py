"""Jobs done once each, by any number of processes that share a folder, killed and resumed at any moment.

RUN/plan.json            the jobs of the run
RUN/jobs/ID/lock         held by the process that works on the job, and free again when that process dies
RUN/jobs/ID/result.json  written last, whole or not at all: the job is done
RUN/jobs/ID/failed.json  why it failed, in one line; the next run tries the job again
RUN/jobs/ID/...          what the job keeps in order to go on where it stopped

The locks are the operating system's. Some network file systems do not pass them from one machine to another; there,
give each machine jobs of its own with --shard.
"""

import datetime
import json
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from iqametrics.benchmark.plan import Job
from iqametrics.common.files import write_file
from iqametrics.common.locks import locked
from iqametrics.errors import DataError, IqaError, TrainingError

PLAN, RESULT, FAILED = "plan.json", "result.json", "failed.json"
_FORMAT = 1
_write = partial(write_file, error=TrainingError, remedy="make room and use --resume")
_PLAN_KEYS = {"table", "size", "changes", "labels", "jobs"}
_RESULT_KEYS = {"figures", "images", "selection", "seconds", "commit", "hardware", "packages"}

Execute = Callable[[Job, Path], dict[str, Any]]
"""Does a job in its folder and returns its result, ready for JSON."""


@dataclass
class Outcome:
    """What became of the jobs, by their ids.

    Attributes:
        done: Finished now.
        before: Finished already.
        failed: Failed now, with the reason.
        busy: Being done by another process.
    """

    done: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    busy: list[str] = field(default_factory=list)


def open_run(folder: Path, plan: dict[str, Any], jobs: Sequence[Job], *, resume: bool) -> None:
    """Begin a run, or join the one that is in the folder.

    Args:
        folder: Folder of the run.
        plan: What was asked for, ready for JSON.
        jobs: All jobs, whichever shard does them.
        resume: Whether the folder may hold a run already.

    Raises:
        DataError: If the folder holds a run although `resume` is false, or one that was begun with another plan.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made ({error.strerror}); choose another --output") from error
    wanted = {"format": _FORMAT, **plan, "jobs": [job.to_dict() for job in jobs]}
    # Several processes may begin at once, and each must see the whole plan.
    with locked(folder / "lock", error=DataError):
        path = folder / PLAN
        if not path.exists():
            _write(path, json.dumps(wanted, indent=1) + "\n")
            return
        if not resume:
            raise DataError(f"{folder}: already holds a run; join or resume it with --resume or give another --output")
        found = read_plan(folder)
    changed = [key for key in wanted if json.loads(json.dumps(wanted[key])) != found.get(key)]
    if changed:
        raise DataError(
            f"{folder}: was begun with another plan ({', '.join(changed)} changed); give the same options or another "
            "--output"
        )


def read_plan(folder: Path) -> dict[str, Any]:
    """Read the plan of a run.

    Raises:
        DataError: If there is no plan, or it cannot be read.
    """
    path = folder / PLAN
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); give the folder of iqametrics benchmark run") from error
    if not isinstance(plan, dict) or plan.get("format") != _FORMAT or not plan.keys() >= _PLAN_KEYS:
        raise DataError(f"{path}: is not a plan of this version of iqametrics")
    return plan


def planned_jobs(plan: dict[str, Any]) -> list[Job]:
    """Return the jobs of a plan.

    Raises:
        DataError: If the plan is damaged.
    """
    try:
        return [Job.from_dict(values) for values in plan["jobs"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"{PLAN}: is damaged ({error!r}); give the folder of iqametrics benchmark run") from error


def job_folder(folder: Path, job: Job) -> Path:
    """Return the folder of a job."""
    return folder / "jobs" / job.id


def read_result(folder: Path, job: Job) -> dict[str, Any] | None:
    """Read the result of a job; None where it is not finished.

    Raises:
        DataError: If the file is damaged, which this package never leaves behind.
    """
    path = job_folder(folder, job) / RESULT
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(result, dict) or not result.keys() >= _RESULT_KEYS:
            raise ValueError("it lacks fields")
        return result
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); delete it to have the job done again") from error


def read_failure(folder: Path, job: Job) -> str | None:
    """Read why a job failed last; None where it did not."""
    path = job_folder(folder, job) / FAILED
    if not path.exists() or read_result(folder, job) is not None:
        return None
    return str(json.loads(path.read_text(encoding="utf-8"))["error"])


def crops_per_second(folder: Path, jobs: Sequence[Job]) -> dict[tuple[str, str], float]:
    """Measure how fast the finished jobs of a run trained, by metric and size: the mean over its jobs."""
    rates: dict[tuple[str, str], list[float]] = {}
    for job in jobs:
        result = read_result(folder, job)
        if result is not None and result.get("passes") and result["seconds"]:
            rates.setdefault((job.metric, job.size), []).append(result["passes"] / result["seconds"])
    return {key: sum(values) / len(values) for key, values in rates.items()}


def shard(jobs: Sequence[Job], number: int, of: int) -> list[Job]:
    """Return the jobs of one shard of several; every job is in exactly one.

    Args:
        jobs: All jobs.
        number: Number of this shard, from 1 to `of`.
        of: Number of shards.
    """
    return list(jobs[number - 1 :: of])


def run_jobs(jobs: Sequence[Job], folder: Path, execute: Execute, say: Callable[[str], None] = print) -> Outcome:
    """Do the jobs that are neither finished nor being done by another process.

    Args:
        jobs: The jobs, in the order in which to do them.
        folder: Folder of the run.
        execute: Does one job.
        say: Shows a line of progress.

    Raises:
        TrainingError: If a result cannot be written.
        KeyboardInterrupt: If Ctrl-C is pressed; the message says how to go on.
    """
    outcome = Outcome()
    try:
        for index, job in enumerate(jobs):
            _attempt(job, folder, execute, lambda text, k=index: say(f"[{k + 1}/{len(jobs)}] {text}"), outcome)  # type: ignore[misc]
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt("stopped; finished jobs are kept, go on with the same command and --resume") from (
            interrupt
        )
    return outcome


def _attempt(job: Job, folder: Path, execute: Execute, say: Callable[[str], None], outcome: Outcome) -> None:
    place = job_folder(folder, job)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{place}: cannot be made ({error.strerror}); make room and use --resume") from error
    with locked(place / "lock", wait=False, error=DataError) as held:
        if not held:
            outcome.busy.append(job.id)
            return
        # Checked under the lock: another process may have finished it meanwhile.
        if (place / RESULT).exists():
            outcome.before.append(job.id)
            return
        say(f"{job.id}")
        reason = _finish(job, place, execute)
    if reason is None:
        outcome.done.append(job.id)
    else:
        outcome.failed[job.id] = reason
        say(f"{job.id} failed: {reason}")


def _finish(job: Job, place: Path, execute: Execute) -> str | None:
    """Do a job and store its result; where it fails, store and return the reason."""
    began = time.monotonic()
    try:
        body = execute(job, place)
    except Exception as error:
        # One job that runs out of memory, or meets a bug of ours, must not end a run of days.
        if not isinstance(error, IqaError):
            _write(place / "traceback.txt", traceback.format_exc())
        text = _one_line(error)
        _write(place / FAILED, json.dumps({"error": text, "date": _now()}) + "\n")
        return text
    seconds = round(time.monotonic() - began, 1)
    record = {"format": _FORMAT, "job": job.to_dict(), **body, "seconds": seconds, "date": _now()}
    _write(place / RESULT, json.dumps(record, indent=1, allow_nan=False) + "\n")
    return None


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else "no reason given"
    return text if isinstance(error, IqaError) else f"{type(error).__name__}: {text}"


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
