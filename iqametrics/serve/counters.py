"""What a server counts, in Prometheus' text format."""

from collections import Counter
from collections.abc import Sequence
from threading import Lock

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Histogram:
    """Counts of values up to each bound.

    Args:
        bounds: The bounds, ascending.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * len(bounds)
        self.count, self.total = 0, 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.count += 1
        self.total += value
        for index, bound in enumerate(self.bounds):
            self.counts[index] += value <= bound

    def lines(self, name: str) -> list[str]:
        """Return the lines of the text format."""
        buckets = [
            f'{name}_bucket{{le="{bound:g}"}} {count}' for bound, count in zip(self.bounds, self.counts, strict=True)
        ]
        return [
            *buckets,
            f'{name}_bucket{{le="+Inf"}} {self.count}',
            f"{name}_sum {self.total}",
            f"{name}_count {self.count}",
        ]


class Counters:
    """Requests by status, their time, and the sizes of batches."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._statuses: Counter[int] = Counter()
        self._seconds, self._sizes = Histogram(SECONDS), Histogram(SIZES)

    def request(self, status: int, seconds: float) -> None:
        """Count a request to be scored."""
        with self._lock:
            self._statuses[status] += 1
            self._seconds.add(seconds)

    def batch(self, size: int) -> None:
        """Count a batch."""
        with self._lock:
            self._sizes.add(size)

    def text(self, waiting: int) -> str:
        """Return all in the text format.

        Args:
            waiting: How many requests wait.
        """
        with self._lock:
            lines = ["# TYPE iqametrics_requests_total counter"]
            lines += [
                f'iqametrics_requests_total{{status="{status}"}} {count}'
                for status, count in sorted(self._statuses.items())
            ]
            lines += ["# TYPE iqametrics_waiting gauge", f"iqametrics_waiting {waiting}"]
            lines += ["# TYPE iqametrics_request_seconds histogram", *self._seconds.lines("iqametrics_request_seconds")]
            lines += ["# TYPE iqametrics_batch_size histogram", *self._sizes.lines("iqametrics_batch_size")]
        return "\n".join(lines) + "\n"
