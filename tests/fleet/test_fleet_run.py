"""The command with real workers of Ray: a row a picture, a worker and the driver killed, resumed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("ray", reason="the extra `fleet` is not installed")
pytest.importorskip("pyarrow", reason="the extra `fleet` is not installed")

import psutil
import pyarrow.parquet as pq
from fleet_here import png, write_tar

pytestmark = pytest.mark.slow
METRIC = "bpclip-nr.lite"
# On a CPU, scores of another number of threads may differ in their last digit.
HERE = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(*arguments):
    return [sys.executable, "-m", "iqametrics", *map(str, arguments), "--metric", METRIC]


def begin(shard, output):
    options = ("--output", output, "--actors", 2, "--gpus-per-actor", 0, "--resume")
    return subprocess.Popen(command("fleet", shard, *options), env=HERE, stderr=subprocess.PIPE, text=True)


def scored_one_by_one(folder):
    done = subprocess.run(
        command("score", folder, "--format", "jsonl", "--device", "cpu"), env=HERE, capture_output=True, check=False
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def workers_of(driver):
    """Find the workers of a driver, which Ray calls after the class that has the model."""
    workers = []
    for process in psutil.Process(driver.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            workers += [process] if "_Actor" in "".join(process.cmdline()) else []
    return workers


def is_alive(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(true, seconds=600):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_every_picture_has_one_row_after_kills_of_a_worker_and_of_the_driver(tmp_path):
    pictures = tmp_path / "in"
    pictures.mkdir()
    contents = {f"{number}.png": png(number, (64, 48)) for number in range(120)} | {"9.png": b"no picture"}
    for name, content in contents.items():
        (pictures / name).write_bytes(content)
    expected = scored_one_by_one(pictures)
    shard, output, parts = write_tar(tmp_path / "a.tar", contents), tmp_path / "o.parquet", tmp_path / "o.parquet.parts"

    driver = begin(shard, output)
    wait_until(lambda: list(parts.glob("0*.parquet")) or driver.poll() is not None)
    workers = workers_of(driver)
    for worker in workers:
        worker.suspend()
    driver.kill()
    for worker in workers:
        worker.resume()
    assert driver.wait() == -signal.SIGKILL
    driver.stderr.close()
    assert not output.exists()
    first = pq.read_table(parts / "000000.parquet").column("unit").to_pylist()
    wait_until(lambda: not any(is_alive(worker) for worker in workers))

    driver = begin(shard, output)
    wait_until(lambda: workers_of(driver))
    workers_of(driver)[0].kill()
    told = driver.communicate()[1]
    assert driver.returncode == 1
    assert "9.png: is not an image" in told
    assert "120 rows; 1 images have an error" in told
    assert "Traceback" not in told
    rows = pq.read_table(output).to_pylist()
    assert [row["image"] for row in rows] == [f"{shard}/{name}" for name in contents]
    assert [row["score"] for row in rows] == [row["score"] for row in expected]
    assert {row["fingerprint"] for row in rows} == {row["fingerprint"] for row in expected}
    assert [row["image"] for row in rows if row["error"]] == [f"{shard}/9.png"]
    # What was finished was not scored again, but for the unit that has an error.
    written = [set(pq.read_table(path).column("unit").to_pylist()) for path in sorted(parts.glob("*.parquet"))]
    again = [unit for unit in set(first) if sum(unit in units for units in written) > 1]
    assert len(again) <= 1


def test_workers_leave_room_to_cut_sources():
    """A cluster with as many processors as workers waited for the first source for ever."""
    from iqametrics.fleet import run

    assert run._WORKER_CPUS + run._SPLIT_CPUS <= 1


def test_a_failure_is_told_by_the_line_that_names_it():
    """Ray writes advice under it."""
    from iqametrics.fleet import run

    text = "ray::MapBatches(_Actor).submit()\n  File x\nray.exceptions.ActorDiedError: it died\n\nTo change it, set y"
    assert run._reason(RuntimeError(text)) == "ray.exceptions.ActorDiedError: it died"
    assert run._reason(RuntimeError("no such line")) == "no such line"
    assert run._reason(RuntimeError()) == "RuntimeError"
