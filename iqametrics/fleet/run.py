"""Ray Data: sources are cut into units, workers with one model each score them, the driver keeps what is finished.

What runs through Ray are names and rows; a worker reads a picture when its turn comes. So memory does not grow with the
number or size of the pictures, and a damaged one costs its row only. Ray starts a worker that died anew, and gives the
unit that it was at to another.
"""

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from iqametrics.errors import FleetError
from iqametrics.fleet.parts import Parts
from iqametrics.fleet.sources import Source, dump_source, load_source, units_of
from iqametrics.fleet.worker import UnitScorer
from iqametrics.pipeline import BatchScorer, Scored

_LOCAL_STORE = 2**27
"""Bytes of Ray's store on this machine; names and rows need little."""
_SPLIT_CPUS, _WORKER_CPUS = 0.01, 0.9
"""Cutting sources waits for the disk, so it must not take a worker's place. Nor may workers take all the place,
or a cluster of as many processors as workers would wait for ever for the first source."""
_ACTORS_A_CUTTER = 16
"""Cutting takes a fraction of scoring, and each process that cuts costs memory."""
_EXCEPTION = re.compile(r"[\w.]+(Error|Exception|Exit|Interrupt)\b")
_DEATHS = 2
"""After so many workers died at a unit, its pictures are tried one by one."""


@dataclass(frozen=True)
class Pool:
    """The workers.

    Attributes:
        actors: How many; None for one for each GPU, or without any for each processor.
        gpus: GPUs of each, which may be a fraction; None for one where the cluster has any.
        address: Address of a cluster of Ray; None for this machine alone.
    """

    actors: int | None = None
    gpus: float | None = None
    address: str | None = None


class _Ledger:
    """Knows which units are finished, and how often each was begun by workers that did not finish it.

    Args:
        finished: See `UnitScorer`.
    """

    def __init__(self, finished: Mapping[bytes, Sequence[int]]) -> None:
        self._finished = finished
        self._begun: Counter[bytes] = Counter()

    def finished(self) -> Mapping[bytes, Sequence[int]]:
        return self._finished

    def begin(self, digest: bytes) -> int:
        self._begun[digest] += 1
        return self._begun[digest]

    def end(self, digest: bytes) -> None:
        self._begun.pop(digest, None)


class _Actor:
    """A worker in Ray: one unit in, its rows out."""

    def __init__(self, scorers: Sequence[BatchScorer], ledger: Any) -> None:
        import ray

        self.ray, self.ledger = ray, ledger
        self.scorer = UnitScorer(scorers, ray.get(ledger.finished.remote()))

    def __call__(self, batch: pa.Table) -> pa.Table:
        return pa.Table.from_pylist([self._scored(row) for row in batch.to_pylist()], _SCORED)

    def _scored(self, row: Mapping[str, Any]) -> dict[str, Any]:
        digest, begun = row["digest"], self.ray.get(self.ledger.begin.remote(row["digest"]))
        if begun <= _DEATHS:
            rows = self.scorer.score(digest, row["pictures"])
        else:
            # A picture of it ends the process that reads it, so each is tried alone, and the one left out.
            rows = self.scorer.score_one_by_one(digest, row["pictures"], self._may_try)
        self.ledger.end.remote(digest)
        return {name: row[name] for name, _ in _PLACE} | {"rows": rows}

    def _may_try(self, key: bytes) -> bool:
        return int(self.ray.get(self.ledger.begin.remote(key))) <= 1


_PLACE = [("source", pa.int64()), ("number", pa.int64()), ("last", pa.bool_()), ("digest", pa.binary())]
_CUT = pa.schema([*_PLACE, ("pictures", pa.binary())])
_SCORED = pa.schema([*_PLACE, ("rows", pa.binary())])


Watch = Callable[[Sequence[Scored], int], None]
"""Is told rows that are new, and how many were there already."""


def score_sources(
    sources: Sequence[Source],
    make_scorers: Callable[[str], list[BatchScorer]],
    maker: str,
    parts: Parts,
    pool: Pool,
    watch: Watch,
) -> list[bytes]:
    """Score all pictures of all sources that are not finished yet.

    Args:
        sources: The sources.
        make_scorers: Makes the metrics for a device, "cpu" or "cuda".
        maker: What the scores depend on besides pictures and device, as a text.
        parts: Has what is finished, and gets the rest.
        pool: The workers.
        watch: Is told what is done.

    Returns:
        The digests of all units, in the order of the sources.

    Raises:
        FleetError: If Ray cannot be started, or a unit could not be scored by any worker.
        DataError: If rows cannot be written.
    """
    done: dict[tuple[int, int], bytes] = {}
    lasts: dict[int, int] = {}
    with _started(pool) as (ray, actors, gpus):
        device = "cuda" if gpus else "cpu"
        scorers = make_scorers(device)
        full_reference = any(scorer.mode == "fr" for scorer in scorers)
        cut = _cut_by_ray(ray, sources, f"{maker} {device}", full_reference, at_once=1 + actors // _ACTORS_A_CUTTER)
        ledger = ray.remote(_Ledger).options(num_cpus=0, scheduling_strategy=_here(ray)).remote(parts.finished())
        scored = cut.map_batches(
            _Actor,
            fn_constructor_args=(scorers, ledger),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=2),
            num_cpus=_WORKER_CPUS,
            num_gpus=gpus or None,
        )
        try:
            for row in _told(ray, scored):
                done[row["source"], row["number"]] = row["digest"]
                if row["last"]:
                    lasts[row["source"]] = row["number"]
                if row["rows"] is None:
                    watch([], parts.count(row["digest"])[0])
                else:
                    watch(parts.add(row["digest"], row["rows"]), 0)
        finally:
            # Also after Ctrl-C, and where a worker failed.
            parts.flush()
    return _in_order(len(sources), done, lasts)


