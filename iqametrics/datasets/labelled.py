"""Images with scores on this machine: one record, whatever names them; no torch.

A recipe's tables [data] and [[data.extra]], a table of a benchmark's data file and the options `--csv`, `--dataset`,
`--root` and `--mos-range` are notations of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from iqametrics.common.files import read_text
from iqametrics.datasets.made import made_labels
from iqametrics.datasets.sample import Sample
from iqametrics.errors import DataError

LABELS = ("human", "made")
"""Kinds of labels: opinions of people about these very images, or values made by other means."""

_MADE = "made by iqametrics synthesize; nobody saw these images"


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """A CSV file, or a dataset that the package knows.

    Attributes:
        csv: CSV file with the columns `image,mos[,reference,kind,level,distortion,split,group,mos_std]`.
        dataset: Name of a dataset, see `iqametrics datasets list`.
        root: Folder that the CSV's names start from, its own folder if empty; with `dataset` the dataset's folder.
        mos_range: (worst, best) of a CSV's scores.
        labels: One of `LABELS` where it is stated; "" for what `label_kind` finds.
        images: File with the names of the images, or references, to keep, one a line; "" for all.
        labels_file: File with distortion and scenes of the images, see `image_labels`; "" for what the dataset has.
    """

    csv: str = ""
    dataset: str = ""
    root: str = ""
    mos_range: tuple[float, float] | None = None
    labels: str = ""
    images: str = ""
    labels_file: str = ""

    @property
    def title(self) -> str:
        """What messages and checkpoints call the CSV file or the dataset."""
        return self.csv or f"dataset {self.dataset}"

    @property
    def folder(self) -> Path:
        """Folder that names of files start from."""
        return Path(self.root) if self.root else Path(self.csv).parent

    @property
    def mode(self) -> Literal["fr", "nr"] | None:
        """Whether all images have references ("fr") or none has ("nr"); None for a CSV, which must be read to know."""
        from iqametrics.datasets.catalogue import dataset_spec

        return dataset_spec(self.dataset).mode if self.dataset else None

    @property
    def label_kind(self) -> Literal["human", "made"] | None:
        """Whether the labels are human opinion of these images: one of `LABELS`, None where nothing shows it.

        They are made if the images, or the CSV, lie in a folder that `iqametrics synthesize` wrote, or in a subfolder
        of one. A dataset that the package knows is otherwise scored by people; but a folder that is gone may have
        been an imitation.
        """
        if self.labels:
            return "made" if self.labels == "made" else "human"
        if self.dataset:
            if made_labels(self.root):
                return "made"
            return "human" if Path(self.root).is_dir() else None
        places = {place for folder in self._folders() for place in (folder, folder.parent)}
        return "made" if any(map(made_labels, places)) else None

    def _folders(self) -> Iterator[Path]:
        """Return the folders that a CSV and its images lie in, as far as it can be read."""
        from iqametrics.datasets.csv_dataset import image_names

        yield Path(self.csv).resolve().parent
        yield self.folder.resolve()
        for folder in {(self.folder / name).parent for name in image_names(Path(self.csv))}:
            yield folder.resolve()

    def load(self, range_option: str | None = None) -> list[Sample]:
        """Read the samples, their scores brought to [0, 1].

        Args:
            range_option: For messages, how the range of a CSV's scores is given, as an option or a key.

        Raises:
            DataError: If the CSV or dataset is missing or wrong, or has none of the listed images.
        """
        if self.csv:
            from iqametrics.datasets.csv_dataset import RANGE_OPTION, read_csv_dataset

            samples = read_csv_dataset(
                self.csv, self.root or None, mos_range=self.mos_range, range_option=range_option or RANGE_OPTION
            )
        else:
            from iqametrics.datasets.catalogue import load_dataset

            samples = load_dataset(self.dataset, self.root)
        if self.labels_file:
            samples = self._with_own_labels(samples)
        return _kept(samples, Path(self.images)) if self.images else samples

    def _with_own_labels(self, samples: list[Sample]) -> list[Sample]:
        from iqametrics.datasets.image_labels import read_image_labels, with_labels

        labelled = with_labels(samples, read_image_labels(self.labels_file), replace=True)
        if all(before is after for before, after in zip(samples, labelled, strict=True)):
            raise DataError(
                f"{self.labels_file}: names none of the images of {self.title}; give their file names in its column "
                "image"
            )
        return labelled

    def choose(self, split: str = "all") -> "ChosenImages":
        """Read the images of a split with their opinion scores on the scale on which they are kept.

        An image of a CSV that does not exist is reported when it is scored, like a damaged one.

        Args:
            split: Text of a split, as `protocol.select` reads it.

        Raises:
            DataError: If the CSV or dataset is missing or wrong, or has no such split.
        """
        from iqametrics.datasets.protocol import select

        if self.csv:
            from iqametrics.datasets.csv_dataset import read_csv_opinions

            # Correlations need no stated scale, so the scale is that of the file itself.
            samples, (low, high) = read_csv_opinions(self.csv, self.root or None)
            samples = _kept(samples, Path(self.images)) if self.images else samples
        else:
            samples, (low, high) = self.load(), (0.0, 1.0)
        chosen = select(samples, split, mode=self.mode)
        facts = self._facts(samples) | {"split": split, "images": len(chosen), "of_images": len(samples)}
        span = high - low
        return ChosenImages(
            samples=chosen,
            opinions=[low + sample.mos * span for sample in chosen],
            spreads=[None if sample.mos_std is None else sample.mos_std * span for sample in chosen],
            groups=self.interval_groups(chosen),
            facts=facts,
        )

    def _facts(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """State the facts behind results on these images."""
        # Not every copy of a dataset has it: a text file may replace a workbook, or the labels may be made.
        has_spread = all(sample.mos_std is not None for sample in samples)
        made = self.label_kind == "made"
        if self.csv:
            opinions = "on the scale of the CSV"
            spread = "the CSV's column mos_std" if has_spread else None
            return {
                "csv": self.csv,
                "dataset": None,
                "opinions": f"{_MADE}; {opinions}" if made else opinions,
                "spread": spread,
            }
        from iqametrics.datasets.catalogue import dataset_spec

        spec = dataset_spec(self.dataset)
        opinions = "{}, from {:g} (worst) to {:g} (best), as 0 to 1".format(spec.score_name, *spec.score_range)
        facts: dict[str, Any] = {
            "csv": None,
            "dataset": self.dataset,
            "opinions": _MADE if made else opinions,
            "spread": spec.spread if has_spread else None,
        }
        return facts if made else facts | {"of_release": spec.images}

    def notes(self, facts: dict[str, Any]) -> Iterator[str]:
        """Warn where results do not show agreement with people, or are not on the whole release.

        Args:
            facts: The facts of the chosen images.
        """
        if self.label_kind == "made":
            yield f"{self.folder}: labels are {_MADE}"
        listed, released = facts["of_images"], facts.get("of_release")
        if released not in (None, listed):
            yield (
                f"the score file lists {listed:,} images, that of the release {released:,}; figures on these, and "
                f"random splits of them, are not those of {self.dataset}"
            )

    def name_of(self, path: Path | None) -> str:
        """Name a file from the images' folder on, as a CSV does; empty for none."""
        if path is None:
            return ""
        return path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else str(path)

    def interval_groups(self, samples: Sequence[Sample]) -> list[str]:
        """Return the groups that the bootstrap draws as a whole: by group, else by reference, else each image alone.

        An image without a group whose reference has one elsewhere belongs to that group. Unlike `protocol.group_keys`,
        by which images are split, references of one name in different folders are different ones.
        """
        known: dict[Path | None, str] = {s.reference: s.group for s in samples if s.reference and s.group}
        return [
            sample.group or known.get(sample.reference) or self.name_of(sample.reference or sample.image)
            for sample in samples
        ]

    def to_table(self) -> dict[str, Any]:
        """Return the table [data] of a recipe for these images."""
        table: dict[str, Any] = {"csv": self.csv, "dataset": self.dataset, "root": self.root}
        table |= {"labels_file": self.labels_file}
        table = {key: value for key, value in table.items() if value}
        return table | ({"mos_range": list(self.mos_range)} if self.mos_range else {})


