"""Names of metrics and checkpoints, and what can be known or made from a name.

Nothing here imports torch until `create_metric` is called: a method's package declares its metrics in `SPECS`, and
its code is imported when a metric is first made.
"""

import importlib
import os
import re
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from iqametrics.common.devices import find_device
from iqametrics.common.suggest import did_you_mean
from iqametrics.errors import InputError, UnknownMetricError, WeightsError
from iqametrics.spec import MetricSpec, Mode
from iqametrics.weights.header import read_metadata
from iqametrics.weights.hub import HUB, fetch, fetch_checkpoint, parse_reference
from iqametrics.weights.manifest import WEIGHTS_FOLDER, CheckpointEntry, read_manifest, verified_bytes

if TYPE_CHECKING:
    import torch

    from iqametrics.metric import Metric

METRIC_PACKAGES = ("iqametrics.bpclip", "iqametrics.pfd_iqa")
"""Packages whose `SPECS` are the built-in metrics."""

LITE = "lite"

_registered: dict[str, MetricSpec] = {}


class LiteCheckpointWarning(UserWarning):
    """The default checkpoint that was loaded is the lite one, not the model of the paper's size."""


@dataclass(frozen=True, kw_only=True)
class MetricInfo:
    """What is known of a metric and of one of its checkpoints.

    Attributes:
        name: Registered name.
        tag: Name of the checkpoint; None where the package has none.
        tags: Names of all checkpoints, the default one first.
        mode: "fr" or "nr".
        higher_is_better: Direction of the score.
        score_range: Nominal range, ascending.
        range_is_bound: Whether scores can never leave it.
        differentiable: Whether the score has a useful gradient.
        paper: Title, venue and year.
        paper_url: Where the paper is.
        checkpoint: Manifest entry of the checkpoint (file, bytes, sha256, ...); None where there is none.
        metadata: What the checkpoint says of itself (config, sizing, training, licence, results, sources); for one on
            the Hub, what the manifest says of it (config, training, licence, results): nothing is fetched for this.
    """

    name: str
    tag: str | None
    tags: tuple[str, ...]
    mode: Mode
    higher_is_better: bool
    score_range: tuple[float, float]
    range_is_bound: bool
    differentiable: bool
    paper: str
    paper_url: str
    checkpoint: CheckpointEntry | None
    metadata: dict[str, Any]

    @property
    def full_name(self) -> str:
        """Name with the checkpoint's tag, e.g. "pfd-iqa.lite"; without a checkpoint the name alone."""
        return self.name if self.tag is None else f"{self.name}.{self.tag}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, ready for JSON."""
        return {"full_name": self.full_name, **asdict(self)}


def register_metric(spec: MetricSpec) -> None:
    """Add a metric of your own; its factory is imported when it is first made.

    Args:
        spec: The constants of the metric; `spec.factory` names a subclass of `iqametrics.metric.Metric`.

    Raises:
        ValueError: The name is taken, or has a dot, a slash or a space in it.
    """
    if spec.name in _specs():
        raise ValueError(f"a metric named {spec.name!r} is registered already; choose another name")
    _check_name(spec.name)
    _registered[spec.name] = spec


def unregister_metric(name: str) -> None:
    """Take back what `register_metric` added."""
    if name not in _registered:
        raise UnknownMetricError(f"no metric {name!r} was registered with register_metric")
    del _registered[name]


def list_metrics(mode: Mode | None = None, *, baselines: bool = False) -> list[str]:
    """List the names of the metrics, sorted.

    Args:
        mode: "fr" or "nr" for those alone.
        baselines: Whether to add, at the end, those of piq and pyiqa ("piq/fsim"), as far as these are installed.

    Raises:
        UnknownMetricError: There is no such mode.

    Examples:
        >>> [name for name in list_metrics("fr") if name.startswith("bpclip")]
        ['bpclip-fr']
    """
    if mode not in (None, "fr", "nr"):
        raise UnknownMetricError(f"unknown mode {mode!r}; use 'fr', 'nr' or None")
    names = sorted(name for name, spec in _specs().items() if mode in (None, spec.mode))
    return [*names, *_baselines().list_baselines(mode)] if baselines else names


def metric_spec(name: str) -> MetricSpec:
    """Give the constants of a metric.

    Args:
        name: Its name, with or without a tag.

    Raises:
        UnknownMetricError: There is no such metric or checkpoint.
    """
    return split_name(name)[0]


def split_name(name: str) -> tuple[MetricSpec, str | None]:
    """Split "metric" or "metric.tag" and look both up.

    Raises:
        UnknownMetricError: There is no such metric, or it has no such checkpoint.
        MissingExtraError: It is a metric of a package that is not installed.
    """
    if "/" in str(name):
        return _baselines().resolve(name), None
    specs = _specs()
    metric, _, tag = str(name).partition(".")
    if metric not in specs:
        raise UnknownMetricError(_unknown("metric", metric, specs, "list_metrics()"))
    if tag:
        find_checkpoint(metric, tag)
    elif "." in str(name):
        raise UnknownMetricError(f"{name!r} has a dot but no checkpoint after it; leave out the dot")
    return specs[metric], tag or None