def _in_order(count: int, done: Mapping[tuple[int, int], bytes], lasts: Mapping[int, int]) -> list[bytes]:
    """Return the digests in the order of the sources.

    Raises:
        FleetError: If one is missing.
    """
    units = sum(last + 1 for last in lasts.values())
    if len(lasts) < count or len(done) < units:
        raise FleetError(f"{units - len(done)} units of pictures were lost; the same command with --resume goes on")
    return [done[place] for place in sorted(done)]


def _cut_by_ray(ray: Any, sources: Iterable[Source], maker: str, full_reference: bool, at_once: int) -> Any:
    """Return Ray's data set of the units."""
    blocks = [
        ray.put(pa.table({"number": [number], "source": [dump_source(source)]}))
        for number, source in enumerate(sources)
    ]
    cut = partial(_cut, maker=maker, full_reference=full_reference)
    return ray.data.from_arrow_refs(blocks).map_batches(
        cut,
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=_SPLIT_CPUS,
        compute=ray.data.TaskPoolStrategy(size=at_once),
    )


def _cut(batch: pa.Table, maker: str, full_reference: bool) -> Iterator[pa.Table]:
    for row in batch.to_pylist():
        source = load_source(row["source"])
        for unit in units_of(row["number"], source, full_reference=full_reference):
            values = (unit.source, unit.number, unit.last, unit.digest(maker), unit.dump())
            yield pa.Table.from_pylist([dict(zip(_CUT.names, values, strict=True))], _CUT)


def _told(ray: Any, scored: Any) -> Iterator[Mapping[str, Any]]:
    """Yield what workers finished, as soon as they did.

    Raises:
        FleetError: If a worker failed for good.
    """
    try:
        with warnings.catch_warnings():
            # Few units leave some of the workers without work, which Ray warns of.
            warnings.simplefilter("ignore", UserWarning)
            yield from scored.iter_rows()
    except ray.exceptions.RayError as error:
        raise FleetError(f"a worker failed ({_reason(error)}); the same command with --resume goes on") from error


def _reason(error: Exception) -> str:
    """Return the one line of Ray's text that names the cause: the last that begins with the name of an exception."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return next((line for line in reversed(lines) if _EXCEPTION.match(line)), lines[-1])


def _here(ray: Any) -> Any:
    """Keep an actor on the driver's machine: any other may be lost, and the run goes on without it."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


@contextmanager
def _started(pool: Pool) -> Iterator[tuple[Any, int, float]]:
    """Start Ray, or join a cluster; yield it with the number of workers and the GPUs of each."""
    # Read by Ray when it is imported: it sends no figures about its use to its makers, and does not talk on stderr.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import logging

    import ray
    import ray.data

    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    here: dict[str, Any] = {"address": pool.address}
    if pool.address is None:
        processors = max(os.cpu_count() or 1, pool.actors or 1)
        here = {"num_cpus": processors, "object_store_memory": _LOCAL_STORE, "include_dashboard": False}
    try:
        ray.init(logging_level=logging.ERROR, log_to_driver=False, **here)
    except (ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if pool.address is None:
            raise FleetError(f"Ray cannot be started ({line}); check memory and /dev/shm") from error
        remedy = "check --address, and where the cluster asks for a token set RAY_AUTH_MODE=token"
        raise FleetError(f"Ray cannot join {pool.address} ({line}); {remedy}") from error
    try:
        _quiet(ray)
        resources = ray.cluster_resources()
        gpus = pool.gpus if pool.gpus is not None else float(resources.get("GPU", 0) >= 1)
        if gpus > resources.get("GPU", 0):
            raise FleetError(f"there are {resources.get('GPU', 0):g} GPUs; give --gpus-per-actor 0 to use processors")
        free = int(resources.get("GPU", 0) / gpus) if gpus else int(resources.get("CPU", 1))
        yield ray, pool.actors or max(1, free), gpus
    finally:
        ray.shutdown()


def _quiet(ray: Any) -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # One unit a block: what is finished comes back at once, and is lost alone.
    context.target_max_block_size = 1
    context.target_min_block_size = 1
