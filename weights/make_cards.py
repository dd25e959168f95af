"""Write the model card of each bundled checkpoint from what the checkpoint says of itself.

    python weights/make_cards.py

A card holds no number that is not in the checkpoint's own record.
"""

from pathlib import Path
from typing import Any

from iqametrics.weights.header import read_metadata
from iqametrics.weights.manifest import WEIGHTS_FOLDER, CheckpointEntry, read_manifest

CARDS = Path(__file__).parent / "cards"
_LITE = (
    "This is a lite checkpoint: the paper's method on a small backbone, trained on little data. It is not the paper's "
    "model, and the paper's figures do not apply to it."
)
_AGREEMENT = {
    "nr": "Agreement with human opinion scores on held-out photographs:",
    "fr": "Agreement with made labels (mean human scores of a distortion's type and level, shifted by classical "
    "metrics) on held-out images. This is not agreement with human scores of these images:",
}


def main() -> None:
    """Write all cards."""
    CARDS.mkdir(exist_ok=True)
    for entry in read_manifest().checkpoints:
        metadata = read_metadata(WEIGHTS_FOLDER / entry.file)
        path = CARDS / f"{entry.metric}.{entry.tag}.md"
        path.write_text(card(entry, metadata), encoding="utf-8")
        print(path)


def card(entry: CheckpointEntry, metadata: dict[str, Any]) -> str:
    """Give the text of one card."""
    name, training = f"{entry.metric}.{entry.tag}", metadata["training"]
    mode = entry.metric.rpartition("-")[2]
    images = ", ".join(f"{count} {part}" for part, count in training["images"].items() if count)
    lines = [
        f"# {name}",
        "",
        _LITE,
        "",
        "## Use",
        "",
        f'    create_metric("{name}")',
        f"    iqametrics score photo.jpg --metric {name}" + (" --ref original.jpg" if mode == "fr" else ""),
        "",
        "## Data and starting weights",
        "",
        *(f"- {source}" for source in metadata["sources"]),
        "",
        f"Images: {images}; split by {training['split']['by']}, seed {training['split']['seed']}.",
        "",
        "## Held-out results",
        "",
        _AGREEMENT["fr" if mode == "fr" else "nr"],
        "",
        "| part | n | SRCC (95% interval) | PLCC | PLCC, logistic | KRCC | RMSE |",
        "|---|---|---|---|---|---|---|",
        *(_row(part, values) for part, values in metadata["results"].items()),
        "",
        f"Epoch {training['epoch']}, chosen by the rule: {training['selection']}. Trained on "
        f"{_hardware(training['hardware'])}, {training['date'][:10]}, commit {training['commit']}.",
        "",
        "## Licence",
        "",
        f"{metadata['licence']}.",
        "",
        f"SHA-256 of the file: {entry.sha256}",
    ]
    return "\n".join(lines) + "\n"


def _hardware(record: dict[str, Any]) -> str:
    return record["gpu"] or f"{record['torch_threads']} threads of a {record['cpus']}-core {record['machine']} CPU"


def _row(part: str, values: dict[str, Any]) -> str:
    interval = "" if values["srcc_low"] is None else f" ({values['srcc_low']:.3f} to {values['srcc_high']:.3f})"
    figures = (f"{values[name]:.3f}" for name in ("plcc", "plcc_logistic", "krcc", "rmse"))
    return f"| {part} | {values['n']} | {values['srcc']:.3f}{interval} | {' | '.join(figures)} |"


if __name__ == "__main__":
    main()
