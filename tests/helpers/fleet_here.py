"""What `iqametrics fleet` does, in this process and without Ray; and pictures for it in every form."""

import io
import tarfile
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from iqametrics.cli.fleet_inputs import Sources
from iqametrics.fleet.parts import Parts
from iqametrics.fleet.sources import dump_source, load_source, units_of
from iqametrics.fleet.units import Unit
from iqametrics.fleet.worker import UnitScorer
from iqametrics.pipeline import BatchScorer

OPTIONS = {
    "recursive": False,
    "allow_urls": False,
    "ref": None,
    "ref_dir": None,
    "image_column": "image",
    "reference_column": "reference",
    "name_column": None,
}


def png(seed: int, size: tuple[int, int] = (24, 16)) -> bytes:
    """Make a picture."""
    stream = io.BytesIO()
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a tar shard."""
    with tarfile.open(path, "w") as shard:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            shard.addfile(info, io.BytesIO(content))
    return path


def write_parquet(path: Path, columns: Mapping[str, Any], rows_in_a_group: int = 1024) -> Path:
    """Write a parquet file of columns."""
    pq.write_table(pa.table(columns), path, row_group_size=rows_in_a_group)
    return path


def units(inputs: Sequence[Any], metric: str = "fake-nr.tiny", **options: Any) -> Iterator[Unit]:
    """All units that inputs are cut into, and their sources as they travel."""
    given = Namespace(inputs=list(map(str, inputs)), metric=[metric], **OPTIONS | options)
    full_reference = "fr" in metric
    for number, source in enumerate(Sources(given)):
        yield from units_of(number, load_source(dump_source(source)), full_reference=full_reference)


def score(
    inputs: Sequence[Any],
    folder: Path,
    metric: str = "fake-nr.tiny",
    *,
    resume: bool = False,
    stop_after: int | None = None,
    **options: Any,
) -> tuple[list[dict[str, Any]], int]:
    """Score inputs; return the rows of the file that is written, and how many pictures were scored now."""
    scorers = [BatchScorer(metric, device="cpu")]
    parts = Parts(folder / "out.parts", 1, resume=resume)
    scorer = UnitScorer(scorers, parts.finished())
    digests, scored = [], 0
    for unit in units(inputs, metric, **options):
        digest = unit.digest("maker")
        rows = scorer.score(digest, unit.dump())
        if rows is not None:
            scored += len(parts.add(digest, rows))
        digests.append(digest)
        if len(digests) == stop_after:
            break
    parts.flush()
    stream = io.BytesIO()
    parts.join(digests, stream)
    return pq.read_table(io.BytesIO(stream.getvalue())).to_pylist(), scored
