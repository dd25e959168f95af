"""A metric's network as torch.export sees it."""

import warnings

import torch
import torch.fx.experimental._config as fx_config
from torch.export import Dim, ExportedProgram

from iqametrics.errors import ExportError
from iqametrics.exporting.network import ExportedNetwork
from iqametrics.metric import Metric

_EXAMPLE = (2, 3, 481, 647)
_OLDEST = (2, 14)


def check_torch() -> None:
    """Refuse a torch that is older than what exports were proven with.

    Raises:
        ExportError: If it is.
    """
    found = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if found < _OLDEST:
        raise ExportError(
            f"torch {torch.__version__} is too old to export metrics; install {'.'.join(map(str, _OLDEST))} or newer"
        )


def trace(metric: Metric, size: tuple[int, int] | None) -> ExportedProgram:
    """Trace a metric for any number of images, of any size or of one.

    Args:
        metric: The metric, on the CPU in float32.
        size: Height and width of all images; None for any.

    Raises:
        ExportError: If torch.export cannot follow the metric; the message says what can be done.
    """
    check_torch()
    shape = _EXAMPLE if size is None else (2, 3, *size)
    dims: dict[int, Dim] = {0: Dim("batch", min=1)}
    if size is None:
        dims |= {2: Dim("height", min=1), 3: Dim("width", min=1)}
    network = ExportedNetwork(metric).eval()
    images = tuple(
        torch.rand(shape, generator=torch.Generator().manual_seed(n)) for n in range(1 + (metric.mode == "fr"))
    )
    with torch.no_grad(), warnings.catch_warnings():
        # They speak to the authors of torch.export.
        warnings.simplefilter("ignore")
        # What a metric draws once and keeps (noise) must be there before it is traced.
        network(*images)
        # Without this, one image would be no size that the batch may have.
        with fx_config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
            try:
                return torch.export.export(
                    network,
                    images,
                    dynamic_shapes=tuple(dims for _ in images),
                    strict=False,
                    prefer_deferred_runtime_asserts_over_guards=True,
                )
            except Exception as error:
                raise ExportError(_told(metric, size, error)) from error


def _told(metric: Metric, size: tuple[int, int] | None, error: Exception) -> str:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    if size is None:
        return (
            f"{metric.full_name} cannot be exported for pictures of any size ({reason}); give --size HxW for one size"
        )
    return f"{metric.full_name} cannot be exported at {size[0]}x{size[1]} ({reason}); torch.export does not follow it"
