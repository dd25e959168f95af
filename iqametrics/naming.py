"""What a metric is called everywhere: "NAME", "NAME.TAG", "NAME=FILE" or "NAME=hub:ORG/NAME@REVISION"."""

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from iqametrics.errors import UnknownMetricError

HUB = "hub:"
"""Beginning of weights that are a file on the Hub."""

SUFFIX = ".safetensors"

CUSTOM = "custom"
"""Tag of a trained checkpoint for which no name can be found."""

# Names of the package's checkpoints, and words with a meaning of their own.
_RESERVED = ("lite", "lite2", "default", "untrained")
# Folders that a run makes in its own folder, or in that of several runs.
_PARTS = re.compile(r"split-\d+|teacher|train")
_LONGEST_TAG = 64


@dataclass(frozen=True)
class MetricName:
    """A metric's name in its parts, none of them looked up yet.

    Attributes:
        metric: Registered name, or "package/metric".
        tag: Name of a checkpoint, or with `weights` the name to give them; None where there is none.
        weights: Path of a checkpoint file, or a reference to the Hub; None where there is none.
    """

    metric: str
    tag: str | None = None
    weights: str | None = None


def parse_name(text: str) -> MetricName:
    r"""Read a metric's name.

    No metric's name has an equals sign, so all that follows the first one is the file, even further equals signs.

    Args:
        text: "NAME[.TAG][=FILE]" or "NAME[.TAG][=hub:ORG/NAME@REVISION[:FILE]]".

    Raises:
        UnknownMetricError: If the text is not of that form.

    Examples:
        >>> parse_name("pfd-iqa.lite")
        MetricName(metric='pfd-iqa', tag='lite', weights=None)
        >>> parse_name(r"bpclip-nr=C:\runs\lr=0.1\best.v2.safetensors").weights
        'C:\\runs\\lr=0.1\\best.v2.safetensors'
    """
    name, equals, weights = str(text).partition("=")
    if equals and not weights:
        raise UnknownMetricError(f"{text!r} has nothing after the equals sign; name a {SUFFIX} file or leave it out")
    if not equals and (name.endswith(SUFFIX) or name.startswith(HUB)):
        raise UnknownMetricError(f"{text!r} names a checkpoint but no metric; write METRIC={text}")
    if "/" in name:
        return MetricName(name, None, weights or None)
    metric, dot, tag = name.partition(".")
    if dot and not tag:
        raise UnknownMetricError(f"{name!r} has a dot but no checkpoint after it; leave out the dot")
    return MetricName(metric, tag or None, weights or None)


def run_tag(folder: Path, metric: str) -> str:
    """Name a trained checkpoint after the folder of its run.

    Args:
        folder: Folder of the run.
        metric: Registered name; a folder called "METRIC-rest" gives "rest".

    Returns:
        Letters, digits, hyphens and underscores of ASCII, 64 at most; "custom" where the folder's name has none, or is
        that of the metric.

    Examples:
        >>> run_tag(Path("runs/bpclip-nr-blur 2"), "bpclip-nr"), run_tag(Path("runs/bpclip-nr"), "bpclip-nr")
        ('blur-2', 'custom')
        >>> run_tag(Path("runs/mine/split-03"), "bpclip-nr"), run_tag(Path("runs/lite"), "bpclip-nr")
        ('mine-split-03', 'run-lite')
    """
    folder = folder.resolve()
    words = [folder.name]
    while _PARTS.fullmatch(folder.name) and folder.parent != folder:
        folder = folder.parent
        words.insert(0, folder.name)
    text = unicodedata.normalize("NFKD", "-".join(words)).encode("ascii", "ignore").decode()
    tag = re.sub(r"[^A-Za-z0-9_-]+", "-", text).removeprefix(metric).strip("-_")[:_LONGEST_TAG]
    return f"run-{tag}" if tag.lower() in _RESERVED else tag or CUSTOM
