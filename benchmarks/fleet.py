"""Score 20,000 pictures by `iqametrics fleet` while its processes are killed, and compare with `iqametrics score`.

    python benchmarks/fleet.py make score kills rate machines [--work FOLDER] [--output benchmarks/results/fleet.json]

Each word is a piece, and may be run by itself; what it finds replaces its part of the output.

make    20,000 PNG pictures of 64x64 pixels, 20 of them damaged, in a folder, and the same in 20 tar shards
score   `iqametrics score` of the folder, with one thread: the scores that the others must give, and its rate
kills   `iqametrics fleet` of the shards with two workers: 4 and 8 seconds after the first finished rows a worker is
        killed (SIGKILL), 4 seconds later the command itself; it is started again with --resume, where two more workers
        are killed; then all rows are compared. The memory of all its processes (proportional set size) each 2 s
rate    `iqametrics fleet` with one worker and with two, from the first finished rows to the last: rows a second of the
        wall clock and of processor time, with `piq/total_variation`, which costs next to nothing, and with
        `bpclip-nr.lite` on the first 500 pictures
machines  `iqametrics fleet --address` on a cluster of two machines of one processor, both played by this one: after the
        first finished rows the machine that the command does not run on is killed (SIGKILL), then all rows are compared
"""

import argparse
import datetime
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
from measure_lite import describe_machine
from PIL import Image

COUNT, SHARDS, DAMAGED_EACH = 20_000, 20, 1000
CHEAP, LITE, LITE_COUNT = "piq/total_variation", "bpclip-nr.lite", 500
EVERY, WORKERS_A_RUN, KILLS_OF_THE_COMMAND = 4.0, 2, 1
HERE = {**os.environ, "OMP_NUM_THREADS": "1"}


def main() -> None:
    """Run the pieces that are asked for."""
    pieces = {"make": make, "score": score, "kills": kills, "rate": rate, "machines": machines}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pieces", nargs="+", choices=pieces)
    parser.add_argument("--work", type=Path, default=Path("runs/fleet"), help="folder of the pictures")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/fleet.json"))
    args = parser.parse_args()
    for name in args.pieces:
        begun = os.getloadavg()[0]
        found = pieces[name](args.work)
        known = json.loads(args.output.read_text()) if args.output.exists() else {}
        machine = describe_machine() | {"memory_gb": round(psutil.virtual_memory().total / 2**30)}
        known["command"] = "python benchmarks/fleet.py make score kills rate machines"
        when = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        known[name] = found | {"load_at_start": round(begun, 1), "machine": machine, "finished": when}
        args.output.write_text(json.dumps(known, indent=2) + "\n")
        print(name, json.dumps({key: value for key, value in found.items() if not isinstance(value, list)}, indent=2))


