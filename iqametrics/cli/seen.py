"""Whether a checkpoint, by its own record, has seen the images on which it is to be evaluated."""

import re
from pathlib import Path
from typing import Any

from iqametrics.cli.common import complain
from iqametrics.registry import metric_info


def note_on_training_images(full_name: str, name: str, facts: dict[str, Any]) -> None:
    """Write a note on stderr where results would not show generalisation.

    Args:
        full_name: Name of the metric in the output.
        name: The metric as it was asked for, with or without a tag or file.
        facts: What it is evaluated on: dataset, csv, split, images.

    The test part of the split by which the checkpoint was trained is no reason for a note, nor is a checkpoint without
    a record of its data. A checkpoint on the Hub has been fetched by then, since its metric was made.
    """
    entry = known_images(name, facts)
    if entry is not None:
        complain(
            f"note: {full_name} names {entry!r} among what it was made from, so these results may be better than on "
            "images that it has not seen"
        )


def known_images(name: str, facts: dict[str, Any]) -> str | None:
    """Return the entry by which a checkpoint's own record names these images; None where it does not, or held them out.

    Args:
        name: The metric as it was asked for, with or without a tag or file.
        facts: What it is evaluated on: dataset, csv, split, images.
    """
    metadata = metric_info(name).metadata
    training = metadata.get("training")
    training = training if isinstance(training, dict) else {}
    entry = _entry_with(facts, [*_texts(training.get("data")), *_texts(metadata.get("sources"))])
    return entry if entry is not None and not _held_out(training, entry, facts) else None


def _texts(value: object) -> list[str]:
    return [str(entry) for entry in value] if isinstance(value, list | tuple) else [] if value is None else [str(value)]


def _entry_with(facts: dict[str, Any], entries: list[str]) -> str | None:
    """First entry that names the dataset, or the CSV's file."""
    if facts["dataset"] is None:
        file = Path(facts["csv"]).name
        return next((entry for entry in entries if Path(entry).name == file), None)
    from iqametrics.datasets.catalogue import dataset_spec

    title = dataset_spec(facts["dataset"]).title.partition(" (")[0]
    names = {facts["dataset"], title.lower()}
    pattern = "|".join(rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])" for name in sorted(names))
    return next((entry for entry in entries if re.search(pattern, entry.lower())), None)


def _held_out(training: dict[str, Any], entry: str, facts: dict[str, Any]) -> bool:
    """Tell whether these images are the test part of the very split by which the checkpoint was trained."""
    split = str(facts["split"])
    made, images = ({} if not isinstance(value := training.get(key), dict) else value for key in ("split", "images"))
    if split in ("official", "official:test") and re.search("training (split|part)", entry):
        return True
    # A run with a smaller test part, or none, has trained on some of these images, whatever its seed.
    if images.get("test") != facts["images"]:
        return False
    if split in ("official", "official:test"):
        return made.get("by") == "official"
    by_group = made.get("by") in ("auto", "reference", "image")
    return by_group and split == f"random:{made.get('seed')}:test"