@dataclass(frozen=True, kw_only=True)
class ChosenImages:
    """The images that are asked about.

    Attributes:
        samples: The chosen images.
        opinions: Their opinion scores, on the file's own scale for a CSV, in [0, 1] for a dataset.
        spreads: Standard deviations of the opinions on the same scale; None where unknown.
        groups: Groups that the bootstrap draws as a whole, see `LabelledImages.interval_groups`.
        facts: Facts to report beside results: csv, dataset, split, and what the results mean.
    """

    samples: list[Sample]
    opinions: list[float]
    spreads: list[float | None]
    groups: list[str]
    facts: dict[str, Any]

    @property
    def grouped_by(self) -> str:
        """What `groups` go by: "group", "reference" or "image"."""
        if any(sample.group for sample in self.samples):
            return "group"
        return "reference" if any(sample.reference for sample in self.samples) else "image"


def _kept(samples: list[Sample], path: Path) -> list[Sample]:
    """Keep the images that a file lists, by their own names or by the names of their references."""
    lines = [line.strip() for line in read_text(path, error=DataError).splitlines()]
    names = {Path(line).name.casefold() for line in lines if line and not line.startswith("#")}
    kept = [sample for sample in samples if not names.isdisjoint(_names(sample))]
    if missing := names.difference(*map(_names, kept)):
        raise DataError(f"{path}: {len(missing)} of its names are not in the dataset, e.g. {sorted(missing)[0]}")
    return kept


def _names(sample: Sample) -> set[str]:
    return {file.name.casefold() for file in (sample.image, sample.reference) if file is not None}
