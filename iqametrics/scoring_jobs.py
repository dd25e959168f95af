"""Many images at once: several threads that each score some of them, with their rows in one order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from threading import Event

import torch

from iqametrics.metric import Metric
from iqametrics.scoring import Item, Row, on_cpu

_SHARE = 8
_MOST_BY_DEFAULT = 4


def default_jobs(metrics: Sequence[Metric], count: int | None) -> int:
    """Choose how many images are scored at once where nobody said it.

    Args:
        metrics: The metrics.
        count: The number of images; None if nobody knows it, as on a pipe, whose rows somebody may wait for.

    Returns:
        One for each thread that torch may use, up to four, since each holds images of its own; 1 where there are fewer
        than two shares, or a metric is not on a CPU or shares state between images.
    """
    if count is None or count < 2 * _SHARE or any(metric.spec.shares_state for metric in metrics):
        return 1
    if not on_cpu(metrics):
        return 1
    return min(_MOST_BY_DEFAULT, torch.get_num_threads())


def score_in_jobs(
    items: Iterable[Item], score: Callable[[Iterable[Item]], Iterator[Row]], *, jobs: int
) -> Iterator[Row]:
    """Score images by several threads, each with pictures of its own, and yield the rows in the order of the images.

    On a CPU that is faster than several threads in one operation: they need not wait for each other. torch is given
    the processors that each of them has, until all rows are there.

    Args:
        items: The images; `jobs` shares of a few are taken ahead.
        score: Scores images, see `score_items`; called in each thread.
        jobs: Number of threads.

    Yields:
        What `score` yields, in the order of `items`.
    """
    stopped = Event()
    source = iter(items)

    def work(share: list[Item]) -> list[Row]:
        return list(score(item for item in share if not stopped.is_set()))

    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="iqametrics-job")
    running: deque[Future[list[Row]]] = deque()
    try:
        torch.set_num_threads(max(1, threads // jobs))
        while share := list(islice(source, _SHARE)):
            running.append(pool.submit(work, share))
            if len(running) > jobs:
                yield from running.popleft().result()
        while running:
            yield from running.popleft().result()
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
