"""What `speed.py` measures: each way by its name, and the process that runs them.

    python benchmarks/speed_ways.py THREADS

reads names of ways, one a line, and answers each with a line of JSON: the processor seconds of one call. The first
answer for a way is that of a second call, since the first one warms up.

    python benchmarks/speed_ways.py operations NAME...

prints the operations of one call of each way, in matrix products, convolutions and attention, as `iqametrics benchmark
cost` counts them: what no arrangement of the same network can save.
"""

import json
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

PAPER_SIZE = (384, 512)
"""Height and width of KADID-10k's and TID2013's images."""
LITE_SIZE = (512, 512)
"""Height and width of the photographs of the lite checkpoints."""
CROP = 224
CROPS = 10

Way = Callable[[], object]


def main() -> None:
    """Answer names with seconds until there are no more, or count operations."""
    if sys.argv[1] == "operations":
        count_operations(sys.argv[2:])
        return
    threads = int(sys.argv[1])
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")
    ways: dict[str, Way] = {}
    # Whatever a library prints must not stand between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        name = line.strip()
        try:
            if name not in ways:
                torch.manual_seed(0)
                ways[name] = WAYS[name]()
                ways[name]()
            start = time.process_time()
            ways[name]()
            answer: dict[str, Any] = {"seconds": time.process_time() - start}
        except ImportError as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def count_operations(names: list[str]) -> None:
    """Print the operations of ways, in 10^9."""
    from torch.utils.flop_counter import FlopCounterMode

    from iqametrics.nn.flops import COUNTED

    for name in names:
        way = WAYS[name]()
        with FlopCounterMode(display=False, custom_mapping=COUNTED) as counter:
            way()
        print(f"{name}: {counter.get_total_flops() / 1e9:.1f}")


def pictures(count: int, size: tuple[int, int]) -> Tensor:
    """Draw `count` pictures of noise, (count, 3, H, W) in [0, 1]."""
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(count))


def _metric(name: str, size: tuple[int, int]) -> Way:
    from iqametrics import create_metric

    metric = create_metric(name, weights="default" if "." in name else None)
    images = [pictures(2, size)[index : index + 1] for index in range(2 if metric.mode == "fr" else 1)]
    return lambda: metric(*images)


def _reference() -> Way:
    from iqametrics import create_metric

    metric = create_metric("bpclip-fr", weights=None)
    picture = pictures(1, PAPER_SIZE)
    return lambda: metric.encode_reference(picture)


def _version() -> Way:
    from iqametrics import create_metric

    metric = create_metric("bpclip-fr", weights=None)
    reference, version = pictures(2, PAPER_SIZE).split(1)
    features = metric.encode_reference(reference)
    return lambda: metric(version, features)


def _network(make: Callable[[], nn.Module], images: Tensor) -> Way:
    """Run a bare network channels-last, which is the faster of the two layouts for each of them."""
    network = make().eval().to(memory_format=torch.channels_last)
    laid = images.contiguous(memory_format=torch.channels_last)

    def run() -> None:
        with torch.inference_mode():
            network(laid)

    return run


def _resnet() -> nn.Module:
    from torchvision.models import resnet50

    return resnet50(weights=None)


def _timm(name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import timm

        network: nn.Module = timm.create_model(name, pretrained=False)
        return network

    return make


def _topiq(name: str, count: int) -> Way:
    import pyiqa

    random_weights = {"pretrained": False, "backbone_pretrain": False}
    metric = pyiqa.create_metric(name, device=torch.device("cpu"), **random_weights)
    images = pictures(2, PAPER_SIZE).split(1)[:count]
    return lambda: metric(*images)


WAYS: dict[str, Callable[[], Way]] = {
    "bpclip-fr": lambda: _metric("bpclip-fr", PAPER_SIZE),
    "bpclip-nr": lambda: _metric("bpclip-nr", PAPER_SIZE),
    "bpclip-fr reference": _reference,
    "bpclip-fr version": _version,
    "pfd-iqa": lambda: _metric("pfd-iqa", PAPER_SIZE),
    "bpclip-fr.lite": lambda: _metric("bpclip-fr.lite", LITE_SIZE),
    "bpclip-nr.lite": lambda: _metric("bpclip-nr.lite", LITE_SIZE),
    "pfd-iqa.lite": lambda: _metric("pfd-iqa.lite", LITE_SIZE),
    "resnet50": lambda: _network(_resnet, pictures(1, PAPER_SIZE)),
    "2 resnet50": lambda: _network(_resnet, pictures(2, PAPER_SIZE)),
    "10 vit_s": lambda: _network(_timm("deit3_small_patch16_224"), pictures(CROPS, (CROP, CROP))),
    "efficientnet_lite0": lambda: _network(_timm("tf_efficientnet_lite0"), pictures(1, LITE_SIZE)),
    "topiq_fr": lambda: _topiq("topiq_fr", 2),
    "topiq_nr": lambda: _topiq("topiq_nr", 1),
}
OURS = frozenset(name for name in WAYS if name.startswith(("bpclip", "pfd-iqa")))

if __name__ == "__main__":
    main()
