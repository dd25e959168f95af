"""Write the model card of each bundled checkpoint from the record in the checkpoint.

    python weights/make_cards.py

`iqametrics weights publish` writes its cards in the same way: each number of a card is from the checkpoint's record.
"""

from pathlib import Path

from iqametrics.publishing.card import card
from iqametrics.weights.checkpoint import BACKBONE
from iqametrics.weights.manifest import WEIGHTS_FOLDER, CheckpointEntry, read_manifest
from iqametrics.weights.untrusted import read_metadata, read_sizes

CARDS = Path(__file__).parent / "cards"
# What the trainer could not know: whether the scores of a CSV are people's.
LABELS = {
    "bpclip-fr.lite": "made",
    "bpclip-fr.lite2": "made",
    "bpclip-nr.lite": "human",
    "bpclip-nr.lite2": "human",
    "pfd-iqa.lite": "human",
    "pfd-iqa.lite2": "human",
}


def main() -> None:
    """Write all cards."""
    CARDS.mkdir(exist_ok=True)
    for entry in read_manifest().checkpoints:
        if entry.source == "bundled":
            path = CARDS / f"{entry.full_name}.md"
            path.write_text(bundled_card(entry), encoding="utf-8")
            print(path)


def bundled_card(entry: CheckpointEntry) -> str:
    """Return the text of one card."""
    metadata = read_metadata(WEIGHTS_FOLDER / entry.file)
    sizes = read_sizes(WEIGHTS_FOLDER / entry.file)
    if metadata["backbone"] is not None:
        base = read_manifest().base(**metadata["backbone"])
        shared = {BACKBONE + name: size for name, size in read_sizes(WEIGHTS_FOLDER / base.file).items()}
        sizes = shared | sizes
    return card(metadata, sha256=entry.sha256, elements=sum(sizes.values()), labels=LABELS.get(entry.full_name))


if __name__ == "__main__":
    main()
