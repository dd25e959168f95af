"""Load `iqametrics serve` with 50 clients at once, and compare every answer with `iqametrics score`.

    python benchmarks/serve_load.py [--output benchmarks/results/serve_load.json]

Each client has one connection, and sends the next picture when it has the answer to the last: 50 pictures of noise,
128x128 pixels, one in 25 of them damaged. `bpclip-nr.lite` shows a model at work; `piq/total_variation`, which costs
next to nothing, what the server itself can take. Server and clients share the machine; each computes with one thread.
Then the limits: a body that is too large, and more clients than may wait.
"""

import argparse
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from measure_lite import describe_machine
from PIL import Image

CLIENTS, PICTURES, DAMAGED_EACH = 50, 50, 25
REQUESTS = {"bpclip-nr.lite": 250, "piq/total_variation": 3000}
HERE = {**os.environ, "OMP_NUM_THREADS": "1"}
START_SECONDS = 240


@dataclass(frozen=True)
class Answer:
    """An answer of the server.

    Attributes:
        picture: Number of the picture that was sent.
        status: Status of HTTP.
        body: What was answered.
        seconds: From the first byte sent to the last one read.
    """

    picture: int
    status: int
    body: dict[str, Any]
    seconds: float


def main() -> None:
    """Measure, check and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/serve_load.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = write_pictures(folder)
        found = {metric: measure(metric, folder, pictures, count) for metric, count in REQUESTS.items()}
    found["limits"] = limits(pictures[0])
    record = {"command": "python benchmarks/serve_load.py", "machine": describe_machine(), "clients": CLIENTS, **found}
    args.output.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


def write_pictures(folder: Path) -> list[bytes]:
    """Write the pictures, and return them."""
    pictures = []
    for number in range(PICTURES):
        stream = BytesIO()
        noise = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((128, 128), Image.Resampling.BICUBIC).save(stream, "PNG")
        pictures.append(stream.getvalue() if number % DAMAGED_EACH != 3 else stream.getvalue()[:500])
        (folder / f"{number:03d}.png").write_bytes(pictures[-1])
    return pictures


def measure(metric: str, folder: Path, pictures: Sequence[bytes], count: int) -> dict[str, Any]:
    """Load a server of one metric."""
    wanted = scores_of_the_command_line(metric, folder)
    with serving(metric, "--timeout", "300") as (port, server):
        ask(port, pictures[0], 0)
        load, before, begun = os.getloadavg()[0], busy(server), time.monotonic()
        answers = ask_all(port, pictures, count)
        seconds = time.monotonic() - begun
        told = get(port, "/metrics")
        processor = busy(server) - before
    times = np.array([answer.seconds for answer in answers if answer.status == 200])
    statuses = Counter(answer.status for answer in answers)
    differ = sum(answer.body.get("score") != wanted[answer.picture] for answer in answers)
    counted = {int(code): int(n) for code, n in re.findall(r'requests_total\{status="(\d+)"\} (\d+)', told)}
    batches = {name: float(re.findall(rf"iqametrics_batch_size_{name} (\S+)", told)[0]) for name in ("sum", "count")}
    return {
        "requests": count,
        "requests_a_second": round(count / seconds, 1),
        "requests_a_processor_second_of_the_server": round(count / processor, 1),
        "latency_ms": {f"p{p}": round(float(np.percentile(times, p)) * 1000) for p in (50, 90, 95, 99, 100)},
        "answers": {str(status): n for status, n in sorted(statuses.items())},
        "scores_that_differ_from_the_command_line": differ,
        "mean_batch": round(batches["sum"] / batches["count"], 2),
        "metrics_count_the_same_answers": counted == statuses + Counter([200]),
        "load_at_start": round(load, 1),
    }


def limits(picture: bytes) -> dict[str, Any]:
    """Ask for what the limits refuse."""
    with serving("piq/total_variation", "--max-mb", "1", "--max-waiting", "2") as (port, _):
        large = ask(port, bytes(2**20 + 1), 0)
        crowd = Counter(answer.status for answer in ask_all(port, [picture], 600))
        after = ask(port, picture, 0)
    return {
        "larger_than_max_mb": large.status,
        "with_max_waiting_2": {str(status): n for status, n in sorted(crowd.items())},
        "afterwards": after.status,
    }


def scores_of_the_command_line(metric: str, folder: Path) -> list[float | None]:
    """Score the pictures by `iqametrics score`; None for those that are damaged."""
    command = [sys.executable, "-m", "iqametrics", "score", str(folder), "--metric", metric, "--device", "cpu"]
    done = subprocess.run([*command, "--format", "jsonl"], env=HERE, capture_output=True, text=True, check=False)
    return [json.loads(line)["score"] for line in done.stdout.splitlines()]


@contextmanager
def serving(metric: str, *options: str) -> Iterator[tuple[int, psutil.Process]]:
    """Start a server of its own; its port and its process."""
    command = [sys.executable, "-m", "iqametrics", "serve", "--metric", metric, "--port", "0", "--device", "cpu"]
    server = subprocess.Popen([*command, *options], env=HERE, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        port = 0
        for line in server.stderr:
            if found := re.search(r":(\d+)/score", line):
                port = int(found[1])
                break
        end = time.monotonic() + START_SECONDS
        while not _answers(port):
            assert time.monotonic() < end, "the server does not answer"
            time.sleep(0.2)
        yield port, psutil.Process(server.pid)
    finally:
        server.terminate()
        server.communicate()


def ask_all(port: int, pictures: Sequence[bytes], count: int) -> list[Answer]:
    """Let all clients ask, each over one connection."""
    numbers = iter(range(count))
    lock = threading.Lock()
    ready = threading.Barrier(CLIENTS)

    def client(_: int) -> list[Answer]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        answers: list[Answer] = []
        ready.wait()
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                connection.close()
                return answers
            answers.append(_ask(connection, pictures[number % len(pictures)], number % len(pictures)))

    with ThreadPoolExecutor(CLIENTS) as clients:
        return [answer for answers in clients.map(client, range(CLIENTS)) for answer in answers]


def ask(port: int, picture: bytes, number: int) -> Answer:
    """Ask once."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        return _ask(connection, picture, number)
    finally:
        connection.close()


def get(port: int, path: str) -> str:
    """Get a page of the server."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def busy(process: psutil.Process) -> float:
    """Return the processor seconds of a process."""
    times = process.cpu_times()
    return float(times.user + times.system)


def _answers(port: int) -> bool:
    try:
        return json.loads(get(port, "/health"))["status"] == "ok"
    except OSError:
        return False


def _ask(connection: http.client.HTTPConnection, picture: bytes, number: int) -> Answer:
    begun = time.monotonic()
    connection.request("POST", "/score", picture)
    answer = connection.getresponse()
    body = json.loads(answer.read())
    return Answer(number, answer.status, body, time.monotonic() - begun)


if __name__ == "__main__":
    main()