def make(work: Path) -> dict[str, Any]:
    """Write the pictures."""
    folder = work / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(COUNT):
        (folder / f"{number:05d}.png").write_bytes(_picture(number))
    each = COUNT // SHARDS
    for number in range(SHARDS):
        with tarfile.open(work / f"shard-{number:02d}.tar", "w") as shard:
            for index in range(number * each, (number + 1) * each):
                shard.add(folder / f"{index:05d}.png", f"{index:05d}.png")
    few = work / "few"
    few.mkdir(exist_ok=True)
    for number in range(LITE_COUNT):
        (few / f"{number:05d}.png").write_bytes(_picture(number))
    return {"pictures": COUNT, "damaged": COUNT // DAMAGED_EACH, "shards": SHARDS}


def score(work: Path) -> dict[str, Any]:
    """Score the folder in one process; the rows stay in the folder of the work."""
    command = _command("score", work / "pictures", "--device", "cpu", "--workers", 1, "--metric", CHEAP)
    begun = time.monotonic()
    done = subprocess.run(
        [*command, "--quiet", "--format", "jsonl", "--output", str(work / "score.jsonl")],
        env=HERE, stderr=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 1, "damaged pictures give the status 1"
    return {"metric": CHEAP, "rows": len(_wanted(work)), "seconds": round(time.monotonic() - begun, 1)}


def kills(work: Path) -> dict[str, Any]:
    """Kill workers and the command, resume, compare."""
    output = work / "kills.parquet"
    output.unlink(missing_ok=True)
    memory: list[list[float]] = []
    begun, killed = time.monotonic(), {"worker": 0, "command": 0}
    for run in range(KILLS_OF_THE_COMMAND + 1):
        driver = _begin(_shards(work), output, 2, CHEAP, *(["--resume"] if run else []))
        parts = len(list(_parts(output))) if run else 0
        next_kill, of_this_run = 0.0, 0
        while driver.poll() is None:
            memory.append([round(time.monotonic() - begun, 1), _memory_mb(driver)])
            time.sleep(2)
            if next_kill == 0.0 and len(list(_parts(output))) > parts:
                next_kill = time.monotonic() + EVERY
            if next_kill and time.monotonic() >= next_kill:
                if of_this_run == WORKERS_A_RUN and run < KILLS_OF_THE_COMMAND:
                    driver.kill()
                    killed["command"] += 1
                    break
                if of_this_run == WORKERS_A_RUN:
                    continue
                killed["worker"] += _kill_a_worker(driver)
                of_this_run += 1
                next_kill = time.monotonic() + EVERY
        driver.wait()
    return {"killed": killed, "workers": 2, **_compared(_wanted(work), output), "memory_mb_by_second": memory}


def rate(work: Path) -> dict[str, Any]:
    """Measure one worker and two."""
    found: dict[str, Any] = {}
    for metric, inputs in ((CHEAP, _shards(work)), (LITE, [work / "few"])):
        for actors in (1, 2):
            output = work / "rate.parquet"
            output.unlink(missing_ok=True)
            begun = time.monotonic()
            driver = _begin(inputs, output, actors, metric)
            first, busy = None, 0.0
            while driver.poll() is None:
                busy = max(busy, _busy(driver))
                if first is None and list(_parts(output)):
                    first = time.monotonic()
                time.sleep(0.2)
            rows = pq.read_metadata(output).num_rows
            record = {"actors": actors, "rows": rows, "seconds_in_all": round(time.monotonic() - begun, 1)}
            record["seconds_to_the_first_rows"] = round((first or begun) - begun, 1)
            record["processor_seconds_of_workers"] = round(busy, 1)
            record["load"] = round(os.getloadavg()[0], 1)
            found.setdefault(metric, []).append(record)
    return found


def machines(work: Path) -> dict[str, Any]:
    """Lose one of two machines."""
    ray = [str(Path(sys.executable).with_name("ray"))]
    # The command joins with the token that `ray start` writes.
    environment = {**HERE, "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": os.getcwd()}
    quiet: dict[str, Any] = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    head = ["start", "--head", "--num-cpus", "1", "--port", "6399", "--include-dashboard=false"]
    output = work / "machines.parquet"
    output.unlink(missing_ok=True)
    try:
        subprocess.run([*ray, *head], check=True, **quiet)
        first = _raylets()
        subprocess.run([*ray, "start", "--address", "127.0.0.1:6399", "--num-cpus", "1"], check=True, **quiet)
        (second,) = _raylets() - first
        command = _command("fleet", work / "few", "--output", output, "--metric", CHEAP, "--gpus-per-actor", 0)
        driver = subprocess.Popen([*command, "--address", "127.0.0.1:6399"], **quiet)
        while driver.poll() is None and not list(_parts(output)):
            time.sleep(0.2)
        psutil.Process(second).kill()
        driver.wait()
    finally:
        subprocess.run([*ray, "stop", "--force"], check=False, **quiet)
    wanted = _wanted(work)[: len(list((work / "few").iterdir()))]
    return {"machines": 2, "killed": 1, **_compared(wanted, output)}


def _raylets() -> set[int]:
    """Return the processes that are machines to Ray."""
    return {process.pid for process in psutil.process_iter(["name"]) if process.info["name"] == "raylet"}


def _picture(number: int) -> bytes:
    if number % DAMAGED_EACH == 7:
        return b"\x89PNG no more"
    coarse = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC).save(stream, "PNG")
    return stream.getvalue()


def _command(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "iqametrics", *map(str, arguments)]


def _shards(work: Path) -> list[Path]:
    return sorted(work.glob("shard-*.tar"))


def _begin(inputs: Sequence[Path], output: Path, actors: int, metric: str, *options: str) -> "subprocess.Popen[bytes]":
    command = _command("fleet", *inputs, "--output", output, "--actors", actors, "--gpus-per-actor", 0)
    command += ["--metric", metric, "--workers", "1", *options]
    return subprocess.Popen(command, env=HERE, stderr=subprocess.DEVNULL)


def _parts(output: Path) -> Iterator[Path]:
    return output.with_name(f"{output.name}.parts").glob("0*.parquet")


def _below(driver: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    try:
        found = psutil.Process(driver.pid)
        return [found, *found.children(recursive=True)]
    except psutil.Error:
        return []


def _workers(driver: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    workers = []
    for process in _below(driver):
        try:
            workers += [process] if "_Actor" in "".join(process.cmdline()) else []
        except psutil.Error:
            continue
    return workers


def _kill_a_worker(driver: "subprocess.Popen[bytes]") -> int:
    for worker in _workers(driver):
        worker.kill()
        return 1
    return 0


def _busy(driver: "subprocess.Popen[bytes]") -> float:
    total = 0.0
    for process in _workers(driver):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def _memory_mb(driver: "subprocess.Popen[bytes]") -> float:
    total = 0
    for process in _below(driver):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return round(total / 2**20)


def _wanted(work: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (work / "score.jsonl").read_text().splitlines()]


def _compared(wanted: Sequence[dict[str, Any]], output: Path) -> dict[str, Any]:
    """Compare every row with that of `score`: nothing lost, nothing doubled, each score equal to the bit."""
    rows = pq.read_table(output).to_pylist()
    names = [Path(row["image"]).name for row in rows]
    return {
        "rows": len(rows),
        "lost": len({Path(row["image"]).name for row in wanted} - set(names)),
        "doubled": len(names) - len(set(names)),
        "in_the_order_of_the_input": names == [Path(row["image"]).name for row in wanted],
        "scores_that_differ": sum(row["score"] != other["score"] for row, other in zip(rows, wanted, strict=True)),
        "rows_with_an_error": sum(row["error"] is not None for row in rows),
        "fingerprints": sorted({row["fingerprint"] for row in rows}),
    }


if __name__ == "__main__":
    main()
