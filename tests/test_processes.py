"""One metric in several threads and processes: the scores of one thread, and no hang."""

import multiprocessing
import threading

import numpy as np
import pytest
import torch
from PIL import Image

import iqametrics
from iqametrics.scoring import Item, score_items

NAMES = ("bpclip-nr.lite", "bpclip-fr.lite", "pfd-iqa.lite")
SECONDS = 120
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    paths = []
    for number in range(3):
        path = folder / f"{number}.png"
        side = 64 + 8 * number
        Image.fromarray(generator.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)
        paths.append(str(path))
    return paths


def score(metric, path):
    return float(metric(path, path) if metric.mode == "fr" else metric(path))


def score_to(connection, metric, paths):
    """Score in another process: with the metric of the parent, or one made there."""
    metric = iqametrics.create_metric(metric) if isinstance(metric, str) else metric
    connection.send([score(metric, path) for path in paths])
    connection.close()


@pytest.mark.parametrize("name", NAMES)
def test_eight_threads_give_the_scores_of_one(pictures, name):
    metric = iqametrics.create_metric(name)
    wanted = [score(metric, path) for path in pictures]
    found = {}
    start = threading.Barrier(8)

    def work(number):
        start.wait(SECONDS)
        order = pictures[number % 3 :] + pictures[: number % 3]
        found[number] = {path: score(metric, path) for path in order}

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert sorted(found) == list(range(8))
    for scores in found.values():
        assert [scores[path] for path in pictures] == pytest.approx(wanted, abs=1e-5)


def test_two_lists_at_once(pictures):
    metric = iqametrics.create_metric("bpclip-nr.lite")
    wanted = [row.score for row in score_items([metric], map(Item, pictures))]
    found = {}

    def work(number):
        found[number] = [row.score for row in score_items([metric], map(Item, pictures), workers=2)]

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert [found[number] for number in range(2)] == [pytest.approx(wanted, abs=1e-5)] * 2


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_gives_the_same_scores(pictures, method, threads):
    """Forked after the metric has been used, by threads of torch's own too."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        metric = iqametrics.create_metric("bpclip-nr.lite")
        wanted = [score(metric, path) for path in pictures]
        context = multiprocessing.get_context(method)
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(
            target=score_to,
            args=(theirs, metric if method == "fork" else "bpclip-nr.lite", pictures),
            daemon=True,
        )
        process.start()
        try:
            assert ours.poll(SECONDS), "the other process hangs"
            assert ours.recv() == pytest.approx(wanted, abs=1e-5)
            process.join(SECONDS)
            assert process.exitcode == 0
        finally:
            process.kill()
    finally:
        torch.set_num_threads(before)
