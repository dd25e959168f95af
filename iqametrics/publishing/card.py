"""Model cards, written from what a checkpoint says of itself and from nothing else.

A card holds no number that the run did not measure. What the record lacks is "not stated". Metadata are data: their
values become plain words on one line.
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from iqametrics.common.markup import markdown, plain
from iqametrics.methods import metric_specs

LABELS = ("human", "made")
"""What the scores of the data are: opinions of people about these images, or values that formulas gave."""

NOT_STATED = "not stated"
_LONGEST = 600
_LITE = (
    "This is a lite checkpoint: the paper's method on a small backbone, trained on little data. It is not the paper's "
    "model, and the paper's figures do not apply to it."
)
_OWN = "A checkpoint trained with iqametrics. The figures below are those of this training run, not those of the paper."
_AGREEMENT = {
    "human": "Agreement with human opinion scores on held-out images:",
    "made": "Agreement with made labels, which formulas gave and not people who looked at these images, on held-out "
    "images. This is not agreement with human scores of these images:",
    None: "Agreement with the scores of the data on held-out images; whether these are human opinion is not stated:",
}
_SELECTION = {
    "last": "the last one, whatever its result",
    "best-val": "the one with the best SRCC on the validation part, so the validation figures are somewhat too good",
    "best-test": "the one with the best SRCC on the test part, so the test figures are too good",
}
_FIGURES = {
    "plcc": "PLCC",
    "plcc_logistic": "PLCC, logistic",
    "krcc": "KRCC",
    "rmse": "RMSE",
}
# Names that the Hub has for common terms, https://huggingface.co/docs/hub/repositories-licenses.
_HUB_LICENCES = {
    "apache-2.0": "apache-2.0",
    "mit": "mit",
    "bsd-3-clause": "bsd-3-clause",
    "gpl-3.0": "gpl-3.0",
    "cc0": "cc0-1.0",
    "cc0-1.0": "cc0-1.0",
    "cc-by-4.0": "cc-by-4.0",
    "cc-by-sa-4.0": "cc-by-sa-4.0",
    "cc-by-nc-4.0": "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0": "cc-by-nc-sa-4.0",
}


def card(
    metadata: Mapping[str, Any],
    *,
    sha256: str,
    elements: int,
    labels: str | None = None,
    repo: str | None = None,
) -> str:
    """Write the model card of a checkpoint, in Markdown with the Hub's front matter.

    Args:
        metadata: What the checkpoint says of itself; `untrusted.py` lists the fields.
        sha256: Digest of its file.
        elements: Number of stored values, weights and buffers, of the whole model.
        labels: One of `LABELS`; None where it is not known.
        repo: Where it is published, "ORG/NAME"; None for a checkpoint of the package.
    """
    training = _table(metadata.get("training"))
    lines = [
        *_front_matter(metadata),
        f"# {_text(metadata['metric'])}.{_text(metadata['tag'])}",
        "",
        _LITE if metadata["tag"].startswith("lite") else _OWN,
        "",
        "## Use",
        "",
        *_usage(metadata, repo),
        "",
        "## Data and starting weights",
        "",
        *_data(metadata, training),
        "",
        "## Held-out results",
        "",
        *_results(metadata, labels),
        "",
        *_run(training),
        "",
        "## Limits",
        "",
        *_limits(metadata, labels),
        "",
        "## Licence",
        "",
        f"{_text(metadata.get('licence') or NOT_STATED)}.",
        "",
        f"The model has {elements} values (weights and buffers). SHA-256 of the file: {sha256}",
    ]
    return "\n".join(lines) + "\n"


def hub_licence(licence: str) -> str | None:
    """Return the Hub's name of these terms; None where it has none, so that the card says "other"."""
    return _HUB_LICENCES.get(licence.strip().lower())


def is_full_reference(metadata: Mapping[str, Any]) -> bool:
    """Tell whether a checkpoint's metric compares with a reference; of a metric that is not installed, by its name."""
    name = str(metadata["metric"])
    spec = metric_specs().get(name)
    return name.endswith("-fr") if spec is None else spec.mode == "fr"


def named_data(metadata: Mapping[str, Any]) -> list[str]:
    """List what a checkpoint was trained on, by names of files or datasets, and the sources its author gave."""
    files = _table(metadata.get("training")).get("data")
    names = ", ".join(map(_text, files)) if isinstance(files, list) else ""
    sources = metadata.get("sources")
    named = [_text(source) for source in sources] if isinstance(sources, list) else []
    return [f"Images and scores: {names or NOT_STATED}", *(named or [f"Sources: {NOT_STATED}"])]


def _front_matter(metadata: Mapping[str, Any]) -> Iterator[str]:
    known = hub_licence(str(metadata.get("licence") or ""))
    yield "---"
    yield f"license: {known or 'other'}"
    if known is None:
        yield "license_name: see-licence-below"
    yield "library_name: iqametrics"
    yield "pipeline_tag: other"
    yield "tags:"
    mode = "full-reference" if is_full_reference(metadata) else "no-reference"
    for tag in ("image-quality-assessment", mode, plain(metadata["metric"]), plain(metadata["tag"])):
        # A JSON string is a YAML string too, whatever stands in it.
        yield f"- {json.dumps(tag)}"
    yield "---"
    yield ""


