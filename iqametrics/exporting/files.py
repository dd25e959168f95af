"""Exported programs as files, ONNX or pt2, each with a record of what it is."""

import io
import json
import re
import warnings
from typing import Any, BinaryIO

import torch
from torch.export import ExportedProgram

from iqametrics.errors import ExportError, MissingExtraError
from iqametrics.metric import Metric

FORMATS = ("onnx", "pt2")
RECORD = "iqametrics.json"
"""Name of the record in the extra files of a pt2 file; of ONNX, the entries are properties of the model."""


def record_of(metric: Metric, licence: str | None, size: tuple[int, int] | None) -> dict[str, str]:
    """Say what a file is, as texts by name.

    Args:
        metric: The metric in the file.
        licence: Terms of the checkpoint; None where none are stated.
        size: Height and width of all images; None for any.
    """
    return {
        "metric": metric.name,
        "tag": metric.tag,
        "fingerprint": str(metric.fingerprint),
        "fingerprint_record": json.dumps(metric.fingerprint.to_dict()),
        "licence": licence or "not stated by the checkpoint",
        "mode": metric.mode,
        "higher_is_better": str(metric.higher_is_better).lower(),
        "score_range": json.dumps(metric.score_range),
        "input": "RGB in [0, 1], float32, (N, 3, H, W)"
        + ("" if size is None else f" with H, W = {size[0]}, {size[1]}"),
        "torch": torch.__version__,
    }


def write_program(stream: BinaryIO, program: ExportedProgram, format: str, record: dict[str, str]) -> None:
    """Write a traced metric.

    Args:
        stream: Where to.
        program: What `trace` gave.
        format: "onnx" or "pt2".
        record: What `record_of` gave.

    Raises:
        ExportError: If the exporter cannot express the metric in the format.
        MissingExtraError: If the extra `export` is not installed.
    """
    if format == "pt2":
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files={RECORD: json.dumps(record)})
        stream.write(buffer.getvalue())
        return
    stream.write(_onnx_bytes(program, record))


def _onnx_bytes(program: ExportedProgram, record: dict[str, str]) -> bytes:
    onnx = import_extra("onnx")
    import_extra("onnxscript")
    names = ["dist", "ref"][: len(program.graph_signature.user_inputs)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exported = torch.onnx.export(
                program, dynamo=True, input_names=names, output_names=["score"], optimize=True, verbose=False
            )
        except Exception as error:
            raise ExportError(
                f"torch's ONNX exporter cannot express the metric ({' '.join(str(error).split())[:200]}); "
                "--format pt2 may"
            ) from error
    assert exported is not None
    model = exported.model_proto
    _name_dims(model)
    onnx.helper.set_model_props(model, record)
    model.doc_string = f"{record['metric']}.{record['tag']}, {record['fingerprint']}; licence: {record['licence']}"
    content: bytes = model.SerializeToString()
    return content


def _name_dims(model: Any) -> None:
    """Call the open dimensions of the inputs what they are; torch gives them numbers."""
    shape = model.graph.input[0].type.tensor_type.shape.dim
    wanted = {shape[axis].dim_param: name for axis, name in ((0, "batch"), (2, "height"), (3, "width"))}
    wanted.pop("", None)
    if not wanted:
        return
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, wanted))})\b")
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = pattern.sub(lambda found: wanted[found[0]], dim.dim_param)


def import_extra(name: str) -> Any:
    """Import a package of the extra `export`.

    Raises:
        MissingExtraError: If it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(f"exporting needs {name}; pip install 'iqametrics[export]'") from error