def checkpoint_tags(metric: str) -> list[str]:
    """List the names of a metric's checkpoints, the default one first."""
    return [entry.tag for entry in read_manifest(WEIGHTS_FOLDER).of_metric(metric)]


def find_checkpoint(metric: str, tag: str | None = None) -> CheckpointEntry:
    """Find a checkpoint of a metric in the manifest.

    Args:
        metric: Registered name.
        tag: Name of the checkpoint; None for the default one.

    Raises:
        WeightsError: There is no default checkpoint.
        UnknownMetricError: There is no checkpoint of that name.
    """
    entries = read_manifest(WEIGHTS_FOLDER).of_metric(metric)
    wanted = [entry for entry in entries if (entry.default if tag is None else entry.tag == tag)]
    if wanted:
        return wanted[0]
    if tag is None:
        raise WeightsError(
            f"no default checkpoint of {metric} is in this version of iqametrics; give weights= the path of a "
            ".safetensors file, or None for the untrained architecture"
        )
    raise UnknownMetricError(
        _unknown(f"checkpoint of {metric}", tag, [entry.tag for entry in entries], f"metric_info({metric!r}).tags")
    )


def metric_info(name: str) -> MetricInfo:
    """Tell all that is known of a metric, without importing torch.

    Args:
        name: Its name, with a tag for a checkpoint other than the default one.

    Raises:
        UnknownMetricError: There is no such metric or checkpoint.
        WeightsError: The checkpoint's file is missing or damaged.
    """
    spec, tag = split_name(name)
    entries = read_manifest(WEIGHTS_FOLDER).of_metric(spec.name)
    entry = next((e for e in entries if (e.default if tag is None else e.tag == tag)), None)
    constants = {key: value for key, value in asdict(spec).items() if key != "factory"}
    return MetricInfo(
        **constants,
        tag=entry.tag if entry else None,
        tags=tuple(e.tag for e in entries),
        checkpoint=entry,
        metadata=_metadata(entry) if entry else {},
    )


def create_metric(
    name: str,
    *,
    weights: str | os.PathLike[str] | None = "default",
    device: "str | torch.device | None" = None,
    dtype: "str | torch.dtype | None" = None,
    as_loss: bool = False,
) -> "Metric":
    """Make a metric, ready to score.

    Args:
        name: "bpclip-fr", "bpclip-nr", "pfd-iqa" (see `list_metrics`), with or without a tag: "pfd-iqa.lite"; or a
            metric of piq or pyiqa: "piq/fsim".
        weights: "default", the tag of a checkpoint ("lite"), the path of a .safetensors file, a published checkpoint as
            "hub:ORG/NAME@REVISION" with the 40 digits of a commit (and ":FILE" where the file is not
            "model.safetensors"), or None for the architecture of the paper's size with random weights (tag
            "untrained"). What is on the Hub is fetched unless it is cached.
        device: Where to compute; None for the CPU, "auto" for the fastest device that is there.
        dtype: What to compute in, e.g. torch.bfloat16 or "bfloat16"; None for float32.
        as_loss: Whether calls return a value to minimise, with gradients to the distorted images.

    Raises:
        UnknownMetricError: There is no such metric or checkpoint.
        WeightsError: The checkpoint is missing, damaged, cannot be fetched or does not fit.
        InputError: There is no such device or dtype, or the metric has no gradient to be a loss with.

    Warns:
        LiteCheckpointWarning: "default" gave a lite checkpoint. Ask for it by name to be rid of the warning.
    """
    spec, tag = split_name(name)
    if "/" in spec.name:
        return _finished(_make_baseline(spec, weights), device, dtype, as_loss)
    if tag is not None:
        if weights != "default":
            raise UnknownMetricError(f"{name!r} names a checkpoint and weights={weights!r} another; leave out one")
        weights = tag
    # What has no torch in it is checked first: a wrong tag or a missing file should not cost seconds.
    entry = _manifest_entry(spec.name, weights)
    if weights == "default" and entry is not None and entry.tag == LITE:
        warnings.warn(
            f"{spec.name}: this is the small checkpoint {spec.name}.{LITE}, not the model of the paper's size; ask for "
            f"{spec.name}.{LITE} by name to be rid of this warning",
            LiteCheckpointWarning,
            stacklevel=2,
        )
    content = None if weights is None else _read_weights(entry, weights)
    factory = _import_factory(spec)
    if content is None:
        metric = factory.untrained(spec)
    else:
        metric = _from_bytes(factory, spec, content, str(weights) if entry is None else entry.file)
    return _finished(metric, device, dtype, as_loss)


