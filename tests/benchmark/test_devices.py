"""A process a device over one folder: jobs once, one display, stopped together, a crash told."""

import csv
import json
import os
import signal
import sys
import threading
import time

import pytest
from benchmark_fake import PLAN, jobs
from places import HELPERS, ROOT
from training_fake import write_dataset
from waiting import wait_for

from iqametrics.benchmark.devices import Worker, read_workers, run_on_devices
from iqametrics.benchmark.run import RESULT, job_folder, open_run
from iqametrics.cli.main import main
from iqametrics.common.interrupts import Stopped
from iqametrics.errors import DataError

COMMAND = (sys.executable, str(HELPERS / "devices_fake.py"))
WORKERS = [Worker(label=f"cpu {number}", device="cpu") for number in (1, 2)]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(HELPERS)]))
    folder = tmp_path / "run"
    open_run(folder, PLAN, jobs(), resume=False)
    return folder


def begun(folder):
    return [line.split() for line in (folder / "begun.log").read_text().splitlines()]


def start(folder, said, workers=WORKERS):
    return run_on_devices(jobs(), folder, {}, workers, said.append, COMMAND)


class TestWorkers:
    def test_cpus_share_the_processors(self, monkeypatch):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: 8)
        assert [dict(worker.environment) for worker in read_workers("cpu,cpu")] == [{"OMP_NUM_THREADS": "4"}] * 2

    def test_a_number_is_a_gpu_among_those_that_are_seen(self, monkeypatch):
        monkeypatch.setattr("iqametrics.benchmark.devices.find_device", lambda *args, **kwargs: None)
        assert [dict(worker.environment) for worker in read_workers("0, cuda:2")] == [
            {"CUDA_VISIBLE_DEVICES": "0"},
            {"CUDA_VISIBLE_DEVICES": "2"},
        ]
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-7")
        assert read_workers("1")[0].environment == {"CUDA_VISIBLE_DEVICES": "GPU-7"}
        with pytest.raises(DataError, match="named twice"):
            read_workers("1,cuda:1")

    def test_what_is_no_device(self):
        with pytest.raises(DataError, match="'gpu' is no device"):
            read_workers("gpu")
        with pytest.raises(DataError, match="--devices 'cuda:99'"):
            read_workers("99")


@pytest.mark.skipif(sys.platform == "win32", reason="signals and SIGKILL are POSIX's")
class TestGroup:
    def test_each_job_once_and_one_display(self, run):
        said = []
        outcome = start(run, said)
        assert sorted(outcome.done) == sorted(name for name, *_ in begun(run)) == sorted(job.id for job in jobs())
        assert len({process for _, process, *_ in begun(run)}) == 2
        assert outcome.failed == {}
        assert any(line.startswith("[cpu 2] epoch of ") for line in said)
        assert any("of 20 jobs done; cpu 1: " in line and "cpu 2: " in line for line in said)
        again = start(run, [])
        assert (len(again.before), again.done) == (20, [])

    @pytest.mark.parametrize(("kind", "reason"), [("crash", "was ended by signal 9"), ("fail", "an image is missing")])
    def test_a_process_that_dies_and_a_job_that_fails_are_told(self, run, kind, reason):
        (run / "kind").write_text(kind)
        said = []
        # Three processes: two die of the two jobs, and the third leaves these alone and does all others.
        outcome = start(run, said, [*WORKERS, Worker(label="cpu 3", device="cpu")])
        bad = {job.id for job in jobs() if job.split == 3}
        assert outcome.failed.keys() == bad
        assert all(reason in text for text in outcome.failed.values())
        assert any(reason in line and any(name in line for name in bad) for line in said)
        assert {job.id for job in jobs() if (job_folder(run, job) / RESULT).exists()} == {j.id for j in jobs()} - bad
        (run / "kind").unlink()
        assert set(start(run, []).done) == bad

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_stops_all(self, run, number):
        (run / "kind").write_text("wait")

        def press():
            wait_for(run / "begun.log", lines=2)
            os.kill(os.getpid(), number)

        thread = threading.Thread(target=press)
        thread.start()
        started = time.monotonic()
        with pytest.raises(Stopped, match="on all devices") as stopped:
            start(run, [])
        thread.join()
        assert stopped.value.number == number
        assert time.monotonic() - started < 50
        for _, process, *_ in begun(run):
            with pytest.raises(ProcessLookupError):
                os.kill(int(process), 0)
        (run / "kind").unlink()
        assert len(start(run, []).done) == 20


@pytest.mark.slow
def test_the_command_on_two_cpus(tmp_path, monkeypatch, capfd):
    """A bundled metric on two sets: the same scores as by one process."""
    write_dataset(tmp_path, count=4, sizes=((64, 48),))
    (tmp_path / "data.toml").write_text('[datasets.mine]\ncsv = "data.csv"\n\n[datasets.twin]\ncsv = "data.csv"\n')
    monkeypatch.chdir(tmp_path)
    command = ["benchmark", "run", "compare", "--metrics", "bpclip-nr.lite", "--data", "data.toml"]
    assert main([*command, "--devices", "cpu,cpu", "--output", "two"]) == 0
    assert "2 jobs done" in capfd.readouterr().err
    assert main([*command, "--device", "cpu", "--output", "one"]) == 0
    for job in ("bpclip-nr.lite-mine-all", "bpclip-nr.lite-twin-all"):
        scores = []
        for folder in ("one", "two"):
            with (tmp_path / folder / "jobs" / job / "scores.csv").open() as stream:
                scores.append([float(row["score"]) for row in csv.DictReader(stream)])
        assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    plans = [json.loads((tmp_path / folder / "plan.json").read_text()) for folder in ("one", "two")]
    assert plans[0] == plans[1]
    assert main([*command, "--devices", "cpu,cpu", "--device", "cpu", "--output", "two"]) == 2
    assert main([*command, "--devices", "cpu;cpu", "--output", "three"]) == 1
    assert not (tmp_path / "three").exists()


def test_a_process_that_cannot_begin_is_told(run):
    said = []
    outcome = run_on_devices(jobs(), run, {}, WORKERS[:1], said.append, (sys.executable, "-c", "raise SystemExit(7)"))
    assert any("cpu 1 ended with status 7" in line for line in said)
    assert len(outcome.failed) == 20
