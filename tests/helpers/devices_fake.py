"""A process that `benchmark run --devices` starts, with made-up jobs: some die, some wait to be stopped."""

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark_fake import result

from iqametrics.benchmark import devices
from iqametrics.benchmark.plan import Job
from iqametrics.errors import DataError


class FakeExecutor:
    def __init__(self, sources: Mapping[str, Any], device: str, folder: Path) -> None:
        self.folder = folder
        self.kind = (folder / "kind").read_text() if (folder / "kind").exists() else ""

    def __call__(self, job: Job, place: Path) -> dict[str, Any]:
        with (self.folder / "begun.log").open("a") as log:
            log.write(f"{job.id} {os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}\n")
        print(f"epoch of {job.id}", file=sys.stderr, flush=True)
        if self.kind == "crash" and job.split == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "fail" and job.split == 3:
            raise DataError("an image is missing; add it")
        time.sleep(60 if self.kind == "wait" else 0.05)
        done: dict[str, Any] = result(job)
        return done


if __name__ == "__main__":
    sys.exit(devices.main(FakeExecutor))
