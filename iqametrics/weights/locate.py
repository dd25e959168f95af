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
    """Read what follows the equals sign of a name: a reference to the Hub, or a path.

    Args:
        weights: The text.
        whole: Whether to make a path absolute, for a record that is read elsewhere.
    """
    if weights.startswith(HUB):
        return weights
    # A shell leaves "~" alone after an equals sign.
    path = Path.home() / weights[2:] if weights.startswith("~/") else Path(weights)
    return path.resolve() if whole else path


def open_source(metric: str, source: Source, folder: Path) -> tuple[str, Path | bytes]:
    """Fetch a checkpoint if that is needed, and check its header.

    Args:
        metric: Registered name of the metric that the checkpoint must be of.
        source: Where it is.
        folder: Folder of the manifest and the bundled files.

    Returns:
        Its name for messages; and its path, or its bytes where they were verified by a digest.

    Raises:
        WeightsError: If it is missing, damaged, cannot be fetched, or is of another metric.
    """
    if isinstance(source, CheckpointEntry):
        if source.source == "bundled":
            return source.file, verified_bytes(source.file, source.sha256, folder)
        return source.file, fetch_checkpoint(source)
    path = source if isinstance(source, Path) else fetch(parse_reference(source)).path
    check_metric(metric, read_metadata(path), str(source))
    return str(source), path


def read_entry(entry: CheckpointEntry, folder: Path) -> dict[str, Any]:
    """Read a manifest checkpoint's metadata: from its file, or from the manifest if it is on the Hub."""
    if entry.source == "bundled":
        return read_metadata(folder / entry.file)
    return {
        "config": entry.config,
        "training": {"data": entry.training_data},
        "licence": entry.licence,
        "results": entry.results,
    }


def read_own(named: MetricName) -> tuple[Path, dict[str, Any]] | None:
    """Read the metadata of a file that a name gives; None for one on the Hub that has not been fetched.

    Raises:
        WeightsError: If it is missing, damaged, no checkpoint, or of another metric.
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
    """Describe a file that a name gives as a manifest entry, by its metadata.

    Raises:
        WeightsError: If `read_own` refuses it, or it is on the Hub and has not been fetched.
    """
    assert named.weights is not None
    found = read_own(named)
    if found is None:
        raise WeightsError(
            f"{named.weights}: has not been fetched, and nothing is fetched to describe it; `iqametrics weights fetch "
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
        WeightsError: If it is of another metric.
    """
    if metadata["metric"] != metric:
        raise WeightsError(f"{source}: is a checkpoint of {metadata['metric']}, not of {metric}; ask for that metric")
