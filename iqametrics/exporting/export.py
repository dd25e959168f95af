"""From a metric to a proven file."""

from dataclasses import dataclass
from pathlib import Path

from iqametrics.common.files import open_atomic
from iqametrics.errors import ExportError
from iqametrics.exporting.files import FORMATS, record_of, write_program
from iqametrics.exporting.proof import Proof, prove
from iqametrics.exporting.trace import trace
from iqametrics.metric import Metric


@dataclass(frozen=True)
class Export:
    """A file that was written.

    Attributes:
        path: Where it is.
        format: "onnx" or "pt2".
        bytes: Its size.
        record: What it says of itself.
        proof: How far it is from the metric.
    """

    path: Path
    format: str
    bytes: int
    record: dict[str, str]
    proof: Proof


def export_metric(
    metric: Metric,
    path: str | Path,
    *,
    format: str = "onnx",
    size: tuple[int, int] | None = None,
    licence: str | None = None,
) -> Export:
    """Write a metric as a file that runs without this package, once it is known to compute the same.

    The file takes `dist` and, of a full-reference metric, `ref`, RGB in [0, 1] of shape (N, 3, H, W), and gives
    `score`, (N,). Bringing pictures to size and the noise of PFD-IQA are in it.

    Args:
        metric: The metric, in float32 on the CPU.
        path: File to write; an existing one is replaced when all is done.
        format: "onnx", or "pt2" for torch alone.
        size: Height and width of all images; None for any.
        licence: Terms of the checkpoint, for the record in the file.

    Raises:
        ExportError: If the metric cannot be exported, or the file would not compute what the metric does.
        MissingExtraError: If the extra `export` is not installed.
    """
    if format not in FORMATS:
        raise ExportError(f"unknown format {format!r}; use {' or '.join(FORMATS)}")
    parameter = next(metric.parameters(), None)
    if parameter is None or parameter.device.type != "cpu" or str(parameter.dtype) != "torch.float32":
        raise ExportError(f"{metric.full_name}: only a network in float32 on the CPU can be exported; make it so")
    path, record = Path(path), record_of(metric, licence, size)
    program = trace(metric, size)
    with open_atomic(path, error=ExportError) as stream:
        write_program(stream, program, format, record)
        stream.flush()
        proof = prove(Path(stream.name), metric, format, size)
    return Export(path, format, path.stat().st_size, record, proof)