def _usage(metadata: Mapping[str, Any], repo: str | None) -> Iterator[str]:
    # In a block of code nothing is markup.
    metric, tag = plain(metadata["metric"]), plain(metadata["tag"])
    reference = is_full_reference(metadata)
    if repo is None:
        yield f'    create_metric("{metric}.{tag}")'
        yield f"    iqametrics score photo.jpg --metric {metric}.{tag}" + (" --ref original.jpg" if reference else "")
        return
    yield "    from iqametrics import create_metric"
    yield ""
    yield f'    metric = create_metric("{metric}", weights="hub:{repo}@REVISION")'
    yield '    print(metric("photo.jpg"' + (', "original.jpg"' if reference else "") + "))"
    yield ""
    yield "REVISION is the 40-digit name of a commit of this repository."


def _data(metadata: Mapping[str, Any], training: Mapping[str, Any]) -> Iterator[str]:
    for name in named_data(metadata):
        yield f"- {name}"
    yield ""
    images = _table(training.get("images"))
    counts = ", ".join(f"{_text(count)} {_text(part)}" for part, count in images.items() if count)
    split = _table(training.get("split"))
    parts = ", ".join(f"{_text(key)} {_text(value)}" for key, value in split.items() if key != "by")
    by = _text(split.get("by", NOT_STATED))
    yield f"Images: {counts or NOT_STATED}; split by {by}{', ' + parts if parts else ''}."


def _results(metadata: Mapping[str, Any], labels: str | None) -> Iterator[str]:
    parts = {part: values for part, values in _table(metadata.get("results")).items() if _is_measured(values)}
    if not parts:
        yield "None were measured on held-out images."
        return
    yield _AGREEMENT[labels]
    yield ""
    yield "| part | n | SRCC (95% interval) | " + " | ".join(_FIGURES.values()) + " |"
    yield "|---|---|---|" + "---|" * len(_FIGURES)
    for part, values in parts.items():
        figures = " | ".join(_number(values.get(name)) for name in _FIGURES)
        yield f"| {_text(part)} | {_text(values['n'])} | {_number(values['srcc'])}{_interval(values)} | {figures} |"


def _is_measured(values: object) -> bool:
    return isinstance(values, Mapping) and "n" in values and "srcc" in values


def _run(training: Mapping[str, Any]) -> Iterator[str]:
    selection = training.get("selection")
    rule = _SELECTION.get(selection, NOT_STATED) if isinstance(selection, str) else NOT_STATED
    yield f"Epoch {_text(training.get('epoch', NOT_STATED))}; rule of choice: {rule}."
    commit = _text(training.get("commit") or NOT_STATED)
    changed = " with changes that are in no commit" if training.get("changed_since_commit") else ""
    date = _text(training.get("date") or NOT_STATED)[:10]
    resumed = training.get("resumed")
    again = f", resumed {len(resumed)} times" if isinstance(resumed, list) and resumed else ""
    yield f"Trained on {_hardware(training.get('hardware'))}, {date}{again}; commit of iqametrics: {commit}{changed}."
    settings = _table(training.get("settings"))
    if settings:
        values = ", ".join(f"{_text(name)} {_text(json.dumps(value))}" for name, value in settings.items())
        yield ""
        yield f"Settings: {values}."


def _hardware(record: Any) -> str:
    record = _table(record)
    if record.get("gpu"):
        return _text(record["gpu"])
    if not {"torch_threads", "cpus", "machine"} <= record.keys():
        return f"hardware {NOT_STATED}"
    threads = record["torch_threads"]
    plural = "" if threads == 1 else "s"
    return f"{_text(threads)} thread{plural} of a {_text(record['cpus'])}-core {_text(record['machine'])} CPU"


def _limits(metadata: Mapping[str, Any], labels: str | None) -> Iterator[str]:
    parts = [part for part, values in _table(metadata.get("results")).items() if _is_measured(values)]
    yield "- Agreement was measured on the held-out images above and nowhere else; on other images it may be lower."
    if "test" not in parts:
        yield "- The run has no test part; whoever chose its settings may have looked at the figures above."
    if labels == "made":
        yield "- The labels are made: the model imitates formulas, and its agreement with people was not measured here."
    yield "- A score is a prediction of the mean opinion score, scaled to [0, 1], and may leave this range."


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _interval(values: Mapping[str, Any]) -> str:
    low, high = values.get("srcc_low"), values.get("srcc_high")
    return "" if low is None or high is None else f" ({_number(low)} to {_number(high)})"


def _number(value: object) -> str:
    """Return three decimals, or a dash for a result that does not exist."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "-"
    return f"{value:.3f}"


def _text(value: object) -> str:
    """Write a value of a record so that it stays plain words."""
    return markdown(value, _LONGEST)
