"""A made-up way of doing benchmark jobs, and a process that does them until it is killed."""

import hashlib
import json
import sys
import time
from pathlib import Path

from iqametrics.benchmark.plan import plan_table
from iqametrics.benchmark.run import open_run, run_jobs
from iqametrics.benchmark.tables import paper_table

PLACE = {
    "commit": "0" * 40,
    "changed_since_commit": False,
    "python": "3.11",
    "packages": {"torch": "2.0"},
    "hardware": {"machine": "m", "system": "s", "cpus": 1, "torch_threads": 1, "gpu": None},
}
PLAN = {"table": "bpclip-table2", "size": "paper", "changes": [], "labels": {"live": "human", "csiq": "human"}}


def jobs():
    table = paper_table("bpclip-table2")
    return plan_table(table, rows=["BPCLIP"], datasets=["live", "csiq"], splits=10)


def number(text):
    """A number in [0, 1) that a text decides."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32


def figures(job):
    return {
        job.place(target): {
            "n": 100,
            "srcc": 0.98 + number(f"{job.id} srcc") / 100,
            "plcc": 0.98 + number(f"{job.id} plcc") / 100,
            "plcc_logistic": 0.985,
            "krcc": 0.9,
            "srcc_low": 0.9,
            "srcc_high": 0.99,
        }
        for target in job.targets
    }


def result(job):
    images = {"live": 779, "csiq": 866}
    return {
        "images": {name: images[name] for name in job.datasets},
        "figures": figures(job),
        "selection": "best-val",
        "passes": 1000,
        **PLACE,
    }


def execute(job, folder):
    """Work in small steps that are kept, as the trainer's states are, and note each beginning."""
    with (folder.parents[1] / "begun.log").open("a", encoding="utf-8") as log:
        log.write(f"{job.id}\n")
    steps = folder / "steps"
    done = steps.stat().st_size if steps.exists() else 0
    for _ in range(done, 4):
        time.sleep(0.01)
        with steps.open("a", encoding="utf-8") as file:
            file.write(".")
    return result(job)


if __name__ == "__main__":
    run = Path(sys.argv[1])
    open_run(run, PLAN, jobs(), resume=True)
    print("ready", flush=True)
    outcome = run_jobs(jobs(), run, execute, lambda text: None)
    print(json.dumps(vars(outcome)), flush=True)
