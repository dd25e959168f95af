"""What a score was made with, as a record and as one short text that can be cited; no torch.

    bpclip-nr.lite:0.1.0:5f0c7e1a92b4

is metric and checkpoint, version of this package, and the first digits of the SHA-256 of the record. Equal texts mean
equal weights, preprocessing and versions. What is not in it moves a score by rounding only: device, batch and threads.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_DIGITS = 12


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What a score was made with.

    Attributes:
        metric: Registered name of the metric.
        tag: Name of the checkpoint; None where the metric has none, as those of other packages.
        weights: SHA-256 of the checkpoint's file; None where it is not known.
        package: Package that computes the score, "iqametrics" or that of a baseline.
        version: Its version.
        preprocessing: How pictures are brought to size (see `iqametrics.images.Sizing`); None where it is not known.
        dtype: What was computed in.
    """

    metric: str
    tag: str | None
    weights: str | None
    package: str
    version: str
    preprocessing: Mapping[str, Any] | None
    dtype: str = "float32"

    def to_dict(self) -> dict[str, Any]:
        """Return the record by name, ready for JSON, the short text first."""
        return {"fingerprint": str(self), **asdict(self)}

    @cached_property
    def _text(self) -> str:
        record = json.dumps(asdict(self), sort_keys=True, allow_nan=False)
        digest = hashlib.sha256(record.encode()).hexdigest()[:_DIGITS]
        name = self.metric if self.tag is None else f"{self.metric}.{self.tag}"
        return f"{name}:{self.version}:{digest}"

    def __str__(self) -> str:
        return self._text


def make_fingerprint(
    metric: str,
    *,
    tag: str | None,
    weights: str | None,
    preprocessing: Mapping[str, Any] | None,
    dtype: str = "float32",
) -> Fingerprint:
    """Make the fingerprint of a metric, with the version of the package that computes it.

    Args:
        metric: Registered name; "piq/fsim" is computed by piq.
        tag: Name of the checkpoint.
        weights: SHA-256 of its file.
        preprocessing: How pictures are brought to size.
        dtype: What is computed in.
    """
    package = metric.partition("/")[0] if "/" in metric else "iqametrics"
    return Fingerprint(
        metric=metric,
        tag=tag or None,
        weights=weights,
        package=package,
        version=_version(package),
        preprocessing=preprocessing,
        dtype=dtype,
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
