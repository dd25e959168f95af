"""Image quality assessment: BPCLIP and PFD-IQA, ready to score photographs.

    import iqametrics

    metric = iqametrics.create_metric("pfd-iqa")
    print(metric("photo.jpg"))

Importing this package is quick: torch is imported when the first metric is made or the first image is read.
"""

import importlib
from typing import TYPE_CHECKING, Any

from iqametrics.errors import (
    DataError,
    ExportError,
    FleetError,
    ImageReadError,
    InputError,
    IqaError,
    MissingExtraError,
    RecipeError,
    TrainingError,
    UnknownMetricError,
    WeightsError,
)
from iqametrics.registry import (
    BareNameWarning,
    LiteCheckpointWarning,
    MetricInfo,
    list_metrics,
    metric_info,
    register_metric,
)
from iqametrics.spec import MetricSpec
from iqametrics.typed import create_metric

if TYPE_CHECKING:
    from iqametrics.datasets.catalogue import dataset_spec, list_datasets, load_dataset
    from iqametrics.evaluation import Evaluation, evaluate
    from iqametrics.images import read_image
    from iqametrics.metric import Metric, ReferenceFeatures

__all__ = [
    "BareNameWarning",
    "DataError",
    "Evaluation",
    "ExportError",
    "FleetError",
    "ImageReadError",
    "InputError",
    "IqaError",
    "LiteCheckpointWarning",
    "Metric",
    "MetricInfo",
    "MetricSpec",
    "MissingExtraError",
    "RecipeError",
    "ReferenceFeatures",
    "TrainingError",
    "UnknownMetricError",
    "WeightsError",
    "__version__",
    "create_metric",
    "dataset_spec",
    "evaluate",
    "list_datasets",
    "list_metrics",
    "load_dataset",
    "metric_info",
    "read_image",
    "register_metric",
]

_LAZY = {
    "Evaluation": "iqametrics.evaluation",
    "Metric": "iqametrics.metric",
    "ReferenceFeatures": "iqametrics.metric",
    "dataset_spec": "iqametrics.datasets.catalogue",
    "evaluate": "iqametrics.evaluation",
    "list_datasets": "iqametrics.datasets.catalogue",
    "load_dataset": "iqametrics.datasets.catalogue",
    "read_image": "iqametrics.images",
}


def __getattr__(name: str) -> Any:
    """Import what needs torch or NumPy when it is first asked for."""
    if name == "__version__":
        from importlib.metadata import version

        return version("iqametrics")
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
