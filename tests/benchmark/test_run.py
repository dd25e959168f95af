"""Jobs that are done once, by processes that share a folder and may die at any moment."""

import json
import random
import subprocess
import sys
from typing import Any

import pytest
from benchmark_fake import PLAN, execute, jobs, result
from hypothesis import given
from hypothesis import strategies as st
from places import HELPERS

from iqametrics.benchmark.render import FORMATS, render
from iqametrics.benchmark.report import make_report
from iqametrics.benchmark.run import (
    RESULT,
    crops_per_second,
    job_folder,
    open_run,
    read_failure,
    read_result,
    run_jobs,
    shard,
)
from iqametrics.errors import DataError, TrainingError

SCRIPT = HELPERS / "benchmark_fake.py"


def start(folder):
    return subprocess.Popen([sys.executable, str(SCRIPT), str(folder)], stdout=subprocess.PIPE, text=True)


def quiet(text):
    pass


def fast(job, folder):
    return result(job)


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    open_run(folder, PLAN, jobs(), resume=False)
    return folder


@pytest.mark.slow
def test_killed_ten_times_and_resumed_reports_as_if_nothing_had_happened(tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    moments = random.Random(0)
    finished, at_death = set(), []
    for _ in range(10):
        process = start(killed)
        assert process.stdout.readline() == "ready\n"
        try:
            process.wait(timeout=moments.uniform(0.0, 0.12))
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        finished |= {job.id for job in jobs() if (job_folder(killed, job) / RESULT).exists()}
        at_death.append(len(finished))
        # What is finished now must never be begun again; the log goes on behind this mark.
        with (killed / "begun.log").open("a") as log:
            log.writelines(f"finished {name}\n" for name in sorted(finished))
    assert 0 < at_death[4] < len(jobs()), "the moments should fall into the work"
    process = start(killed)
    process.communicate()
    assert process.returncode == 0
    seen = set()
    for line in (killed / "begun.log").read_text().splitlines():
        word, _, name = line.partition(" ")
        assert word not in seen
        seen |= {name} if word == "finished" else set()
    open_run(whole, PLAN, jobs(), resume=False)
    run_jobs(jobs(), whole, fast, quiet)
    for form in FORMATS:
        assert render(make_report(killed), form) == render(make_report(whole), form)
    assert f"{len(jobs())} of {len(jobs())} jobs are finished." in render(make_report(killed), "md")


def test_two_processes_share_a_folder_and_no_job_is_done_twice(tmp_path):
    processes = [start(tmp_path), start(tmp_path)]
    outcomes = []
    for process in processes:
        out, _ = process.communicate()
        assert process.returncode == 0
        outcomes.append(json.loads(out.splitlines()[1]))
    done = [name for outcome in outcomes for name in outcome["done"]]
    assert sorted(done) == sorted(job.id for job in jobs())
    assert sorted((tmp_path / "begun.log").read_text().split()) == sorted(done)


def test_a_job_that_another_process_holds_is_left_alone(run):
    held = []

    def while_held(job, folder):
        if not held:
            held.append(run_jobs([job], run, fast, quiet))
        return result(job)

    run_jobs(jobs()[:1], run, while_held, quiet)
    assert held[0].busy == [jobs()[0].id]
    assert held[0].done == []


def test_a_failing_job_is_recorded_and_the_rest_goes_on(run):
    bad, worse, *good = jobs()
    said = []

    def sometimes(job, folder):
        if job == bad:
            raise RuntimeError("CUDA out of memory.\nTried to allocate much")
        if job == worse:
            raise DataError("root: no such folder; correct it")
        return result(job)

    outcome = run_jobs(jobs(), run, sometimes, said.append)
    assert outcome.failed == {
        bad.id: "RuntimeError: CUDA out of memory.",
        worse.id: "root: no such folder; correct it",
    }
    assert outcome.done == [job.id for job in good]
    assert read_failure(run, bad) == outcome.failed[bad.id]
    assert "Tried to allocate much" in (job_folder(run, bad) / "traceback.txt").read_text()
    assert not (job_folder(run, worse) / "traceback.txt").exists()
    assert next(text for text in said if "failed" in text).endswith("CUDA out of memory.")
    assert f"- {bad.id}: RuntimeError: CUDA out of memory." in render(make_report(run), "md")
    again = run_jobs(jobs(), run, fast, quiet)
    assert sorted(again.done) == sorted([bad.id, worse.id])
    assert again.before == [job.id for job in good]
    assert read_failure(run, bad) is None


def test_a_full_disk_ends_the_run_with_our_error(run, monkeypatch):
    def full(path, content):
        raise TrainingError(f"{path}: cannot be written (No space left on device)")

    monkeypatch.setattr("iqametrics.benchmark.run._write", full)
    with pytest.raises(TrainingError, match="No space left"):
        run_jobs(jobs()[:1], run, fast, quiet)
    assert read_result(run, jobs()[0]) is None


def test_ctrl_c_says_how_to_go_on(run):
    def interrupted(job, folder):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="--resume"):
        run_jobs(jobs(), run, interrupted, quiet)


def test_a_run_is_neither_overwritten_nor_mixed(run):
    with pytest.raises(DataError, match="already holds a run"):
        open_run(run, PLAN, jobs(), resume=False)
    open_run(run, PLAN, jobs(), resume=True)
    with pytest.raises(DataError, match=r"another plan \(jobs changed\)"):
        open_run(run, PLAN, jobs()[1:], resume=True)
    with pytest.raises(DataError, match="size changed"):
        open_run(run, {**PLAN, "size": "lite"}, jobs(), resume=True)


def test_damaged_files_are_told(run, tmp_path):
    job = jobs()[0]
    run_jobs([job], run, execute, quiet)
    (job_folder(run, job) / RESULT).write_text("{")
    with pytest.raises(DataError, match="delete it"):
        make_report(run)
    for text in ("[]", "{}", json.dumps({"format": 1, "figures": {}})):
        (job_folder(run, job) / RESULT).write_text(text)
        with pytest.raises(DataError, match="delete it"):
            make_report(run)
    with pytest.raises(DataError, match=r"plan\.json: cannot be read"):
        make_report(tmp_path)
    for change in ({"jobs": [{"id": "x"}]}, {"jobs": 3}, {"format": 2}):
        (tmp_path / "plan.json").write_text(json.dumps({"format": 1, **PLAN, "jobs": [], **change}))
        with pytest.raises(DataError, match=r"plan\.json: is (damaged|not a plan)"):
            make_report(tmp_path)


@given(st.integers(1, 40), st.integers(1, 12))
def test_shards_are_all_jobs_and_none_twice(count, of):
    items: list[Any] = list(range(count))
    parts: list[Any] = [shard(items, number, of) for number in range(1, of + 1)]
    assert sorted(item for part in parts for item in part) == items


def test_speed_is_that_of_the_finished_jobs(run):
    assert crops_per_second(run, jobs()) == {}
    for job, seconds in zip(jobs()[:2], (2.0, 4.0), strict=True):
        folder = job_folder(run, job)
        folder.mkdir(parents=True)
        (folder / RESULT).write_text(json.dumps({**result(job), "seconds": seconds}))
    assert crops_per_second(run, jobs()) == {("bpclip-fr", "paper"): (1000 / 2 + 1000 / 4) / 2}
