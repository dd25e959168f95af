"""Where the datasets of a benchmark are: a small TOML file that the user writes; no torch.

    [datasets.kadid10k]
    root = "/data/kadid10k"

    [datasets.mini]              # any name; `layout` says which dataset's release the folder is laid out like
    layout = "kadid10k"
    root = "mini-kadid"
    labels = "made"              # not opinions of these images; left out: "made" for what synthesize made, else "human"

    [datasets.holiday]           # a CSV of one's own
    csv = "holiday/scores.csv"
    mos_range = [1, 5]
    images = "heldout.txt"       # only these images, or all images of these references: a name a line, # comments

Relative paths start from the file's own folder.
"""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqametrics.errors import DataError

if TYPE_CHECKING:
    from iqametrics.datasets.sample import Sample

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LABELS = ("human", "made")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One dataset as it lies on this machine.

    Attributes:
        name: how the benchmark calls it.
        root: its folder; "" with a CSV means the CSV's own.
        layout: name of the dataset whose release it is laid out like, "" for a CSV.
        csv: file of a CSV dataset, "" otherwise.
        mos_range: (worst, best) of a CSV's scores; none takes them as they are, in [0, 1].
        labels: "human" for human opinion, "made" for labels made by other means, "" for what `label_kind` finds.
        images: file with the names of the images, or references, to keep, one a line; "" for all.
    """

    name: str
    root: str = ""
    layout: str = ""
    csv: str = ""
    mos_range: tuple[float, float] | None = None
    labels: str = ""
    images: str = ""

    @property
    def label_kind(self) -> str:
        """Whether the labels are human opinion: "human" or "made"."""
        from iqametrics.datasets.catalogue import made_labels

        root = self.root or str(Path(self.csv).parent)
        return self.labels or ("made" if made_labels(root) else "human")

    @property
    def no_references(self) -> bool:
        """Whether it is known, before it is read, that no image has a reference."""
        from iqametrics.datasets.catalogue import dataset_spec

        return bool(self.layout) and dataset_spec(self.layout).mode == "nr"

    def load(self) -> "list[Sample]":
        """Read the samples.

        Raises:
            DataError: the dataset is missing or wrong, or has none of the listed images.
        """
        if self.csv:
            from iqametrics.datasets.csv_dataset import read_csv_dataset

            samples = read_csv_dataset(Path(self.csv), Path(self.root) if self.root else None, mos_range=self.mos_range)
        else:
            from iqametrics.datasets.catalogue import load_dataset

            samples = load_dataset(self.layout, Path(self.root))
        return _kept(samples, Path(self.images)) if self.images else samples

    def overrides(self) -> tuple[str, ...]:
        """Give the dataset as `table.key=value` changes of a training recipe."""
        given: dict[str, Any] = {"csv": self.csv, "dataset": self.layout, "root": self.root}
        texts = [f"data.{key}={_toml(value)}" for key, value in given.items() if value]
        if self.mos_range:
            texts.append(f"data.mos_range=[{self.mos_range[0]}, {self.mos_range[1]}]")
        return tuple(texts)


def read_sources(path: Path) -> dict[str, Source]:
    """Read a file that says where the datasets are.

    Raises:
        DataError: it cannot be read, or says something unknown or impossible.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(
            f"{path}: is not a readable TOML file ({error}); see iqametrics benchmark run --help"
        ) from error
    datasets = tables.get("datasets")
    if not isinstance(datasets, dict) or set(tables) != {"datasets"}:
        raise DataError(f"{path}: should hold tables [datasets.NAME] and nothing else")
    return {name: _source(name, values, path) for name, values in datasets.items()}


def _source(name: str, values: Any, path: Path) -> Source:
    where = f"{path}: [datasets.{name}]"
    if not _NAME.fullmatch(name):
        raise DataError(
            f"{where}: names of datasets are of letters, digits, dots, - and _, and become names of folders"
        )
    if not isinstance(values, Mapping):
        raise DataError(f"{where} should be a table with root = or csv =")
    known = {field.name for field in fields(Source)} - {"name"}
    if unknown := sorted(set(values) - known):
        raise DataError(f"{where} has unknown keys: {', '.join(unknown)}; known are {', '.join(sorted(known))}")
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

        dataset_spec(layout)  # an unknown name is told now, and not when its first job begins
    return Source(name=name, **{**texts, **located, "layout": layout}, mos_range=_span(values.get("mos_range"), where))


def _span(value: Any, where: str) -> tuple[float, float] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2 or not all(type(item) in (int, float) for item in value):
        raise DataError(f"{where} mos_range = {value!r}; give [worst, best]")
    return float(value[0]), float(value[1])


def _kept(samples: "list[Sample]", path: Path) -> "list[Sample]":
    """Keep what a file lists: images by their name, or all images of a reference by its name."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); give a file with the name of an image a line") from error
    names = {Path(line).name.casefold() for line in lines if line and not line.startswith("#")}
    kept = [sample for sample in samples if not names.isdisjoint(_names(sample))]
    if missing := names.difference(*map(_names, kept)):
        raise DataError(f"{path}: {len(missing)} of its names are not in the dataset, e.g. {sorted(missing)[0]}")
    return kept


def _names(sample: "Sample") -> set[str]:
    return {file.name.casefold() for file in (sample.image, sample.reference) if file is not None}


def _toml(text: str) -> str:
    # JSON's strings are TOML's too.
    return json.dumps(text)
