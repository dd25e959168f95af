"""Where the datasets of a benchmark are: a small TOML file that the user writes; no torch.

    [datasets.kadid10k]
    root = "/data/kadid10k"

    [datasets.mini]              # any name; `layout` names the dataset whose release the folder is laid out like
    layout = "kadid10k"
    root = "mini-kadid"
    labels = "made"              # not opinions of these images; default: "made" for what synthesize made, else "human"

    [datasets.holiday]           # a CSV of one's own
    csv = "holiday/scores.csv"
    mos_range = [1, 5]
    images = "heldout.txt"       # only these images, or all images of these references: a name a line, # comments

Relative paths start from the file's own folder.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iqametrics.common.files import read_text
from iqametrics.datasets.labelled import LABELS, LabelledImages
from iqametrics.errors import DataError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_KEYS = ("csv", "images", "labels", "layout", "mos_range", "root")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def read_sources(path: Path) -> dict[str, LabelledImages]:
    """Read a file that says where the datasets are.

    Raises:
        DataError: If it cannot be read, or has an unknown key or an impossible value.
    """
    try:
        tables = tomllib.loads(read_text(path, error=DataError))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: is not a readable TOML file ({error}); see iqametrics benchmark run --help"
        ) from error
    datasets = tables.get("datasets")
    if not isinstance(datasets, dict) or set(tables) != {"datasets"}:
        raise DataError(f"{path}: should hold tables [datasets.NAME] and nothing else")
    return {name: _source(name, values, path) for name, values in datasets.items()}


def _source(name: str, values: Any, path: Path) -> LabelledImages:
    where = f"{path}: [datasets.{name}]"
    if not _NAME.fullmatch(name):
        raise DataError(
            f"{where}: names of datasets are of letters, digits, dots, - and _, and become names of folders"
        )
    if not isinstance(values, Mapping):
        raise DataError(f"{where} should be a table with root = or csv =")
    if unknown := sorted(set(values) - set(_KEYS)):
        raise DataError(f"{where} has unknown keys: {', '.join(unknown)}; known are {', '.join(_KEYS)}")
    texts = {key: value for key, value in values.items() if key != "mos_range"}
    if wrong := [key for key, value in texts.items() if not isinstance(value, str)]:
        raise DataError(f"{where} {wrong[0]} = {texts[wrong[0]]!r} should be a string")
    if not values.get("csv") and not values.get("root"):
        raise DataError(f"{where} has neither root nor csv; give one of them")
    if values.get("csv") and values.get("layout"):
        raise DataError(f"{where} has csv and layout; leave out one of them")
    if values.get("labels", LABELS[0]) not in LABELS:
        raise DataError(f"{where} labels = {values['labels']!r}; choose one of {', '.join(LABELS)}")
    located = {
        key: str((path.resolve().parent / Path(texts[key]).expanduser()).resolve())
        for key in ("root", "csv", "images")
        if texts.get(key)
    }
    layout = "" if values.get("csv") else values.get("layout", name)
    if layout:
        from iqametrics.datasets.catalogue import dataset_spec

        dataset_spec(layout)  # refuses an unknown name now, and not when its first job begins
    texts = {key: value for key, value in texts.items() if key != "layout"} | located
    return LabelledImages(**texts, dataset=layout, mos_range=_span(values.get("mos_range"), where))


def _span(value: Any, where: str) -> tuple[float, float] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2 or not all(type(item) in (int, float) for item in value):
        raise DataError(f"{where} mos_range = {value!r}; give [worst, best]")
    return float(value[0]), float(value[1])


def benchmark_labels(images: LabelledImages) -> str:
    """Return the kind of labels for a report; a CSV that is listed without `labels` counts as scored by people."""
    return images.label_kind or LABELS[0]