def _specs() -> dict[str, MetricSpec]:
    return {**_declared(METRIC_PACKAGES), **_registered}


@lru_cache(maxsize=4)
def _declared(packages: tuple[str, ...]) -> dict[str, MetricSpec]:
    specs: dict[str, MetricSpec] = {}
    for package in packages:
        for spec in importlib.import_module(package).SPECS:
            if spec.name in specs:
                raise ValueError(f"{package} declares the metric {spec.name!r}, which another package declares too")
            _check_name(spec.name)
            specs[spec.name] = spec
    return specs


def _check_name(name: str) -> None:
    # A dot begins the tag, and a name is part of file names.
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"{name!r} is no name for a metric; use lower-case words and digits joined by hyphens")


def _unknown(what: str, name: str, known: Iterable[str], where: str) -> str:
    known = sorted(known)
    hint = did_you_mean(name, known, end=" ")
    return f"unknown {what} {name!r}; {hint}known: {', '.join(known) or 'none'} (see {where})"


def _manifest_entry(metric: str, weights: str | os.PathLike[str] | None) -> CheckpointEntry | None:
    """Find the manifest entry that `weights` means; None where it means a file of the user's or nothing."""
    if weights is None or not isinstance(weights, str) or weights.endswith(".safetensors") or weights.startswith(HUB):
        return None
    if Path(weights).name != weights:
        raise WeightsError(f"{weights}: is neither a checkpoint's tag nor a .safetensors file; give one of these")
    return find_checkpoint(metric, None if weights == "default" else weights)


def _read_weights(entry: CheckpointEntry | None, weights: str | os.PathLike[str]) -> bytes:
    if entry is not None and entry.source == "bundled":
        return verified_bytes(entry.file, entry.sha256, WEIGHTS_FOLDER)
    if entry is not None:
        path = fetch_checkpoint(entry)
    elif str(weights).startswith(HUB):
        path = fetch(parse_reference(str(weights))).path
    else:
        path = Path(weights)
    read_metadata(path)  # refuses what is no checkpoint before the whole file is read
    return path.read_bytes()


def _metadata(entry: CheckpointEntry) -> dict[str, Any]:
    if entry.source == "bundled":
        return read_metadata(WEIGHTS_FOLDER / entry.file)
    return {
        "config": entry.config,
        "training": {"data": entry.training_data},
        "licence": entry.licence,
        "results": entry.results,
    }


def _import_factory(spec: MetricSpec) -> "type[Metric]":
    module, _, name = spec.factory.partition(":")
    return getattr(importlib.import_module(module), name)


def _from_bytes(factory: "type[Metric]", spec: MetricSpec, content: bytes, source: str) -> "Metric":
    from iqametrics.weights.checkpoint import parse_checkpoint

    metadata, tensors = parse_checkpoint(content, source=source, folder=WEIGHTS_FOLDER)
    if metadata["metric"] != spec.name:
        raise WeightsError(
            f"{source}: is a checkpoint of {metadata['metric']}, not of {spec.name}; ask for that metric"
        )
    return factory.from_checkpoint(spec, metadata, tensors, metadata["tag"])


def _baselines() -> ModuleType:
    # By text: the adapters stand above this module.
    return importlib.import_module("iqametrics.baselines")


def _make_baseline(spec: MetricSpec, weights: str | os.PathLike[str] | None) -> "Metric":
    if weights != "default":
        package = spec.name.partition("/")[0]
        raise WeightsError(f"{spec.name} has the weights that {package} gives it; leave out weights={str(weights)!r}")
    metric: Metric = _import_factory(spec).from_package(spec)  # type: ignore[attr-defined]
    return metric


def _finished(
    metric: "Metric", device: "str | torch.device | None", dtype: "str | torch.dtype | None", as_loss: bool
) -> "Metric":
    _place(metric, device, dtype)
    if as_loss and not metric.differentiable:
        raise InputError(f"{metric.name} has no useful gradient, so it cannot be a loss; leave out as_loss")
    metric.as_loss = as_loss
    return metric


def _place(metric: "Metric", device: "str | torch.device | None", dtype: "str | torch.dtype | None") -> None:
    """Move a metric to a device and dtype, in words of ours where that cannot be."""
    import torch

    wanted = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if dtype is not None and not (isinstance(wanted, torch.dtype) and wanted.is_floating_point):
        raise InputError(f"dtype {dtype!r} is not one to compute in; use float32, bfloat16 or float16")
    found = None if device is None else find_device(device, error=InputError)
    try:
        metric.to(device=found, dtype=wanted)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        # Too little memory, or a type that the device has not.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"device {str(device)!r} cannot be used here ({reason}); use 'cpu' or 'auto'") from error
