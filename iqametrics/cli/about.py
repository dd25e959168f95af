"""What a person wants to know of a metric first, in some ten lines: from the checkpoint's record, and from facts."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from iqametrics.baselines import is_baseline, licence
from iqametrics.cli.output import printable
from iqametrics.registry import MetricInfo
from iqametrics.weights.facts import Fact
from iqametrics.weights.manifest import WEIGHTS_FOLDER, read_manifest

_WIDTH = 118
_JUDGES = {
    "fr": "how much a picture differs from its reference, to the eye (fr)",
    "nr": "how good a picture looks, without a reference (nr)",
}
_LABELS = {"human": "people's scores", "made": "made labels, not people's scores"}


def about(info: MetricInfo) -> list[str]:
    """Write the first lines of `info`: what it judges, range, good scores, agreement, blind spots, size and speed."""
    lines = [*_first(info), *_measured(info), *_last(info)]
    sources = list(dict.fromkeys(source for _, _, source in lines if source))
    lines += [("sources" if number == 1 else "", f"[{number}] {text}", "") for number, text in enumerate(sources, 1)]
    width = max(len(label) for label, _, _ in lines)
    written: list[str] = []
    for label, text, source in lines:
        marked = f"{text} [{sources.index(source) + 1}]" if source else text
        indent = " " * (width + 2)
        # What a checkpoint says of itself is no more than text, and on as many lines as we say.
        written += textwrap.wrap(
            printable(marked), _WIDTH, initial_indent=f"{label:<{width}}  ", subsequent_indent=indent
        )
    return [info.full_name, *written]


def _first(info: MetricInfo) -> Iterator[tuple[str, str, str]]:
    low, high = (f"{end:g}" if isfinite(end) else "open" for end in info.score_range)
    better = "higher is better" if info.higher_is_better else "lower is better"
    yield "judges", _JUDGES[info.mode], ""
    yield "score", f"{low} to {high}, {better}, {'never left' if info.range_is_bound else 'scores may leave it'}", ""
    if info.facts is not None:
        yield from _facts("good", info.facts.good)


def _measured(info: MetricInfo) -> Iterator[tuple[str, str, str]]:
    """Give agreement with people, by the checkpoint's record and outside of its training, and what it does not see."""
    if is_baseline(info.name):
        yield "agrees", "not measured here; `iqametrics evaluate` does it on your data", ""
        return
    results = info.metadata.get("results")
    parts = results if isinstance(results, Mapping) else {}
    if "srcc" in parts:
        parts = {"held out": parts}
    told = [(str(part), found) for part, found in parts.items() if isinstance(found, Mapping) and "srcc" in found]
    for number, (part, found) in enumerate(told):
        yield "agrees" if number == 0 else "", f"{_figures(found)}: {part} part, {_data(info)}", ""
    if not told:
        yield "agrees", "no figures in its record", ""
    if info.facts is not None:
        yield from _facts("elsewhere", info.facts.outside)
        yield from _facts("blind to", info.facts.blind)
    else:
        yield "blind to", "not measured; no figure says how it does on pictures unlike those of its training", ""


def _last(info: MetricInfo) -> Iterator[tuple[str, str, str]]:
    if info.checkpoint is not None:
        shared = _shared_backbone(info.metadata.get("backbone"))
        number = "" if info.facts is None else f"; {info.facts.parameters / 1e6:.1f} million parameters"
        yield "size", f"{info.checkpoint.bytes / 1e6:.1f} MB{shared}{number}", ""
        if info.facts is not None:
            yield from _facts("speed", info.facts.speed)
        yield "licence", info.checkpoint.licence, ""
    elif is_baseline(info.name):
        yield "weights", f"those of {info.name.partition('/')[0]}, which fetches them where it needs some", ""
        yield "licence", f"{licence(info.name)} (the package; weights may have another)", ""
    else:
        yield "weights", "none in this version; without them it can only be trained", ""
    yield "paper", info.paper, ""


def _facts(label: str, facts: Sequence[Fact]) -> Iterator[tuple[str, str, str]]:
    for number, source in enumerate(dict.fromkeys(fact.source for fact in facts)):
        texts = [fact.text for fact in facts if fact.source == source]
        yield label if number == 0 else "", "; ".join(texts), source


def _figures(found: Mapping[str, Any]) -> str:
    """Write the figures of one part; a checkpoint's record may hold anything."""
    low, high = found.get("srcc_low"), found.get("srcc_high")
    interval = f" (95% interval {_number(low)} to {_number(high)})" if low is not None and high is not None else ""
    plcc = "" if found.get("plcc") is None else f", PLCC {_number(found['plcc'])}"
    count = "" if found.get("n") is None else f", n = {found['n']}"
    return f"SRCC {_number(found['srcc'])}{interval}{plcc}{count}"


def _data(info: MetricInfo) -> str:
    """Say what the held-out figures are of: in the facts' words, else as far as the record says it."""
    if info.facts is not None:
        return info.facts.held_out
    training = info.metadata.get("training")
    record = training if isinstance(training, Mapping) else {}
    data = record.get("data")
    names = ", ".join(map(str, data)) if isinstance(data, list) else str(data or "data not named")
    return f"{names}, {_LABELS.get(str(record.get('labels')), 'kind of labels not stated')}"


def _shared_backbone(backbone: Any) -> str:
    """Tell the file of the backbone that a checkpoint refers to, where there is one."""
    if not isinstance(backbone, Mapping):
        return ""
    entries = [base for base in read_manifest(WEIGHTS_FOLDER).bases if base.sha256 == backbone.get("sha256")]
    sizes = [f"{(WEIGHTS_FOLDER / base.file).stat().st_size / 1e6:.1f} MB of the backbone" for base in entries]
    return f" and {sizes[0]} that it shares" if sizes else ""


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
