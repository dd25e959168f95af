"""Put the checkpoint of a training run into the package, beside the manifest, and write its manifest entry.

    python weights/bundle.py runs/bpclip-nr --default
    python weights/bundle.py runs/bpclip-nr --default --backbone efficientnet_lite0_biq2021

With `--backbone NAME` the run's backbone is first bundled as a base file of that name. Other recipes can start from it
([init] backbone = NAME), and other checkpoints can share it; the checkpoint then refers to it instead of holding it.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from iqametrics.common.digest import file_sha256
from iqametrics.errors import WeightsError
from iqametrics.weights.checkpoint import BACKBONE, load_checkpoint, read_metadata, save_checkpoint
from iqametrics.weights.manifest import WEIGHTS_FOLDER, read_manifest

MANIFEST = WEIGHTS_FOLDER / "manifest.json"


def main() -> None:
    """Bundle the run of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished training run")
    parser.add_argument("--default", action="store_true", help="make it what create_metric(metric) loads")
    parser.add_argument("--backbone", metavar="NAME", help="bundle the run's backbone under this name")
    parser.add_argument("--licence", metavar="TEXT", help="terms of the weights, instead of what the run says")
    parser.add_argument("--tag", default="lite", help="what to call the checkpoint (default: lite)")
    args = parser.parse_args()
    metadata, tensors = load_checkpoint(args.run / "checkpoint.safetensors")
    tensors.check(str(args.run))
    metadata["tag"] = args.tag
    if args.licence:
        metadata["licence"] = args.licence
    if args.backbone:
        metadata["backbone"] = bundle_backbone(args.backbone, tensors, metadata)
    own = _without_base(tensors, metadata["backbone"])
    name = f"{metadata['metric']}.{metadata['tag']}"
    path = WEIGHTS_FOLDER / f"{name}.safetensors"
    save_checkpoint(path, own, metadata, dtype=torch.float16)
    path.chmod(0o644)
    entry = {
        "metric": metadata["metric"],
        "tag": metadata["tag"],
        "default": args.default,
        "source": "bundled",
        "file": path.name,
        "sha256": file_sha256(path, error=WeightsError),
        "bytes": path.stat().st_size,
        "licence": metadata["licence"],
    }
    _update("checkpoints", entry, ("metric", "tag"))
    print(f"{path}: {len(own)} tensors, {path.stat().st_size} bytes")


def bundle_backbone(name: str, tensors: Mapping[str, torch.Tensor], metadata: dict[str, Any]) -> dict[str, str]:
    """Write the backbone of a checkpoint as a base file in half precision; return the reference to it."""
    path = WEIGHTS_FOLDER / f"{name}.safetensors"
    backbone = {key.removeprefix(BACKBONE): value for key, value in tensors.items() if key.startswith(BACKBONE)}
    halved = {
        key: (value.half() if value.is_floating_point() else value).contiguous() for key, value in backbone.items()
    }
    if _is_stored(path, halved):
        return {"name": name, "sha256": file_sha256(path, error=WeightsError)}
    _check_unused(name, metadata)
    about = {"licence": metadata["licence"], "sources": json.dumps(metadata["sources"])}
    save_file(halved, path, metadata=about)
    path.chmod(0o644)
    _update("bases", {"name": name, "file": path.name, "sha256": file_sha256(path, error=WeightsError)}, ("name",))
    return {"name": name, "sha256": file_sha256(path, error=WeightsError)}


def _is_stored(path: Path, tensors: dict[str, torch.Tensor]) -> bool:
    """Return whether a base file holds exactly these tensors already."""
    if not path.exists():
        return False
    stored = load_file(path)
    return stored.keys() == tensors.keys() and all(torch.equal(stored[key], tensors[key]) for key in stored)


def _check_unused(name: str, metadata: dict[str, Any]) -> None:
    """Check that overwriting a base file would not change another checkpoint.

    Raises:
        SystemExit: If another checkpoint refers to it.
    """
    for entry in read_manifest().checkpoints:
        base = read_metadata(WEIGHTS_FOLDER / entry.file)["backbone"]
        own = (entry.metric, entry.tag) == (metadata["metric"], metadata["tag"])
        if base is not None and base["name"] == name and not own:
            raise SystemExit(f"--backbone {name}: {entry.file} refers to this base file; choose another name")


def _without_base(tensors: Mapping[str, torch.Tensor], base: dict[str, str] | None) -> dict[str, torch.Tensor]:
    if base is None:
        return dict(tensors)
    read_manifest.cache_clear()
    shared = load_file(WEIGHTS_FOLDER / read_manifest().base(**base).file)
    return {
        key: value
        for key, value in tensors.items()
        if not (key.startswith(BACKBONE) and _same(value, shared.get(key.removeprefix(BACKBONE))))
    }


def _same(value: torch.Tensor, shared: torch.Tensor | None) -> bool:
    return shared is not None and torch.equal(value.to(shared.dtype), shared)


def _update(table: str, entry: dict[str, Any], identity: tuple[str, ...]) -> None:
    """Replace the manifest's entry of the same identity, or add a new one."""
    manifest = json.loads(MANIFEST.read_text(encoding="utf-8"))
    others = [item for item in manifest[table] if any(item[key] != entry[key] for key in identity)]
    manifest[table] = sorted([*others, entry], key=lambda item: [item[key] for key in identity])
    MANIFEST.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    read_manifest.cache_clear()


if __name__ == "__main__":
    main()
