"""Where a checkpoint is: bundled with the package, a file of the user's, or on the Hub. No torch."""

from pathlib import Path
from typing import Any

from iqametrics.common.digest import file_sha256
from iqametrics.errors import WeightsError
from iqametrics.naming import HUB, MetricName
from iqametrics.weights.hub import cached_path, fetch, fetch_checkpoint, parse_reference
from iqametrics.weights.manifest import CheckpointEntry, verified_bytes
from iqametrics.weights.untrusted import read_metadata

Source = CheckpointEntry | Path | str
"""An entry of the manifest, a file, or a reference to the Hub."""


def source_of(weights: str, *, whole: bool = False) -> Path | str:
    """Tell a reference to the Hub from a path; what follows an equals sign is one of the two.

    Args:
        weights: What was given.
        whole: Whether to make a path absolute, for a record that is read elsewhere.
    """
    if weights.startswith(HUB):
        return weights
    # A shell leaves "~" alone after an equals sign.
    path = Path.home() / weights[2:] if weights.startswith("~/") else Path(weights)
    return path.resolve() if whole else path


def open_source(metric: str, source: Source, folder: Path) -> tuple[str, Path | bytes]:
    """Fetch a checkpoint where that is needed, and check its header.

    Args:
        metric: Registered name of the metric that it must be of.
        source: Where it is.
        folder: Of the manifest and the bundled files.

    Returns:
        What to call it in messages; and its file, or its bytes where they are those of a digest.

    Raises:
        WeightsError: It is missing, damaged, cannot be fetched, or is of another metric.
    """
    if isinstance(source, CheckpointEntry):
        if source.source == "bundled":
            return source.file, verified_bytes(source.file, source.sha256, folder)
        return source.file, fetch_checkpoint(source)
    path = source if isinstance(source, Path) else fetch(parse_reference(source)).path
    check_metric(metric, read_metadata(path), str(source))
    return str(source), path


def read_entry(entry: CheckpointEntry, folder: Path) -> dict[str, Any]:
    """Read what a checkpoint of the manifest says of itself; of one on the Hub, what the manifest says of it."""
    if entry.source == "bundled":
        return read_metadata(folder / entry.file)
    return {
        "config": entry.config,
        "training": {"data": entry.training_data},
        "licence": entry.licence,
        "results": entry.results,
    }


def read_own(named: MetricName) -> tuple[Path, dict[str, Any]] | None:
    """Read what a file that a name gives says of itself; None for one on the Hub that has not been fetched.

    Raises:
        WeightsError: It is missing, damaged, no checkpoint, or of another metric.
    """
    assert named.weights is not None
    source = source_of(named.weights)
    path = source if isinstance(source, Path) else cached_path(parse_reference(source))
    if path is None:
        return None
    metadata = read_metadata(path)
    check_metric(named.metric, metadata, named.weights)
    return path, metadata


def own_entry(named: MetricName) -> tuple[CheckpointEntry, dict[str, Any]]:
    """Describe a file that a name gives as the manifest would, by what it says of itself.

    Raises:
        WeightsError: As for `read_own`; or it is on the Hub and has not been fetched.
    """
    assert named.weights is not None
    found = read_own(named)
    if found is None:
        raise WeightsError(
            f"{named.weights}: has not been fetched, and nothing is fetched to tell of it; `iqametrics weights fetch "
            f"{named.weights}` does"
        )
    path, metadata = found
    on_hub = parse_reference(named.weights) if named.weights.startswith(HUB) else None
    entry = CheckpointEntry(
        metric=named.metric,
        tag=named.tag or metadata["tag"],
        default=False,
        source="file" if on_hub is None else "hub",
        file=named.weights if on_hub is None else on_hub.file,
        sha256=file_sha256(path, error=WeightsError),
        bytes=path.stat().st_size,
        licence=metadata.get("licence", "not stated"),
        repo=None if on_hub is None else on_hub.repo,
        revision=None if on_hub is None else on_hub.revision,
    )
    return entry, metadata


def check_metric(metric: str, metadata: dict[str, Any], source: str) -> None:
    """Refuse a checkpoint of another metric.

    Raises:
        WeightsError: It is of another one.
    """
    if metadata["metric"] != metric:
        raise WeightsError(f"{source}: is a checkpoint of {metadata['metric']}, not of {metric}; ask for that metric")
