"""Names of metrics and checkpoints, and what can be known or made from a name.

Nothing here imports torch until `create_metric` is called: a method's package declares its metrics (`methods.py`), and
its code is imported when a metric is first made.
"""

import importlib
import os
import re
import warnings
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from iqametrics.common.devices import find_device
from iqametrics.common.digest import file_sha256
from iqametrics.common.suggest import did_you_mean
from iqametrics.errors import InputError, UnknownMetricError, WeightsError
from iqametrics.fingerprint import Fingerprint, make_fingerprint
from iqametrics.methods import metric_specs, named_class, register_method, unregister_metric
from iqametrics.naming import HUB, SUFFIX, MetricName, parse_name
from iqametrics.spec import VIEWS, Method, MetricSpec, Mode, View
from iqametrics.weights.facts import CheckpointFacts, find_facts
from iqametrics.weights.hub import parse_reference
from iqametrics.weights.locate import Source, check_metric, open_source, own_entry, read_entry, read_own, source_of
from iqametrics.weights.manifest import WEIGHTS_FOLDER, CheckpointEntry, read_manifest
from iqametrics.weights.meaning import ScoreMeaning, find_meaning

if TYPE_CHECKING:
    import torch

    from iqametrics.metric import Metric

__all__ = [
    "BareNameWarning",
    "LiteCheckpointWarning",
    "MetricInfo",
    "checkpoint_tags",
    "create_metric",
    "find_checkpoint",
    "list_metrics",
    "metric_info",
    "metric_spec",
    "register_metric",
    "unregister_metric",
]

LITE = "lite"
"""Beginning of the tags of the small checkpoints, of each edition."""


class LiteCheckpointWarning(UserWarning):
    """The default checkpoint that was loaded is the lite one, not the model of the paper's size."""


class BareNameWarning(UserWarning):
    """A metric of another package was asked for without the package's name."""


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
        checkpoint: Manifest entry of the checkpoint (file, bytes, sha256, ...), or the like of one where a file was
            named (its source is "file", or "hub"); None where there is none.
        metadata: What the checkpoint says of itself (config, sizing, training, licence, results, sources); for one on
            the Hub, what the manifest says of it (config, training, licence, results): nothing is fetched for this.
        facts: What else was measured of the checkpoint, each with its source; None where nothing was.
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
    facts: CheckpointFacts | None = None

    @property
    def full_name(self) -> str:
        """Name with the checkpoint's tag, e.g. "pfd-iqa.lite"; without a checkpoint the name alone."""
        return self.name if self.tag is None else f"{self.name}.{self.tag}"

    @property
    def meaning(self) -> ScoreMeaning | None:
        """What the checkpoint's scores mean, by pictures that people have scored; None where nobody has measured it."""
        return None if self.checkpoint is None else find_meaning(self.checkpoint.sha256, WEIGHTS_FOLDER)

    @property
    def fingerprint(self) -> Fingerprint:
        """What its scores in float32 are made with; the same as that of the metric, where the sizing is known."""
        sizing = self.metadata.get("sizing")
        return make_fingerprint(
            self.name,
            tag=self.tag,
            weights=self.checkpoint.sha256 if self.checkpoint else None,
            preprocessing=sizing if isinstance(sizing, dict) else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, ready for JSON."""
        return {"full_name": self.full_name, "fingerprint": str(self.fingerprint), **asdict(self)}


def register_metric(metric: MetricSpec | Method) -> None:
    """Add a metric of your own, in this process; an installed package declares it for all (docs/extending.md).

    Args:
        metric: The constants of the metric, whose `factory` names a subclass of `iqametrics.metric.Metric`; or a whole
            method with its metrics, objectives, recipes and table rows, so that it can be trained and benchmarked too.

    Raises:
        ValueError: If a name is taken, or has a dot, a slash or a space in it.
    """
    register_method(Method(metrics=(metric,)) if isinstance(metric, MetricSpec) else metric)


def list_metrics(mode: Mode | None = None, *, baselines: bool = False) -> list[str]:
    """List the names of the metrics, sorted.

    Args:
        mode: "fr" or "nr" for those alone.
        baselines: Whether to add, at the end, those of piq and pyiqa ("piq/fsim"), as far as these are installed.

    Raises:
        UnknownMetricError: If there is no such mode.

    Examples:
        >>> [name for name in list_metrics("fr") if name.startswith("bpclip")]
        ['bpclip-fr']
    """
    if mode not in (None, "fr", "nr"):
        raise UnknownMetricError(f"unknown mode {mode!r}; use 'fr', 'nr' or None")
    names = sorted(name for name, spec in metric_specs().items() if mode in (None, spec.mode))
    return [*names, *_baselines().list_baselines(mode)] if baselines else names


def metric_spec(name: str) -> MetricSpec:
    """Return the constants of a metric.

    Args:
        name: Its name, with or without a tag or file.

    Raises:
        UnknownMetricError: If there is no such metric or checkpoint.
    """
    return find_metric(name)[0]


def find_metric(name: str) -> tuple[MetricSpec, MetricName]:
    """Read a metric's name, with or without tag or file, and look up the metric and the tag; no file is looked at.

    A name that is none of ours and that piq or pyiqa has means their metric: "ssim" is "piq/ssim".

    Raises:
        UnknownMetricError: If there is no such metric, or it has no such checkpoint.
        MissingExtraError: If it is a metric of a package that is not installed.
        WeightsError: If it takes no weights, or the reference to the Hub is not of the right form.
    """
    named, specs = parse_name(name), metric_specs()
    if "/" not in named.metric and named.metric not in specs and named.tag is None:
        named = replace(named, metric=_baselines().full_name_of(named.metric) or named.metric)
    if "/" in named.metric:
        spec = _baselines().resolve(named.metric)
        _refuse_weights(spec, named.weights)
        return spec, named
    if named.metric not in specs:
        raise UnknownMetricError(_unknown("metric", named.metric, specs, "list_metrics()"))
    if named.weights is not None:
        _check_weights(named, named.weights)
    elif named.tag is not None:
        find_checkpoint(named.metric, named.tag)
    return specs[named.metric], named


def check_name(name: str) -> None:
    """Refuse in milliseconds what `create_metric` would refuse, as far as a name, a tag or a file's header show it.

    Raises:
        UnknownMetricError: If there is no such metric, or it has no such checkpoint.
        MissingExtraError: If it is a metric of a package that is not installed.
        WeightsError: If the file is missing, damaged, no checkpoint, or that of another metric.
    """
    named = find_metric(name)[1]
    if named.weights is not None:
        read_own(named)


def bare_name_note(name: str) -> str | None:
    """Say which metric a name without its package was taken for; None where it is a name of ours, or has its package.

    Raises:
        UnknownMetricError: If there is no such metric or checkpoint.
    """
    spec = find_metric(name)[0]
    if "/" not in spec.name or "/" in parse_name(name).metric:
        return None
    package, _, after = spec.name.partition("/")
    others = [full for full in _baselines().list_baselines() if full.endswith(f"/{after}") and full != spec.name]
    other = f"; {others[0]} is another implementation" if others else ""
    return f"{name} is taken as {spec.name}, the metric of {package}; ask for {spec.name} to be rid of this note{other}"


def checkpoint_tags(metric: str) -> list[str]:
    """List the names of a metric's checkpoints, the default one first."""
    return [entry.tag for entry in read_manifest(WEIGHTS_FOLDER).of_metric(metric)]


def find_checkpoint(metric: str, tag: str | None = None) -> CheckpointEntry:
    """Find a checkpoint of a metric in the manifest.

    Args:
        metric: Registered name.
        tag: Name of the checkpoint; None for the default one.

    Raises:
        WeightsError: If there is no default checkpoint.
        UnknownMetricError: If there is no checkpoint of that name.
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
        name: Its name, with a tag or a file for a checkpoint other than the default one, as for `create_metric`.

    Raises:
        UnknownMetricError: If there is no such metric or checkpoint.
        WeightsError: If the checkpoint's file is missing or damaged, or on the Hub and not fetched.
    """
    spec, named = find_metric(name)
    entries = read_manifest(WEIGHTS_FOLDER).of_metric(spec.name)
    entry: CheckpointEntry | None
    metadata: dict[str, Any] = {}
    if named.weights is not None:
        entry, metadata = own_entry(named)
    elif entry := next((e for e in entries if (e.default if named.tag is None else e.tag == named.tag)), None):
        metadata = read_entry(entry, WEIGHTS_FOLDER)
    constants = {key: value for key, value in asdict(spec).items() if key not in ("factory", "bibtex")}
    return MetricInfo(
        **constants,
        tag=entry.tag if entry else None,
        tags=tuple(e.tag for e in entries),
        checkpoint=entry,
        metadata=metadata,
        facts=find_facts(entry.sha256, WEIGHTS_FOLDER) if entry else None,
    )


def _usable_afterwards() -> AbstractContextManager[Any]:
    """Leave torch.inference_mode, whose tensors could never have a gradient flow through them."""
    import torch

    return torch.inference_mode(False)


def create_metric(
    name: str,
    *,
    weights: str | os.PathLike[str] | None = "default",
    device: "str | torch.device | None" = None,
    dtype: "str | torch.dtype | None" = None,
    as_loss: bool = False,
    view: View = "fit",
) -> "Metric":
    """Make a metric, ready to score.

    Args:
        name: "bpclip-fr", "bpclip-nr", "pfd-iqa" (see `list_metrics`), with or without a checkpoint: its tag
            ("pfd-iqa.lite"), a file ("pfd-iqa=mine.safetensors") or one on the Hub ("pfd-iqa=hub:ORG/NAME@REVISION");
            or a metric of piq or pyiqa: "piq/fsim", or "fsim" with a warning that says which was taken. In
            "pfd-iqa.mine=FILE" the tag is what the file shall be called.
        weights: "default", the tag of a checkpoint ("lite"), the path of a .safetensors file, a published checkpoint as
            "hub:ORG/NAME@REVISION" with the 40 digits of a commit (and ":FILE" where the file is not
            "model.safetensors"), or None for the architecture of the paper's size with random weights (tag
            "untrained"). What is on the Hub is fetched unless it is cached.
        device: Where to compute; None for the CPU, "auto" for the fastest device that is there.
        dtype: What to compute in, e.g. torch.bfloat16 or "bfloat16"; None for float32.
        as_loss: Whether calls return a value to minimise, with gradients to the distorted images: the distance of the
            score from its better end, or, for the lite checkpoints of bpclip-fr, of features. The no-reference ones
            lead away from the original if they are minimised alone; docs/lite-models.md has figures.
        view: "fit" looks at the whole image, as the checkpoint was trained; a large one is shrunk first. "native" looks
            at tiles of 512x512 pixels at full size and gives their weighted mean (docs/images.md says what for).

    Raises:
        UnknownMetricError: If there is no such metric or checkpoint.
        WeightsError: If the checkpoint is missing, damaged, cannot be fetched or does not fit.
        InputError: If there is no such device or dtype, or the metric has no gradient to be a loss with.

    Warns:
        LiteCheckpointWarning: "default" gave a lite checkpoint. Ask for it by name to be rid of the warning.
        BareNameWarning: The name has no package and is piq's or pyiqa's. Ask for "piq/..." to be rid of the warning.
    """
    if view not in VIEWS:
        raise InputError(f"view = {view!r} is not known; choose one of {', '.join(VIEWS)}")
    spec, named = find_metric(name)
    if (note := bare_name_note(name)) is not None:
        warnings.warn(note, BareNameWarning, stacklevel=2)
    if weights != "default" and (named.tag is not None or named.weights is not None):
        raise UnknownMetricError(f"{name!r} names a checkpoint and weights={weights!r} another; leave out one")
    if "/" in spec.name:
        if view != "fit":
            raise InputError(f"{spec.name} looks at images at their own size already; leave out view={view!r}")
        with _usable_afterwards():
            return _finished(_make_baseline(spec, weights), device, dtype, as_loss)
    source = _chosen(spec, named, weights)
    bare = weights == "default" and named.tag is None
    if bare and isinstance(source, CheckpointEntry) and source.tag.startswith(LITE):
        name = f"{spec.name}.{source.tag}"
        warnings.warn(
            f"{spec.name}: this is the small checkpoint {name}, not the model of the paper's size; ask for {name} by "
            "name to be rid of this warning",
            LiteCheckpointWarning,
            stacklevel=2,
        )
    # What has no torch in it is checked first: a wrong tag or a missing file should not cost seconds.
    content = None if source is None else open_source(spec.name, source, WEIGHTS_FOLDER)
    factory: type[Metric] = named_class(spec.factory)
    with _usable_afterwards():
        metric = factory.untrained(spec) if content is None else _from_content(factory, spec, content, named.tag)
    if source is not None and content is not None:
        metric.weights_sha256 = _digest(source, content[1])
    metric.look(view)
    with _usable_afterwards():
        return _finished(metric, device, dtype, as_loss)


def _unknown(what: str, name: str, known: Iterable[str], where: str) -> str:
    known = sorted(known)
    hint = did_you_mean(name, known, end=" ")
    return f"unknown {what} {name!r}; {hint}known: {', '.join(known) or 'none'} (see {where})"


def _chosen(spec: MetricSpec, named: MetricName, weights: str | os.PathLike[str] | None) -> Source | None:
    """Find what the name and `weights` mean: a manifest entry, a reference to the Hub, a file, or no weights."""
    if named.weights is not None:
        return source_of(named.weights)
    if weights is None or (isinstance(weights, str) and weights.startswith(HUB)):
        return weights
    if not isinstance(weights, str) or weights.endswith(SUFFIX):
        return Path(weights)
    if Path(weights).name != weights:
        raise WeightsError(f"{weights}: is neither a checkpoint's tag nor a {SUFFIX} file; give one of these")
    return find_checkpoint(spec.name, named.tag if weights == "default" else weights)


def _check_weights(named: MetricName, weights: str) -> None:
    """Check how weights are written, and that they are not called what a checkpoint of the manifest is called."""
    tags = checkpoint_tags(named.metric)
    if weights.startswith(HUB):
        parse_reference(weights)
    elif weights in tags and not Path(weights).exists():
        raise WeightsError(f"{weights}: is no file; for the checkpoint of that name write {named.metric}.{weights}")
    if named.tag in tags:
        raise UnknownMetricError(
            f"{named.metric}.{named.tag} is a checkpoint of its own; call {weights} by another tag, or leave it out"
        )
    if named.tag is not None and not re.fullmatch(r"[\w.+-]{1,100}", named.tag):
        raise UnknownMetricError(f"{named.tag!r} is no tag; use letters, digits, dots, hyphens and underscores")


def _from_content(
    factory: "type[Metric]", spec: MetricSpec, content: tuple[str, Path | bytes], label: str | None
) -> "Metric":
    from iqametrics.weights.checkpoint import load_checkpoint, parse_checkpoint

    source, stored = content
    if isinstance(stored, Path):
        metadata, tensors = load_checkpoint(stored, folder=WEIGHTS_FOLDER)
    else:
        metadata, tensors = parse_checkpoint(stored, source=source, folder=WEIGHTS_FOLDER)
    check_metric(spec.name, metadata, source)
    return factory.from_checkpoint(spec, metadata, tensors, label or metadata["tag"])


def _digest(source: Source, stored: Path | bytes) -> str:
    """Return the SHA-256 of a checkpoint's file; that of one in the manifest was verified when it was opened."""
    if isinstance(source, CheckpointEntry) or isinstance(stored, bytes):
        assert isinstance(source, CheckpointEntry)
        return source.sha256
    return file_sha256(stored, error=WeightsError)


def _baselines() -> ModuleType:
    # By text: the adapters stand above this module.
    return importlib.import_module("iqametrics.baselines")


def _make_baseline(spec: MetricSpec, weights: str | os.PathLike[str] | None) -> "Metric":
    if weights != "default":
        _refuse_weights(spec, str(weights))
    metric: Metric = named_class(spec.factory).from_package(spec)
    return metric


def _refuse_weights(spec: MetricSpec, weights: str | None) -> None:
    if weights is not None:
        package = spec.name.partition("/")[0]
        raise WeightsError(f"{spec.name} has the weights that {package} gives it; leave out {weights!r}")


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
